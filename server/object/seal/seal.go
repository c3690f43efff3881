package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/minio/sio"
)

const (
	// PackageBytes of plain text are encrypted at a time.
	PackageBytes = 64 << 10
	overhead     = 32 // of each package: header and tag
	// KeyBytes is the length of every key.
	KeyBytes = 32

	wrapVersion = 1
	nonceBytes  = 12
	wrapBytes   = 1 + nonceBytes + KeyBytes + 16
)

var (
	// ErrWrongKey: the key is not the one that sealed, or what was sealed is damaged.
	ErrWrongKey = errors.New("wrong key")
	// ErrDamaged: the ciphertext does not authenticate or ends early.
	ErrDamaged = errors.New("encrypted bytes do not authenticate")
)

// Key is a data key.
type Key [KeyBytes]byte

// String keeps keys out of logs.
func (Key) String() string { return "key(redacted)" }

// Size is the length of n bytes once encrypted.
func Size(n int64) int64 { return n + overhead*((n+PackageBytes-1)/PackageBytes) }

// NewKey draws a key; random fills its argument.
func NewKey(random func([]byte) error) (k Key, err error) {
	if err := random(k[:]); err != nil {
		return k, fmt.Errorf("data key: %w", err)
	}
	return k, nil
}

// wrapper is the cipher that seals data keys under a master key.
func wrapper(master []byte) (cipher.AEAD, error) {
	if len(master) != KeyBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrWrongKey, len(master))
	}
	h := hmac.New(sha256.New, master)
	h.Write([]byte("bivalve data key 1"))
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Wrap seals a data key under a master key of KeyBytes. The same context opens it.
func Wrap(master []byte, k Key, context []byte, random func([]byte) error) ([]byte, error) {
	aead, err := wrapper(master)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1+nonceBytes, wrapBytes)
	out[0] = wrapVersion
	if err := random(out[1:]); err != nil {
		return nil, fmt.Errorf("nonce: %w", err)
	}
	return aead.Seal(out, out[1:1+nonceBytes], k[:], context), nil
}

// Unwrap opens what Wrap sealed, or answers ErrWrongKey.
func Unwrap(master, sealed, context []byte) (k Key, err error) {
	aead, err := wrapper(master)
	if err != nil {
		return k, err
	}
	if len(sealed) != wrapBytes || sealed[0] != wrapVersion {
		return k, fmt.Errorf("%w: a sealed key of an unknown format", ErrWrongKey)
	}
	raw, err := aead.Open(nil, sealed[1:1+nonceBytes], sealed[1+nonceBytes:], context)
	if err != nil {
		return k, ErrWrongKey
	}
	copy(k[:], raw)
	return k, nil
}

func config(k Key, first uint32) sio.Config {
	return sio.Config{MinVersion: sio.Version20, MaxVersion: sio.Version20, CipherSuites: []byte{sio.AES_256_GCM}, Key: k[:], SequenceNumber: first}
}

// Encrypt encrypts body while it is read. An error of body, instead of io.EOF, is
// that of the reader.
func Encrypt(body io.Reader, k Key) (io.Reader, error) {
	return sio.EncryptReader(body, config(k, 0))
}

// Range is where a range of plain text lies in the ciphertext: whole packages.
type Range struct {
	Offset, Length int64 // of the ciphertext
	first          uint32
	skip, want     int64 // of the plain text of these packages
}

// Span finds bytes [offset, offset+length) of size bytes of plain text; length is
// above 0 and the range inside.
func Span(size, offset, length int64) Range {
	first, last := offset/PackageBytes, (offset+length-1)/PackageBytes
	end := min((last+1)*PackageBytes, size)
	r := Range{Offset: first * (PackageBytes + overhead), first: uint32(first), skip: offset - first*PackageBytes, want: length}
	r.Length = Size(end) - r.Offset
	return r
}

// Decrypt reads the range out of src, which begins at r.Offset of the ciphertext.
// Every byte that it hands out is authentic.
func (r Range) Decrypt(src io.Reader, k Key) (io.Reader, error) {
	plain, err := sio.DecryptReader(src, config(k, r.first))
	if err != nil {
		return nil, err
	}
	return &ranged{plain: plain, skip: r.skip, left: r.want}, nil
}

// ranged passes over the first bytes and ends where the range does; what lies
// behind was not asked for.
type ranged struct {
	plain      io.Reader
	skip, left int64
}

func (r *ranged) Read(p []byte) (int, error) {
	if r.skip > 0 {
		n, err := io.CopyN(io.Discard, r.plain, r.skip)
		if r.skip -= n; err != nil {
			return 0, damaged(err)
		}
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.plain.Read(p)
	r.left -= int64(n)
	switch {
	case r.left == 0:
		return n, nil
	case err != nil:
		return n, damaged(err)
	}
	return n, nil
}

// damaged tells what the ciphertext is guilty of from failures of its source.
func damaged(err error) error {
	var authentic sio.Error
	if err == io.EOF || err == io.ErrUnexpectedEOF || errors.As(err, &authentic) {
		return fmt.Errorf("%w: %w", ErrDamaged, notEOF(err))
	}
	return err
}

// notEOF keeps io.EOF from travelling on as if the stream had ended well.
func notEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
