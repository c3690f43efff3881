package object

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// firstBytes of a chunk arrive before it takes any room, as a small object would.
	firstBytes = 16 << 10
	// sampleBytes of a body that nothing is known of show its pace.
	sampleBytes = 128 << 10
)

// Interruptible is a Body that can be ended from elsewhere: a Read under way, and
// every later one, fails with what the body has to say about it.
type Interruptible interface{ Interrupt() }

// manner is how the room of a chunk is taken.
type manner int

const (
	// unknown: a sample is taken first.
	unknown manner = iota
	// prompt: room for all of the chunk at once, before its bytes are read.
	prompt
	// moderate: shard by shard, within a claim to the data of one chunk, which is kept
	// from chunk to chunk.
	moderate
	// dawdling: shard by shard while the share of slow bodies lasts.
	dawdling
)

// intake is a body on its way in, chunk after chunk.
//
// Who waits for room while it holds some would bring all to a halt if all did. So what
// may be held by those that wait is a share of its own each: the samples of those that
// have just come, which are waited for before anything is held; the data of those of a
// moderate pace, where a whole chunk is claimed before its first shard; and what slow ones
// hold, beyond which they are ended if others wait. What is left is for those that are prompt, which hold
// room for a moment, and for what only has to be sent.
type intake struct {
	s         *Store
	body      io.Reader
	interrupt func() // nil: its bytes come from the house, and are waited for; it gives room back all the same
	k, all    int    // shards of a chunk, of data and in all
	claim     int64  // bytes of data of a whole chunk, in shards

	mu      sync.Mutex
	watch   *time.Timer // while a chunk is read
	how     manner
	claimed bool // holds a claim
	ended   bool // for the sake of others
	refused bool // and that not for dawdling

	over time.Time // since when it holds more than there is a share for; zero: it does not

	// Of the chunk.
	length, got int // bytes: in all, and so far
	shard       int // bytes of each
	shards      [][]byte
	room        int    // for so many of them
	sample      []byte // lent, until its bytes are in the shards
	arriving    int64  // held of the share of those that have just come
	slow        int64  // of that of slow ones

	// Of its pace. What the house does between reads does not count.
	reading bool
	since   time.Time // reading, or counted from
	timed   progress  // of the chunk
	recent  progress  // since the last look
}

// newIntake must be closed.
func (s *Store) newIntake(body io.Reader, k, all int, claim int64) *intake {
	in := &intake{s: s, body: body, k: k, all: all, claim: claim}
	if b, ok := body.(Interruptible); ok {
		in.interrupt = b.Interrupt
	}
	return in
}

// close gives back what is kept from chunk to chunk.
func (in *intake) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.disclaim()
}

// fill reads the k data shards of a chunk, and makes the others' buffers: all lent, with
// room in the budget. With the last chunk it also reads the end, which is where a body says
// that it does not hold together. On error it holds nothing.
func (in *intake) fill(ctx context.Context, length, shard int, last bool) (_ [][]byte, err error) {
	how := in.begin(length, shard)
	defer func() {
		if in.end(err) {
			err = fmt.Errorf("%w for a body of its pace (%v)", ErrBusy, err) // not what the body says
		}
	}()
	body := readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil { // a chunk before this one has failed: who sends slowly hears of it now
			return 0, context.Cause(ctx)
		}
		return in.read(p)
	})
	first := make([]byte, min(length, firstBytes))
	if err := readFull(body, first); err != nil {
		return nil, err
	}
	if how == unknown {
		if err := in.takeSample(ctx, body, first); err != nil {
			return nil, err
		}
		first = in.sample
	}
	if err := in.admit(ctx); err != nil {
		return nil, err
	}
	src := readerFunc(func(p []byte) (int, error) {
		if len(first) == 0 {
			return body(p)
		}
		n := copy(p, first)
		if first = first[n:]; len(first) == 0 {
			in.dropSample()
		}
		return n, nil
	})
	for i := range in.k {
		p, err := in.next(ctx)
		if err != nil {
			return nil, err
		}
		part := p[:min(shard, max(0, length-i*shard))]
		if err := readFull(src, part); err != nil {
			return nil, err
		}
		clear(p[len(part):])
	}
	if last {
		if err := readEnd(body); err != nil {
			return nil, err
		}
	}
	in.stop()
	if err := in.take(ctx, in.all-in.k); err != nil {
		return nil, err
	}
	for range in.all - in.k {
		if _, err := in.next(ctx); err != nil {
			return nil, err
		}
	}
	return in.shards, nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// begin is a new chunk.
