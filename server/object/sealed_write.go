package object

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"bivalve/metadata"
	"bivalve/server/object/seal"
)

// Keyring seals data keys with master keys and opens them again.
type Keyring interface {
	Seal(k seal.Key, context []byte) (id string, sealed []byte, err error)
	Open(id string, sealed, context []byte) (seal.Key, error)
}

var (
	// ErrNoKeyring: the region has no master keys to encrypt with.
	ErrNoKeyring = errors.New("the region has no keyring")
	// ErrWrongKey: the client's key is missing or not the one of the object.
	ErrWrongKey = errors.New("the object is encrypted with another key")
)

// sealer encrypts the bytes of one part. A nil one leaves them as they are.
type sealer struct {
	s    *Store
	with metadata.SealWith
	key  seal.Key
}

// sealing is how new bytes in a bucket are encrypted: as the request says, or else
// as the bucket does.
func sealing(b metadata.Bucket, with metadata.SealWith) metadata.SealWith {
	if with.Kind == metadata.SealNone && string(b.Settings[metadata.FieldEncryption]) == metadata.EncryptAES256 {
		with.Kind = metadata.SealRegion
	}
	return with
}

// newSealer draws the data key of a part.
func (s *Store) newSealer(with metadata.SealWith) (*sealer, error) {
	switch {
	case with.Kind == metadata.SealNone:
		return nil, nil
	case with.Kind == metadata.SealRegion && s.cfg.Keyring == nil:
		return nil, ErrNoKeyring
	}
	key, err := seal.NewKey(s.cfg.Random)
	return &sealer{s: s, with: with, key: key}, err
}

// encrypt is the body and its size as they are to be stored.
func (x *sealer) encrypt(body io.Reader, size int64) (io.Reader, int64, error) {
	if x == nil {
		return body, size, nil
	}
	r, err := seal.Encrypt(body, x.key)
	if b, ok := body.(Interruptible); ok {
		r = struct {
			io.Reader
			Interruptible
		}{r, b}
	}
	return r, seal.Size(size), err
}

// seal is what the part's record says of its encryption.
func (x *sealer) seal(blob *metadata.Blob) (*metadata.Seal, error) {
	if x == nil {
		return nil, nil
	}
	out := &metadata.Seal{Kind: x.with.Kind}
	var err error
	if x.with.Kind == metadata.SealClient {
		out.Key, err = seal.Wrap(x.with.ClientKey, x.key, sealContext(blob), x.s.cfg.Random)
	} else {
		out.KeyID, out.Key, err = x.s.cfg.Keyring.Seal(x.key, sealContext(blob))
	}
	return out, err
}

// etag is the MD5 of the plain text, which with a client's key is nobody's to know:
// there it is random.
func (x *sealer) etag(sums metadata.Sums) (string, error) {
	if x == nil || x.with.Kind != metadata.SealClient {
		return sums.MD5, nil
	}
	var raw [16]byte
	err := x.s.cfg.Random(raw[:])
	return hex.EncodeToString(raw[:]), err
}

// sealContext binds a sealed data key to its blob.
func sealContext(blob *metadata.Blob) []byte {
	if blob == nil {
		return nil
	}
	return blob.ID[:]
}

// uploadSeal is what an upload keeps of how its parts are to be encrypted.
func (s *Store) uploadSeal(with metadata.SealWith) (*metadata.Seal, error) {
	x, err := s.newSealer(with)
	switch {
	case err != nil || x == nil:
		return nil, err
	case with.Kind == metadata.SealRegion:
		return &metadata.Seal{Kind: with.Kind}, nil
	}
	return x.seal(nil)
}

// partSealing is how a part of an upload is encrypted. With a client's key it must
// be the one that the upload began with.
func partSealing(u metadata.Upload, clientKey []byte) (metadata.SealWith, error) {
	if u.Seal == nil {
		return metadata.SealWith{}, nil
	}
	if u.Seal.Kind == metadata.SealClient {
		if _, err := seal.Unwrap(clientKey, u.Seal.Key, nil); err != nil {
			return metadata.SealWith{}, fmt.Errorf("%w: %w", ErrWrongKey, err)
		}
	}
	return metadata.SealWith{Kind: u.Seal.Kind, ClientKey: clientKey}, nil
}
