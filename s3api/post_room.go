package s3api

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// formPiece is how much of a form's file is in memory at a time: nobody says
	// how long the file is before it has ended. Larger ones become an object of
	// several parts that looks like one of a single PUT. A form begins with
	// smallPiece, and stays with it if it is slow.
	formPiece  = 8 << 20
	smallPiece = 1 << 20
	// formsBytes is for the pieces of all forms, half of it for slow ones at most.
	formsBytes = 16 * formPiece
	// formWait is how long a form waits for room for its first piece.
	formWait = 10 * time.Second
	// A form is slow that brings less than slowBytes in formLook of waiting for it. It
	// dawdles with less than leastBytes.
	formLook   = time.Second
	slowBytes  = smallPiece
	leastBytes = 64 << 10
)

// formRooms is the memory of forms.
type formRooms struct{ all, slow *semaphore.Weighted }

func newFormRooms() *formRooms {
	return &formRooms{all: semaphore.NewWeighted(formsBytes), slow: semaphore.NewWeighted(formsBytes / 2)}
}

// formRoom holds a piece of one form's file. It must be closed.
type formRoom struct {
	rooms *formRooms
	file  io.Reader
	wire  *timedBody // below file
	most  int        // bytes of a piece
	buf   []byte

	mu      sync.Mutex
	watch   *time.Timer // nil: closed
	slow    int64       // bytes counted as held by a slow form
	refused bool        // ended since there is no room for its pace
	reading bool
	since   time.Time     // reading, or counted from
	waited  time.Duration // for bytes, since the last look
	came    int           // likewise
}

// open waits for room for the first piece of a form of so many bytes in all, then
// ErrSlowDown.
func (f *formRooms) open(ctx context.Context, file io.Reader, wire *timedBody, length int64) (*formRoom, error) {
	r := &formRoom{rooms: f, file: file, wire: wire, most: int(min(formPiece, length))}
	first := min(smallPiece, r.most)
	wait, cancel := context.WithTimeout(ctx, formWait)
	defer cancel()
	if err := f.all.Acquire(wait, int64(first)); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, ErrSlowDown
	}
	r.buf = make([]byte, first)
	r.watch = time.AfterFunc(formLook, r.look)
	return r, nil
}

// next reads the next piece, as io.ReadFull does; it is valid until the next call. A
// piece may be smaller than the one before.
func (r *formRoom) next() ([]byte, error) {
	r.shrink()
	n, err := io.ReadFull(r.file, r.buf)
	if err == nil && r.grow() {
		var more int
		more, err = io.ReadFull(r.file, r.buf[n:])
		n += more
	}
	return r.buf[:n], err
}

// verdict is what to tell a form that broke off with err.
func (r *formRoom) verdict(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.refused {
		return ErrSlowDown
	}
	return err
}

// grow makes the buffer larger, if that is worth it and there is room.
func (r *formRoom) grow() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.buf) == r.most || r.slow > 0 || !r.rooms.all.TryAcquire(int64(r.most-len(r.buf))) {
		return false
	}
	larger := make([]byte, r.most)
	copy(larger, r.buf)
	r.buf = larger
	return true
}

// shrink leaves a slow form a small buffer.
func (r *formRoom) shrink() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slow == 0 || len(r.buf) <= smallPiece {
		return
	}
	n := int64(len(r.buf) - smallPiece)
	r.buf = make([]byte, smallPiece)
	r.rooms.all.Release(n)
	r.rooms.slow.Release(n)
	r.slow -= n
}

// Read takes bytes of the form, of what follows the file too, and the time that they took.
func (r *formRoom) Read(p []byte) (int, error) {
	r.mu.Lock()
	r.reading, r.since = true, time.Now()
	r.mu.Unlock()
	n, err := r.wire.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tick()
	r.reading = false
	r.came += n
	return n, err
}

// tick counts the time of the read that is under way. It needs mu.
func (r *formRoom) tick() {
	now := time.Now()
	r.waited += now.Sub(r.since)
	r.since = now
}

// look finds out whether the form is slow. One that turns slow when those that are hold
// their half is ended.
func (r *formRoom) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watch == nil {
		return
	}
	r.watch.Reset(formLook)
	if r.reading {
		r.tick()
	}
	if r.waited < formLook*3/4 {
		return
	}
	pace := float64(r.came) / r.waited.Seconds()
	r.waited, r.came = 0, 0
	switch held := int64(len(r.buf)); {
	case pace >= slowBytes/formLook.Seconds():
		r.rooms.slow.Release(r.slow)
		r.slow = 0
	case r.slow > 0:
	case r.rooms.slow.TryAcquire(held):
		r.slow = held
	default:
		r.refused = pace >= leastBytes/formLook.Seconds()
		r.wire.interrupt()
	}
}

func (r *formRoom) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch.Stop()
	r.watch = nil
	r.rooms.all.Release(int64(len(r.buf)))
	r.rooms.slow.Release(r.slow)
	r.slow = 0
}