func (in *intake) begin(length, shard int) manner {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.length, in.got, in.shard = length, 0, shard
	in.shards, in.room = nil, 0
	in.timed, in.recent = progress{}, progress{}
	if in.how != unknown {
		in.watch = time.AfterFunc(stallFirst, in.look)
	}
	return in.how
}

// takeSample reads what shows the pace of a body.
func (in *intake) takeSample(ctx context.Context, body io.Reader, first []byte) error {
	n := min(in.length, sampleBytes)
	if err := in.s.wait(ctx, in.s.intakes.arriving, int64(n)); err != nil {
		return err
	}
	in.mu.Lock()
	in.arriving = int64(n)
	in.mu.Unlock()
	if err := in.s.reserve(ctx, int64(n)); err != nil {
		return err
	}
	in.mu.Lock()
	in.sample = in.s.cfg.Buffers.Get(n)
	in.timed, in.recent = progress{}, progress{} // the client's own time to its first byte is none of its pace
	in.watch = time.AfterFunc(stallFirst, in.look)
	in.mu.Unlock()
	return readFull(body, in.sample[copy(in.sample, first):])
}

// dropSample gives the sample back.
func (in *intake) dropSample() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.sample == nil {
		return
	}
	in.s.cfg.Buffers.Put(in.sample)
	in.s.release(int64(len(in.sample)))
	if in.slow > 0 {
		in.hold(-int64(len(in.sample)))
	}
	in.sample = nil
}

// admit decides how the chunk takes its room, and takes what it needs to begin with.
func (in *intake) admit(ctx context.Context) error {
	in.mu.Lock()
	if in.how == unknown {
		switch {
		case in.interrupt == nil || in.brings(in.timed, promptly):
			in.how = prompt
			in.hold(-in.slow)
		case in.timed.dawdles():
			in.how = dawdling
			in.share()
		default:
			in.holdSample() // if it can, so that others may come meanwhile
			in.mu.Unlock()
			return in.stake(ctx)
		}
	}
	all := in.how == prompt
	in.mu.Unlock()
	if !all {
		return nil
	}
	err := in.take(ctx, in.all)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.arrived()
	return err
}

// stake waits for the claim of a body of a moderate pace.
func (in *intake) stake(ctx context.Context) error {
	if err := in.s.waitFor(ctx, in.s.intakes.moderate, in.claim, claimPatience*in.s.cfg.BudgetWait); err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.claimed = true
	in.settle(moderate)
	return nil
}

// holdSample counts the sample as held by a slow body, and no longer by one that has
// just come, if there is room for it. It needs mu.
func (in *intake) holdSample() bool {
	if in.slow == 0 && !in.hold(int64(len(in.sample))) {
		return false
	}
	in.arrived()
	return true
}

// next lends the next shard's buffer.
func (in *intake) next(ctx context.Context) ([]byte, error) {
	if err := in.take(ctx, 1); err != nil {
		return nil, err
	}
	p := in.s.cfg.Buffers.Get(in.shard)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.shards = append(in.shards, p)
	if in.how == dawdling && in.watch != nil {
		in.share()
	}
	return p, nil
}

// take makes sure of room for so many shards more than are lent.
func (in *intake) take(ctx context.Context, shards int) error {
	in.mu.Lock()
	lacks := len(in.shards) + shards - in.room
	in.mu.Unlock()
	if lacks <= 0 {
		return nil
	}
	if err := in.s.reserve(ctx, int64(lacks*in.shard)); err != nil {
		return err
	}
	in.mu.Lock()
	in.room += lacks
	in.mu.Unlock()
	return nil
}

// stop ends the watch: all bytes of the chunk are there.
func (in *intake) stop() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.watch != nil {
		in.watch.Stop()
		in.watch = nil
	}
}

// end of a chunk gives back everything after an error, and no longer counts what it
// holds. refused: that was the house's doing, for the body's pace.
func (in *intake) end(err error) (refused bool) {
	in.stop()
	in.dropSample()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.arrived()
	in.hold(-in.slow)
	in.over = time.Time{}
	switch {
	case in.how == dawdling:
		in.how = unknown
	case in.how == moderate && float64(in.length)*in.timed.took.Seconds() <= float64(in.timed.came)*promptly.Seconds():
		in.how = prompt
		in.disclaim()
	}
	if in.ended {
		in.s.intakes.endedOne()
		in.ended = false
	}
	if err == nil {
		return false
	}
	for _, p := range in.shards {
		in.s.cfg.Buffers.Put(p)
	}
	in.s.release(int64(in.room * in.shard))
	in.shards, in.room = nil, 0
	return in.refused
}
