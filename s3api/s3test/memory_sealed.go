package s3test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"bivalve/metadata"
	"bivalve/s3api"
)

// seal is what is noted of the encryption of a part; in memory the bytes stay as
// they are. Called with the lock held.
func (m *Memory) seal(b *bucket, w metadata.SealWith) *metadata.Seal {
	switch {
	case w.Kind == metadata.SealClient:
		sum := sha256.Sum256(w.ClientKey)
		return &metadata.Seal{Kind: w.Kind, Key: sum[:]}
	case w.Kind == metadata.SealRegion, string(b.Settings[metadata.FieldEncryption]) == metadata.EncryptAES256:
		return &metadata.Seal{Kind: metadata.SealRegion}
	}
	return nil
}

func sameKey(s *metadata.Seal, key []byte) error {
	sum := sha256.Sum256(key)
	if s != nil && s.Kind == metadata.SealClient && !bytes.Equal(s.Key, sum[:]) {
		return s3api.ErrWrongKey
	}
	return nil
}

// etagOf is no MD5 of the bytes where a client's key is used.
func etagOf(etag string, s *metadata.Seal) string {
	if s == nil || s.Kind != metadata.SealClient {
		return etag
	}
	sum := md5.Sum(append([]byte("sealed "+etag), s.Key...))
	return hex.EncodeToString(sum[:])
}

func (m *Memory) CheckKey(v metadata.Version, clientKey []byte) error {
	for _, p := range v.Parts {
		if err := sameKey(p.Seal, clientKey); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) OpenSealed(_ context.Context, v metadata.Version, clientKey []byte, offset, length int64) (io.ReadCloser, error) {
	if err := m.CheckKey(v, clientKey); err != nil {
		return nil, err
	}
	return m.open(v, offset, length)
}
