package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"bivalve/erasure"
	"bivalve/metadata"
)

// cursor is a place in the bytes of parts: skip of them are passed, left are wanted.
type cursor struct {
	parts      []metadata.Part
	skip, left int64
}

// next is the range of a chunk of at most so many bytes that begins there; ok is false
// if there is none. The cursor goes on behind the parts that are passed, and no further.
func (c *cursor) next(most int) (w wanted, ok bool) {
	for c.left > 0 && len(c.parts) > 0 && (c.parts[0].Blob == nil || c.skip >= c.parts[0].Bytes) {
		c.skip -= c.parts[0].Bytes
		c.parts = c.parts[1:]
	}
	if c.left <= 0 || len(c.parts) == 0 {
		return w, false
	}
	w = wanted{blob: c.parts[0].Blob, chunk: uint32(c.skip / erasure.ChunkBytes), off: int(c.skip % erasure.ChunkBytes)}
	length := chunkBytes(w.blob.Bytes, w.chunk)
	if most < length { // within a shard, of which the next begins with a block
		shard := geometryOf(w.blob.Profile).ShardBytes(length)
		at := w.off % shard
		most = min(most-at%erasure.BlockBytes, shard-at)
	}
	w.n = int(min(int64(length-w.off), int64(most), c.left))
	return w, true
}

// moved is the cursor n bytes on within its part, or back.
func (c cursor) moved(n int) cursor { return cursor{c.parts, c.skip + int64(n), c.left - int64(n)} }

// wanted is a range of one chunk.
type wanted struct {
	blob   *metadata.Blob
	chunk  uint32
	off, n int
}

// fetch is a range on its way. Once done is closed the rest is set.
type fetch struct {
	wanted
	from   cursor
	early  bool // it was asked for before the client needed it
	cancel context.CancelFunc
	done   chan struct{}

	p       *piece
	err     error
	dropped bool // nobody wants it any more
}

// stream is a range of a version on its way to a client, one chunk ahead of it. A
// client that is slow is sent copies of small pieces, one after the other; what it has not
// begun to take is given back, and read again later. The pieces of slow clients are
// together a share of the budget. One goroutine uses it.
type stream struct {
	s   *Store
	ctx context.Context // a field because Read takes none
	end context.CancelFunc

	fetches sync.WaitGroup
	watch   *time.Timer

	mu     sync.Mutex
	closed bool
	at     cursor // of the next fetch
	ahead  *fetch // nil: nothing is on its way
	cur    *piece
	behind []cursor // by part of cur: where it ends
	err    error
	pinned bool   // the first part of cur is in the client's hands
	cut    func() // ends a Write under way; may be nil

	slow   bool
	piece  int           // bytes at a time while it is
	shared int64         // held of Store.slowReads
	out    bool          // it is the client's turn
	began  time.Time     // the turn
	lasted time.Duration // the client's turn before
	since  time.Time
	recent progress // since the last look
}

