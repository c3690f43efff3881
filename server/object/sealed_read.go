package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"bivalve/metadata"
	"bivalve/server/object/seal"
)

// CheckKey tells whether the client's key is the one that v was encrypted with.
func (s *Store) CheckKey(v metadata.Version, clientKey []byte) error {
	for _, p := range v.Parts {
		if p.Seal != nil {
			_, err := s.dataKey(p, clientKey)
			return err
		}
	}
	return nil
}

// dataKey opens the key of a part.
func (s *Store) dataKey(p metadata.Part, clientKey []byte) (seal.Key, error) {
	switch p.Seal.Kind {
	case metadata.SealClient:
		k, err := seal.Unwrap(clientKey, p.Seal.Key, sealContext(p.Blob))
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrWrongKey, err)
		}
		return k, err
	case metadata.SealRegion:
		if s.cfg.Keyring == nil {
			return seal.Key{}, ErrNoKeyring
		}
		return s.cfg.Keyring.Open(p.Seal.KeyID, p.Seal.Key, sealContext(p.Blob))
	}
	return seal.Key{}, fmt.Errorf("part %d is sealed in an unknown way (%d)", p.Number, p.Seal.Kind)
}

// OpenSealed is OpenObject for a version that is encrypted with a key of the
// client. The first bytes are authentic before it returns.
func (s *Store) OpenSealed(ctx context.Context, v metadata.Version, clientKey []byte, offset, length int64) (io.ReadCloser, error) {
	if err := checkRange(v, offset, length); err != nil {
		return nil, err
	}
	r := &sealedReader{s: s, ctx: ctx, parts: v.Parts, inline: v.Inline, clientKey: clientKey, skip: offset, left: length}
	first := make([]byte, min(length, seal.PackageBytes))
	n, err := r.Read(first)
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, r.Close())
	}
	r.first = first[:n]
	return r, nil
}

// sealedReader streams a range of a version some of whose parts are encrypted, part
// by part. One goroutine uses it.
type sealedReader struct {
	s         *Store
	ctx       context.Context // of the stream: a field because Read takes none
	parts     []metadata.Part // from the one that is next
	inline    []byte
	clientKey []byte
	skip      int64 // of the parts from here on
	left      int64

	first []byte        // read ahead
	plain io.Reader     // of the current part
	src   io.ReadCloser // below it
	open  int64         // bytes that plain still has
}

func (r *sealedReader) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	if r.open == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n, err := r.plain.Read(p[:min(int64(len(p)), r.open)])
	r.open -= int64(n)
	if err == io.EOF {
		if err = nil; r.open > 0 {
			err = fmt.Errorf("%w: %d bytes of a part are missing", seal.ErrDamaged, r.open)
		}
	}
	return n, err
}

// next opens the part that the range goes on in.
func (r *sealedReader) next() error {
	if err := r.shut(); err != nil {
		return err
	}
	for len(r.parts) > 0 && r.skip >= r.parts[0].Bytes {
		r.skip -= r.parts[0].Bytes
		r.parts = r.parts[1:]
	}
	if len(r.parts) == 0 {
		return fmt.Errorf("version ends %d bytes early", r.left)
	}
	p, off := r.parts[0], r.skip
	n := min(p.Bytes-off, r.left)
	r.skip += n
	r.left -= n
	r.open = n
	if p.Seal == nil {
		var err error
		r.src, err = r.s.openParts(r.ctx, []metadata.Part{p}, off, n)
		r.plain = r.src
		return err
	}
	key, err := r.s.dataKey(p, r.clientKey)
	if err != nil {
		return err
	}
	span := seal.Span(p.Bytes, off, n)
	switch {
	case p.Blob != nil:
		r.src, err = r.s.openParts(r.ctx, []metadata.Part{{Bytes: p.Blob.Bytes, Blob: p.Blob}}, span.Offset, span.Length)
	case span.Offset+span.Length <= int64(len(r.inline)):
		r.src = io.NopCloser(bytes.NewReader(r.inline[span.Offset : span.Offset+span.Length]))
	default:
		err = fmt.Errorf("%w: %d bytes in the record", seal.ErrDamaged, len(r.inline))
	}
	if err == nil {
		r.plain, err = span.Decrypt(r.src, key)
	}
	return err
}

func (r *sealedReader) shut() error {
	src := r.src
	if r.src, r.plain, r.open = nil, nil, 0; src == nil {
		return nil
	}
	return src.Close()
}

// Close ends the stream wherever it is.
func (r *sealedReader) Close() error {
	r.left, r.first = 0, nil
	return r.shut()
}
