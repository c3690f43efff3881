package object

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

const (
	// callLife is how long a call may go on whose chunk waits for it no longer.
	callLife = 10 * time.Second
	// Such calls may hold one in so many bytes of the budget, and be of so many chunks.
	leftShare  = 16
	leftChunks = 256
)

// leftBehind is what such calls hold, of all chunks together. One chunk is always let.
type leftBehind struct {
	limit int64

	mu     sync.Mutex
	bytes  int64
	chunks int
}

func (l *leftBehind) take(bytes int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.chunks > 0 && l.bytes+bytes > l.limit || l.chunks == leftChunks {
		return false
	}
	l.bytes += bytes
	l.chunks++
	return true
}

func (l *leftBehind) give(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= bytes
	l.chunks--
}

// leave ends the calls of a chunk at once if none is under way, else after a while: a
// shard that comes late is still worth having, as long as those that are waited for by
// nobody do not hold too much. The chunk's buffer is not given back yet.
func leave(f *fanout, cancel context.CancelFunc) {
	held := f.buf.inUse()
	if f.flying() == 0 || !f.s.left.take(held) {
		cancel()
		return
	}
	last := f.buf.last
	f.buf.last = func() {
		if last != nil {
			last()
		}
		f.s.left.give(held)
	}
	time.AfterFunc(callLife, cancel)
}

// fanout carries the shards of one chunk to their disks, one message for each node,
// and gathers what the nodes say. One goroutine uses it.
type fanout struct {
	s       *Store
	place   place
	shards  []cluster.Shard // by index
	buf     *chunkBuffer
	calls   [erasure.MaxShards]uint8 // under way, by shard
	answers chan answer              // room for every call: nobody waits to answer
}

// answer is what one node said of its shards.
type answer struct {
	shards []int
	errs   []error
	pg     cluster.PG
	disks  []cluster.DiskID // that they were for
	via    *relayed         // the relay that they went through; nil: none
	failed error            // of a relay: the call as a whole
}

// newFanout has room for two calls for every shard at a time: to its node and to a
// relay.
func newFanout(s *Store, shards []cluster.Shard, buf *chunkBuffer) fanout {
	return fanout{s: s, shards: shards, buf: buf, answers: make(chan answer, 2*len(shards)+1)}
}

// flying are the shards that were sent and not answered.
func (f *fanout) flying() erasure.ShardSet {
	var set erasure.ShardSet
	for i := range f.shards {
		if f.calls[i] > 0 {
			set = set.With(erasure.ShardIndex(i))
		}
	}
	return set
}

// direct sends shards to their own nodes.
func (f *fanout) direct(ctx context.Context, want erasure.ShardSet) {
	byNode := map[cluster.NodeID][]int{}
	for i := range f.shards {
		if want.Has(erasure.ShardIndex(i)) {
			n := f.place.disk(i).Node
			byNode[n] = append(byNode[n], i)
		}
	}
	epoch, pg := f.place.layout.Epoch, f.place.pg
	for node, list := range byNode {
		disks := make([]cluster.DiskID, len(list))
		shards := make([]cluster.Shard, len(list))
		for j, i := range list {
			disks[j], shards[j] = f.place.disk(i).ID, f.shards[i]
			f.calls[i]++
		}
		f.buf.hold(list)
		go func() { // its chunk waits for the answer, unless a disk is slow or hangs
			began := time.Now()
			for _, d := range disks {
				f.s.writes.begin(d, began)
			}
			errs := f.s.cfg.Shards.AppendShards(ctx, node, epoch, disks, shards)
			now := time.Now()
			for j, err := range errs {
				how := endDone
				switch {
				case err != nil && ctx.Err() != nil:
					how = endLeft
				case err != nil:
					how = endFailed
				}
				f.s.writes.end(disks[j], began, now, how)
			}
			f.buf.drop(list)
			f.answers <- answer{shards: list, errs: errs, pg: pg, disks: disks}
		}()
	}
}

// answered counts a call out.
func (f *fanout) answered(a answer) {
	for _, i := range a.shards {
		f.calls[i]--
	}
}

