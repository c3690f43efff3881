package s3api

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
)

// wholeClaim is what a complete says about the object to be.
type wholeClaim struct {
	algorithm, value, typ string
	bytes                 int64 // -1 = not said
}

func (c *call) wholeClaim() (w wholeClaim, err error) {
	w.bytes = -1
	if w.algorithm, w.value, err = c.checksumValue(); err != nil {
		return w, err
	}
	w.typ = strings.ToUpper(c.header("X-Amz-Checksum-Type"))
	if w.typ != "" && w.typ != checksum.TypeFull && w.typ != checksum.TypeComposite {
		return w, failf("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
	}
	if w.algorithm != "" {
		if _, err := checksum.Decode(w.algorithm, w.plain()); err != nil {
			return w, failf("InvalidRequest", "Value for %s header is invalid.", checksumName(w.algorithm))
		}
	}
	if v := c.header("X-Amz-Mp-Object-Size"); v != "" {
		if w.bytes, err = strconv.ParseInt(v, 10, 64); err != nil || w.bytes < 0 {
			return w, failf("InvalidRequest", "Value for x-amz-mp-object-size header is invalid.")
		}
	}
	return w, nil
}

// plain is the value without the part count of a composite checksum.
func (w wholeClaim) plain() string {
	v, _, _ := strings.Cut(w.value, "-")
	return v
}

func (w wholeClaim) check(u *metadata.Upload, parts []metadata.Part, sum metadata.Checksum) error {
	var bytes int64
	for _, p := range parts {
		bytes += p.Bytes
	}
	switch {
	case bytes > metadata.MaxObjectBytes:
		return &apiError{code: "EntityTooLarge", fields: map[string]string{
			"ProposedSize": strconv.FormatInt(bytes, 10), "MaxSizeAllowed": strconv.FormatInt(metadata.MaxObjectBytes, 10)}}
	case w.bytes >= 0 && w.bytes != bytes:
		return failf("InvalidRequest", "The provided 'x-amz-mp-object-size' header value %d does not match what was computed: %d", w.bytes, bytes)
	case w.typ != "" && w.typ != u.ChecksumType:
		return failf("InvalidRequest", "The upload was created using the %s checksum mode. The complete request must use the same checksum mode.", cmp.Or(u.ChecksumType, "null"))
	case w.algorithm == "":
		return nil
	case sum.Algorithm == "":
		return failf("InvalidRequest", "The parts of this upload have no checksum in common, so that of the object is not known.")
	case w.algorithm != sum.Algorithm:
		return failf("BadDigest", "The upload was created using the %s checksum algorithm, the complete request gave a %s.", sum.Algorithm, w.algorithm)
	}
	got, _, _ := strings.Cut(sum.Value, "-")
	if w.plain() != got || strings.Contains(w.value, "-") && w.value != sum.Value {
		return failf("BadDigest", "The %s you specified did not match the calculated checksum.", strings.ToLower(w.algorithm))
	}
	return nil
}

// sumOfParts tells which checksum an object of these parts has. An upload that named an
// algorithm has that of every part. If it named none, parts whose bytes came through
// here have S3's default, those by reference what their source has: the object has the
// one that all share, if it can be combined, and else none.
func sumOfParts(u metadata.Upload, parts []metadata.Part) (sum metadata.Checksum) {
	if u.ChecksumAlgorithm != "" {
		return metadata.Checksum{Algorithm: u.ChecksumAlgorithm, Type: u.ChecksumType}
	}
	shared := parts[0].Checksum.Algorithm
	for _, p := range parts {
		if p.Checksum.Algorithm != shared || p.Checksum.Value == "" {
			return sum
		}
	}
	if _, ok := checksum.CheckType(shared, checksum.TypeFull); !ok {
		return sum
	}
	return metadata.Checksum{Algorithm: shared, Type: checksum.TypeFull}
}

// whole computes ETag and checksum of an object from those of its parts, of which there
// is one at least.
func whole(u metadata.Upload, parts []metadata.Part) (etag string, sum metadata.Checksum, err error) {
	h := md5.New()
	values := make([]string, len(parts))
	pieces := make([]checksum.Part, len(parts))
	sum = sumOfParts(u, parts)
	for i, p := range parts {
		raw, err := hex.DecodeString(p.ETag)
		if err != nil || len(raw) != md5.Size {
			return "", sum, fmt.Errorf("s3api: part %d has the ETag %q", p.Number, p.ETag)
		}
		h.Write(raw)
		if sum.Algorithm != "" && p.Checksum.Algorithm != sum.Algorithm {
			return "", sum, fmt.Errorf("s3api: part %d has a %s checksum, the upload %s", p.Number, p.Checksum.Algorithm, sum.Algorithm)
		}
		values[i] = p.Checksum.Value
		pieces[i] = checksum.Part{Value: p.Checksum.Value, Bytes: p.Bytes}
	}
	switch sum.Type {
	case checksum.TypeComposite:
		sum.Value, err = checksum.Composite(sum.Algorithm, values)
	case checksum.TypeFull:
		sum.Value, err = checksum.FullObject(sum.Algorithm, pieces)
	}
	return fmt.Sprintf("%s-%d", hex.EncodeToString(h.Sum(nil)), len(parts)), sum, err
}

// abortUpload throws an upload and its parts away.
func (c *call) abortUpload() error {
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	if err := c.api.Uploads.AbortUpload(c.ctx(), c.bucket, c.key, id); err != nil {
		return err
	}
	c.noContent()
	return nil
}
