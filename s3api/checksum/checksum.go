// Package checksum knows the S3 object checksums: how they are computed, how
// they are written, and how those of parts become that of an object. It is pure.
//
// A FULL_OBJECT checksum covers the bytes of the whole object; for a CRC it can
// be combined from those of the parts (FullObject). A COMPOSITE one covers the
// raw checksums of the parts and ends in "-N" (Composite).
package checksum

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	"github.com/minio/crc64nvme"
)

// Names of the algorithms as S3 writes them.
const (
	CRC32     = "CRC32"
	CRC32C    = "CRC32C"
	CRC64NVME = "CRC64NVME"
	SHA1      = "SHA1"
	SHA256    = "SHA256"
)

// Types of a checksum.
const (
	TypeFull      = "FULL_OBJECT"
	TypeComposite = "COMPOSITE"
)

// Algorithms lists all of them.
func Algorithms() []string { return []string{CRC32, CRC32C, CRC64NVME, SHA1, SHA256} }

var (
	ErrUnknown = errors.New("unknown checksum algorithm")
	ErrValue   = errors.New("malformed checksum value")
)

// Size is the length of the raw checksum in bytes, 0 for an unknown algorithm.
func Size(algorithm string) int {
	switch algorithm {
	case CRC32, CRC32C:
		return 4
	case CRC64NVME:
		return 8
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	}
	return 0
}

// New answers a fresh hash, nil for an unknown algorithm.
func New(algorithm string) hash.Hash {
	switch algorithm {
	case CRC32:
		return crc32.NewIEEE()
	case CRC32C:
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case CRC64NVME:
		return crc64nvme.New()
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	}
	return nil
}

// Encode writes a raw checksum as S3 does.
func Encode(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

// Decode reads a raw checksum; the only accepted form is the one Encode writes.
func Decode(algorithm, value string) ([]byte, error) {
	n := Size(algorithm)
	if n == 0 {
		return nil, ErrUnknown
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil || len(raw) != n || len(value) != base64.StdEncoding.EncodedLen(n) {
		return nil, ErrValue
	}
	return raw, nil
}

// CheckType tells whether the algorithm may have the type in a multipart upload,
// and answers the default for an empty one.
func CheckType(algorithm, typ string) (string, bool) {
	switch algorithm {
	case CRC64NVME:
		return TypeFull, typ == "" || typ == TypeFull
	case SHA1, SHA256:
		return TypeComposite, typ == "" || typ == TypeComposite
	case CRC32, CRC32C:
		if typ == "" {
			typ = TypeComposite
		}
		return typ, typ == TypeFull || typ == TypeComposite
	}
	return "", false
}

// Composite hashes the raw checksums of the parts, in order.
func Composite(algorithm string, parts []string) (string, error) {
	h := New(algorithm)
	if h == nil {
		return "", ErrUnknown
	}
	for _, p := range parts {
		raw, err := Decode(algorithm, p)
		if err != nil {
			return "", err
		}
		h.Write(raw)
	}
	return fmt.Sprintf("%s-%d", Encode(h.Sum(nil)), len(parts)), nil
}
