package s3api

import (
	"crypto/md5"
	"encoding/base64"
	"io"

	"bivalve/metadata"
)

// Headers of encryption. With a key of the client three come together.
const (
	sseHeader    = "X-Amz-Server-Side-Encryption"
	sseAlgorithm = "Server-Side-Encryption-Customer-Algorithm"
	sseKey       = "Server-Side-Encryption-Customer-Key"
	sseKeyMD5    = "Server-Side-Encryption-Customer-Key-Md5"
	aes256       = "AES256"

	sseKeyHeaders    = " server-side-encryption-customer-algorithm server-side-encryption-customer-key server-side-encryption-customer-key-md5"
	sseNewHeaders    = " server-side-encryption" + sseKeyHeaders
	sseSourceHeaders = " copy-source-server-side-encryption-customer-algorithm copy-source-server-side-encryption-customer-key copy-source-server-side-encryption-customer-key-md5"
)

// clientKey reads the key that the client brings, nil if it brings none. prefix is
// X-Amz-, or that of the source of a copy.
func (c *call) clientKey(prefix string) ([]byte, error) {
	h := c.r.Header
	algorithm, key, sum := h[prefix+sseAlgorithm], h[prefix+sseKey], h[prefix+sseKeyMD5]
	if algorithm == nil && key == nil && sum == nil {
		return nil, nil
	}
	const want = "Requests specifying Server Side Encryption with Customer provided keys must provide "
	switch {
	case algorithm == nil:
		return nil, argument("x-amz-server-side-encryption", "", want+"a valid encryption algorithm.")
	case algorithm[0] != aes256:
		return nil, &apiError{code: "InvalidEncryptionAlgorithmError", fields: map[string]string{
			"ArgumentName": "x-amz-server-side-encryption", "ArgumentValue": algorithm[0]}}
	case key == nil:
		return nil, argument("x-amz-server-side-encryption", "", want+"an appropriate secret key.")
	case sum == nil:
		return nil, argument("x-amz-server-side-encryption", "", want+"the client calculated MD5 of the secret key.")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(key[0])
	if err != nil || len(raw) != 32 {
		return nil, argument("x-amz-server-side-encryption", "", "The secret key was invalid for the specified algorithm.")
	}
	if sum[0] != keyMD5(raw) {
		return nil, argument("x-amz-server-side-encryption", "", "The calculated MD5 hash of the key did not match the hash that was provided.")
	}
	return raw, nil
}

func keyMD5(key []byte) string {
	sum := md5.Sum(key)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// sealWith reads how a new object is to be encrypted.
func (c *call) sealWith() (w metadata.SealWith, err error) {
	if w.ClientKey, err = c.clientKey("X-Amz-"); err != nil {
		return w, err
	}
	v, given := c.r.Header[sseHeader]
	switch {
	case given && w.ClientKey != nil:
		return w, argument("x-amz-server-side-encryption", v[0], "Server Side Encryption with Customer provided key is incompatible with the encryption method specified")
	case w.ClientKey != nil:
		w.Kind = metadata.SealClient
	case !given:
	case v[0] == aes256:
		w.Kind = metadata.SealRegion
	case v[0] == "aws:kms", v[0] == "aws:kms:dsse", v[0] == "aws:fsx":
		return w, notImplemented("x-amz-server-side-encryption: " + v[0])
	default:
		return w, argument("x-amz-server-side-encryption", v[0], "The encryption method specified is not supported")
	}
	return w, nil
}

// readKey reads the key to an object, which must be there if and only if the object
// was stored with one.
func (c *call) readKey(prefix string, v *metadata.Version) ([]byte, error) {
	if w, given := c.r.Header[sseHeader]; given && prefix == "X-Amz-" && c.r.Method != "PUT" {
		return nil, argument("x-amz-server-side-encryption", w[0], "x-amz-server-side-encryption header is not supported for this operation.")
	}
	key, err := c.clientKey(prefix)
	if err != nil {
		return nil, err
	}
	switch client := metadata.SealOf(v.Parts) == metadata.SealClient; {
	case client && key == nil:
		return nil, failf("InvalidRequest", "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.")
	case !client && key != nil:
		return nil, failf("InvalidRequest", "The encryption parameters are not applicable to this object.")
	case client:
		return key, c.api.Sealed.CheckKey(*v, key)
	}
	return nil, nil
}

// openObject opens a range of an object, with the client's key if it needs one.
func (c *call) openObject(v metadata.Version, key []byte, s span) (io.ReadCloser, error) {
	if key == nil {
		return c.api.Objects.OpenObject(c.ctx(), v, s.offset, s.length)
	}
	return c.api.Sealed.OpenSealed(c.ctx(), v, key, s.offset, s.length)
}

// partKey reads the key for a part, which must be there if and only if the upload
// began with one.
func (c *call) partKey(u *metadata.Upload) ([]byte, error) {
	key, err := c.clientKey("X-Amz-")
	if err != nil {
		return nil, err
	}
	switch client := u.Seal != nil && u.Seal.Kind == metadata.SealClient; {
	case client && key == nil:
		return nil, failf("InvalidRequest", "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters.")
	case !client && key != nil:
		return nil, failf("InvalidRequest", "The multipart upload initiate did not request encryption. Please resend the request without sending encryption parameters.")
	}
	return key, nil
}

// checkWholeKey holds the key with which an upload is completed against that of its
// parts. S3 demands one only where the upload has a checksum.
func (c *call) checkWholeKey(u *metadata.Upload, parts []metadata.Part) error {
	key, err := c.clientKey("X-Amz-")
	if err != nil || key == nil && u.ChecksumAlgorithm == "" {
		return err
	}
	if key, err = c.partKey(u); err != nil || key == nil {
		return err
	}
	return otherKey(c.api.Sealed.CheckKey(metadata.Version{Parts: parts}, key))
}

// setSeal tells how an object is encrypted.
func (c *call) setSeal(kind metadata.SealKind) {
	h := c.w.Header()
	switch kind {
	case metadata.SealRegion:
		h[sseHeader] = []string{aes256}
	case metadata.SealClient:
		h["X-Amz-"+sseAlgorithm] = []string{aes256}
		// Checked against the key already, where the request had to bring one.
		if sum := c.header("X-Amz-" + sseKeyMD5); sum != "" {
			h["X-Amz-"+sseKeyMD5] = []string{sum}
		}
	}
}

// kindOf is how the parts of an upload are encrypted.
func kindOf(s *metadata.Seal) metadata.SealKind {
	if s == nil {
		return metadata.SealNone
	}
	return s.Kind
}