// openParts reads a range of the stored bytes of parts, as they lie in their blobs.
func (s *Store) openParts(ctx context.Context, parts []metadata.Part, offset, length int64) (io.ReadCloser, error) {
	sctx, cancel := context.WithCancel(ctx)
	r := &stream{s: s, ctx: sctx, end: cancel, at: cursor{parts, offset, length}}
	r.mu.Lock()
	err := r.advance()
	if err == nil {
		r.turn(true)
		r.watch = time.AfterFunc(stallFirst, r.look)
	}
	r.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// start asks for what comes next, if there is something. It needs mu.
func (r *stream) start() {
	most := erasure.ChunkBytes
	if r.slow {
		most = r.piece
	}
	w, ok := r.at.next(most)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	f := &fetch{wanted: w, from: r.at, early: r.cur != nil, cancel: cancel, done: make(chan struct{})}
	r.ahead, r.at = f, r.at.moved(w.n)
	r.fetches.Go(func() {
		p, err := r.s.readChunk(ctx, w.blob, w.chunk, w.off, w.n)
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		if f.dropped && p != nil {
			p.free()
			p = nil
		}
		f.p, f.err = p, err
		close(f.done)
	})
}

// drop gives what is ahead back. It needs mu.
func (r *stream) drop() {
	f := r.ahead
	if f == nil {
		return
	}
	r.ahead, r.at = nil, f.from
	f.dropped = true
	f.cancel()
	if f.p != nil {
		f.p.free()
		f.p = nil
	}
}

// advance makes sure that cur has bytes. It needs mu, and lets go of it while it waits.
func (r *stream) advance() error {
	for r.cur == nil {
		if r.err != nil {
			return r.err
		}
		if r.slow && r.shared == 0 { // holding nothing else
			r.mu.Unlock()
			piece := r.piece
			err := r.s.wait(r.ctx, r.s.slowReads, int64(piece))
			r.mu.Lock()
			if r.err = err; err != nil {
				return err
			}
			r.shared = int64(piece)
		}
		if r.ahead == nil {
			r.start()
		}
		f := r.ahead
		if f == nil {
			r.err = io.EOF
			if r.at.left > 0 {
				r.err = fmt.Errorf("version ends %d bytes early", r.at.left)
			}
			return r.err
		}
		r.mu.Unlock()
		<-f.done
		r.mu.Lock()
		r.ahead = nil
		if f.early && (errors.Is(f.err, ErrBusy) || passing(f.err)) {
			// It gave up while the client was busy with the chunk before; what was short
			// then may be there now.
			r.at = f.from
			continue
		}
		if r.err = f.err; f.err != nil {
			return f.err
		}
		r.cur, r.behind = f.p, nil
		for n := 0; len(r.behind) < len(f.p.parts); {
			n += len(f.p.parts[len(r.behind)].view)
			r.behind = append(r.behind, f.from.moved(n))
		}
		r.readAhead()
	}
	return nil
}

// hand takes n bytes of the first part of cur, which are in the client's hands now. It
// needs mu.
func (r *stream) hand(n int) {
	first := &r.cur.parts[0]
	if first.view = first.view[n:]; len(first.view) == 0 {
		r.pass(1)
	}
}

// readAhead starts the next range for a client that has shown that it reads. It needs mu.
func (r *stream) readAhead() {
	if r.ahead == nil && r.cur != nil && r.keepsPace() {
		r.start()
	}
}

// pass frees the first parts of cur. It needs mu.
func (r *stream) pass(parts int) {
	r.s.freeParts(r.cur, 0, parts)
	r.behind = r.behind[parts:]
	r.emptied()
}

// emptied lets go of cur if nothing is left of it. It needs mu.
func (r *stream) emptied() {
	if r.cur != nil && len(r.cur.parts) == 0 {
		r.cur = nil
	}
	if r.cur == nil && r.shared > 0 {
		r.s.slowReads.Release(r.shared)
		r.shared = 0
	}
}

// freeParts frees parts [from, to) of a piece that was trimmed.
func (s *Store) freeParts(p *piece, from, to int) {
	gone := &piece{s: s, extra: make([][]byte, 0, to-from)}
	for _, t := range p.parts[from:to] {
		gone.extra = append(gone.extra, t.mem)
		gone.reserved += int64(len(t.mem))
	}
	p.reserved -= gone.reserved
	p.parts = slices.Delete(p.parts, from, to)
	gone.free()
}

// Read copies: nothing is in the client's hands after it.
func (r *stream) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(false)
	defer r.turn(true)
	if err := r.advance(); err != nil {
		return 0, err
	}
	n := copy(p, r.cur.parts[0].view)
	r.hand(n)
	r.took(n)
	return n, nil
}

// WriteTo hands the chunks over without a copy to a client that keeps pace, while there is
// room for all. After an error there is no going on: what was copied counts as read.
func (r *stream) WriteTo(w io.Writer) (int64, error) {
	var total int64
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, ok := w.(Interruptible); ok {
		r.cut = i.Interrupt
	}
	var copied *[firstStep]byte
	defer func() {
		if copied != nil {
			r.s.copies.Put(copied)
		}
	}()
	r.turn(false)
	for {
		if err := r.advance(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		view := r.cur.parts[0].view
		if !r.keepsPace() || r.s.waiters.Load() > 0 {
			if copied == nil {
				copied = r.s.copies.Get().(*[firstStep]byte)
			}
			view = copied[:copy(copied[:], view)]
			r.hand(len(view))
		} else {
			view = view[:min(len(view), stepBytes)]
			r.pinned = true
		}
		r.turn(true)
		r.mu.Unlock()
		n, err := w.Write(view)
		r.mu.Lock()
		r.turn(false)
		total += int64(n)
		if r.pinned {
			r.pinned = false
			r.hand(n)
		}
		r.took(n)
		if err == nil && n < len(view) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
		if r.slow && r.cur != nil && r.cur.reserved > slowPiece {
			r.giveBack()
		}
	}
}

// Close ends the stream wherever it is; it returns after the last read.
func (r *stream) Close() error {
	r.mu.Lock()
	r.closed = true
	if r.watch != nil {
		r.watch.Stop()
	}
	r.end()
	r.drop()
	if r.cur != nil {
		r.cur.free()
		r.cur = nil
	}
	r.emptied()
	if r.err == nil {
		r.err = io.ErrClosedPipe
	}
	r.mu.Unlock()
	r.fetches.Wait()
	return nil
}
