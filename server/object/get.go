package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"bivalve/erasure"
	"bivalve/metadata"
)

// HeadObject is the current version of a key.
func (s *Store) HeadObject(ctx context.Context, bucket, key string) (v metadata.Version, err error) {
	err = s.inBucket(ctx, bucket, func(b metadata.Bucket) error {
		v, err = s.cfg.Versions.GetVersion(ctx, b.ID, key)
		return err
	})
	return v, err
}

// OpenObject reads bytes [offset, offset+length) of a version. The first chunk is
// read before it returns, so that an object that cannot be read is an error and
// not a broken stream.
func (s *Store) OpenObject(ctx context.Context, v metadata.Version, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length < 0 || offset > v.Bytes || length > v.Bytes-offset {
		return nil, fmt.Errorf("range [%d, +%d) is outside of an object of %d bytes", offset, length, v.Bytes)
	}
	if length == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if len(v.Parts) == 0 || v.Parts[0].Blob == nil && len(v.Parts) == 1 {
		return io.NopCloser(bytes.NewReader(v.Inline[offset : offset+length])), nil
	}
	rctx, cancel := context.WithCancel(ctx)
	r := &reader{s: s, ctx: rctx, cancel: cancel, parts: v.Parts, skip: offset, left: length}
	r.prefetch()
	if err := r.advance(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// fetched is the outcome of reading one chunk ahead.
type fetched struct {
	p   *piece
	err error
}

// wanted is a range of one chunk. early: it is asked for before the client needs it.
type wanted struct {
	blob   *metadata.Blob
	chunk  uint32
	off, n int
	early  bool
}

// reader streams a range of a version, one chunk ahead of its client. One
// goroutine uses it.
type reader struct {
	s      *Store
	ctx    context.Context // of the stream: a field because Read takes none
	cancel context.CancelFunc

	parts []metadata.Part // from the part that is next to be read
	skip  int64           // bytes of it, or of those behind it, to pass over
	left  int64           // bytes still to be asked for

	ahead chan fetched // nil: nothing is on its way
	asked wanted       // what ahead will bring
	cur   *piece
	err   error
}

// prefetch starts the next chunk, if there is one.
func (r *reader) prefetch() {
	for r.left > 0 && len(r.parts) > 0 && (r.parts[0].Blob == nil || r.skip >= r.parts[0].Bytes) {
		r.skip -= r.parts[0].Bytes
		r.parts = r.parts[1:]
	}
	if r.left <= 0 || len(r.parts) == 0 {
		return
	}
	w := wanted{blob: r.parts[0].Blob, chunk: uint32(r.skip / erasure.ChunkBytes), off: int(r.skip % erasure.ChunkBytes), early: r.cur != nil}
	w.n = int(min(int64(chunkBytes(w.blob.Bytes, w.chunk)-w.off), r.left))
	r.skip += int64(w.n)
	r.left -= int64(w.n)
	ahead := make(chan fetched, 1)
	r.ahead, r.asked = ahead, w
	go func() { // Close waits for it
		p, err := r.s.readChunk(r.ctx, w.blob, w.chunk, w.off, w.n)
		ahead <- fetched{p, err}
	}()
}

// advance makes the chunk that was read ahead current and starts the next.
func (r *reader) advance() error {
	if r.cur != nil {
		r.cur.free()
		r.cur = nil
	}
	if r.err != nil {
		return r.err
	}
	if r.ahead == nil {
		if r.left > 0 {
			r.err = fmt.Errorf("version ends %d bytes early", r.left)
			return r.err
		}
		r.err = io.EOF
		return r.err
	}
	f := <-r.ahead
	r.ahead = nil
	if w := r.asked; w.early && (errors.Is(f.err, ErrBusy) || passing(f.err)) {
		// It gave up while the client was busy with the chunk before; what was short
		// then may be there now.
		f.p, f.err = r.s.readChunk(r.ctx, w.blob, w.chunk, w.off, w.n)
	}
	if f.err != nil {
		r.err = f.err
		return r.err
	}
	r.cur = f.p
	r.prefetch()
	return nil
}

func (r *reader) Read(p []byte) (int, error) {
	for r.cur == nil || len(r.cur.views) == 0 {
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.cur.views[0])
	if r.cur.views[0] = r.cur.views[0][n:]; len(r.cur.views[0]) == 0 {
		r.cur.views = r.cur.views[1:]
	}
	return n, nil
}

// WriteTo hands the chunks over without a copy.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		for r.cur == nil || len(r.cur.views) == 0 {
			if err := r.advance(); err == io.EOF {
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		n, err := w.Write(r.cur.views[0])
		total += int64(n)
		if err != nil {
			return total, err
		}
		r.cur.views = r.cur.views[1:]
	}
}

// Close ends the stream wherever it is; it returns after the last read.
func (r *reader) Close() error {
	r.cancel()
	if r.ahead != nil {
		if f := <-r.ahead; f.p != nil {
			f.p.free()
		}
		r.ahead = nil
	}
	if r.cur != nil {
		r.cur.free()
		r.cur = nil
	}
	if r.err == nil {
		r.err = io.ErrClosedPipe
	}
	return nil
}