// patience is how much longer to wait for the last shards of a chunk that is
// durable and was sent at the given time: four times what its other disks usually
// need and at most Config.Straggler. It is stragglerFloor from now at least, since a
// shard that is missing has to be healed; but no more than laggardFloor for disks
// that have lagged behind the others of late or do not answer. Disks that are agreed to
// be slow get what the others usually need and no more: in that time they are there if
// they have come to keep pace.
func (f *fanout) patience(done erasure.ShardSet, sent time.Time) time.Duration {
	var peers []cluster.DiskID
	var last []cluster.Disk
	flying := f.flying()
	for i := range f.shards {
		switch si := erasure.ShardIndex(i); {
		case done.Has(si):
			peers = append(peers, f.place.disk(i).ID)
		case flying.Has(si):
			last = append(last, f.place.disk(i))
		}
	}
	now := time.Now()
	usual := f.s.writes.typical(peers, now)
	floor := stragglerFloor
	switch {
	case len(last) > 0 && !slices.ContainsFunc(last, func(d cluster.Disk) bool { return !f.s.cfg.Region.DiskSlow(d) }):
		most := cmp.Or(usual, laggardFloor)
		if !slices.ContainsFunc(last, func(d cluster.Disk) bool { return f.s.writes.latest(d.ID, now) <= most }) {
			return 0
		}
		return max(0, most-now.Sub(sent))
	case usual == 0:
		return f.s.cfg.Straggler
	case len(last) > 0 && !slices.ContainsFunc(last, func(d cluster.Disk) bool { return f.keepsPace(d, usual, now) }):
		floor = laggardFloor
	}
	return min(max(floor, stragglerTimes*usual-now.Sub(sent)), f.s.cfg.Straggler)
}

// keepsPace tells whether a disk that writes are waited for is worth the wait.
func (f *fanout) keepsPace(d cluster.Disk, usual time.Duration, now time.Time) bool {
	if f.s.cfg.Region.DiskSlow(d) || f.s.writes.silence(d.ID, now) > max(stragglerFloor, lagTimes*usual) {
		return false // the latter: somebody has waited for it in vain already
	}
	p95 := f.s.writes.p95(d.ID, now)
	return p95 <= laggardFloor || p95 <= lagTimes*usual
}

// patience is a timer of that. It gets shorter when only disks that lag are left.
type patience struct {
	*time.Timer
	until time.Time
}

func newPatience(f *fanout, done erasure.ShardSet, sent time.Time) *patience {
	d := f.patience(done, sent)
	return &patience{time.NewTimer(d), time.Now().Add(d)}
}

// less is called after each answer.
func (p *patience) less(f *fanout, done erasure.ShardSet, sent time.Time) {
	now := time.Now()
	if d := f.patience(done, sent); now.Before(p.until) && now.Add(d).Before(p.until) {
		p.until = now.Add(d)
		p.Reset(d)
	}
}

const (
	stragglerFloor = 500 * time.Millisecond
	laggardFloor   = 50 * time.Millisecond
	stragglerTimes = 4
)

// chunkBuffer is the memory of one chunk: a buffer for each shard, aligned so that
// a disk can write it directly. Each is given back when the last that uses it lets
// go, so that a call that never returns keeps its own shards and nothing else.
type chunkBuffer struct {
	shards [][]byte       // by index; nil where there is none
	users  []atomic.Int32 // likewise
	left   atomic.Int32   // shards that somebody still uses
	put    func(i int, p []byte)
	last   func() // after the last; may be nil
	// together is how many bytes are given back by last alone.
	together int64
}

// newChunkBuffer is held by its maker, as a whole, until freeAll.
func newChunkBuffer(shards [][]byte, put func(i int, p []byte), last func()) *chunkBuffer {
	b := &chunkBuffer{shards: shards, users: make([]atomic.Int32, len(shards)), put: put, last: last}
	b.left.Store(int32(len(shards)))
	for i := range b.users {
		b.users[i].Store(1)
	}
	return b
}

func (b *chunkBuffer) hold(list []int) {
	for _, i := range list {
		b.users[i].Add(1)
	}
}

// inUse is how many bytes calls keep, beside the maker.
func (b *chunkBuffer) inUse() (bytes int64) {
	for i, p := range b.shards {
		if b.users[i].Load() > 1 {
			bytes += int64(len(p))
		}
	}
	return max(bytes, b.together)
}

func (b *chunkBuffer) drop(list []int) {
	for _, i := range list {
		if b.users[i].Add(-1) > 0 {
			continue
		}
		b.put(i, b.shards[i])
		if b.left.Add(-1) == 0 && b.last != nil {
			b.last()
		}
	}
}

// freeAll ends the hold of its maker.
func (b *chunkBuffer) freeAll() {
	for i := range b.shards {
		b.drop([]int{i})
	}
}
