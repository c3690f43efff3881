package object

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

type shardAnswer struct {
	flight *flight
	err    error
}

// flight is the read of one shard under way. Whoever settles it first, the read
// by its end or the reader by leaving it, decides whose the buffer is.
type flight struct {
	shard   int
	buf     []byte
	up      bool // its disk was when it was asked
	settled atomic.Bool
}

func (r *chunkRead) inFlight() erasure.ShardSet {
	var set erasure.ShardSet
	for _, f := range r.flying {
		set = set.With(erasure.ShardIndex(f.shard))
	}
	return set
}

// start asks for one shard.
func (r *chunkRead) start(ctx context.Context, i int) {
	f := &flight{shard: i, buf: r.s.cfg.Buffers.Get(r.rowsLen), up: r.place.up(r.s.cfg.Region, i)}
	r.tried = r.tried.With(erasure.ShardIndex(i))
	r.flying = append(r.flying, f)
	size := int64(r.rowsLen)
	go func() { // one that is left behind ends with its call, and owes nobody anything
		err := r.fetch(ctx, i, f.buf)
		if f.settled.CompareAndSwap(false, true) {
			r.answers <- shardAnswer{f, err}
			return
		}
		r.s.cfg.Buffers.Put(f.buf)
		r.s.release(size)
	}()
}

// leave settles what is still under way: nobody waits for the slow ones, which
// take their memory and its part of the budget along.
func (r *chunkRead) leave() {
	for _, f := range r.flying {
		r.abandon(f)
	}
	for len(r.flying) > 0 {
		r.take(<-r.answers)
	}
}

// abandon leaves one read unless its answer is there already.
func (r *chunkRead) abandon(f *flight) bool {
	if !f.settled.CompareAndSwap(false, true) {
		return false
	}
	r.reserved -= int64(len(f.buf))
	r.flying = without(r.flying, f)
	return true
}

// letGo abandons the reads of disks that went down since they were asked: no answer
// is to be had, and others take their place at once. Those that were down when they
// were asked had nobody to take their place.
func (r *chunkRead) letGo() {
	for _, f := range r.flying {
		if f.up && !r.place.up(r.s.cfg.Region, f.shard) && r.abandon(f) {
			r.short.cause(fmt.Errorf("disk %s: %w: it went down", r.place.disk(f.shard).ID, cluster.ErrUnreachable))
		}
	}
}

func without(list []*flight, f *flight) []*flight {
	return slices.DeleteFunc(slices.Clone(list), func(o *flight) bool { return o == f })
}

// fetch reads the rows of one shard from its owner or, while its slot is moving,
// from who held it before.
func (r *chunkRead) fetch(ctx context.Context, i int, dst []byte) error {
	key := r.place.key(r.blob, r.chunk, i)
	holders := r.place.holders(r.s.cfg.Region, i)
	var first error
	absent := true
	for _, disk := range holders {
		err := r.fetchFrom(ctx, disk, key, dst)
		if err == nil {
			return nil
		}
		absent = absent && errors.Is(err, cluster.ErrNotFound)
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			return first
		}
	}
	if absent {
		r.s.cfg.Damage.Damaged(r.place.disk(i).ID, key, first)
	}
	return first
}

// fetchFrom reads the rows of one shard and checks every block (law L7).
func (r *chunkRead) fetchFrom(ctx context.Context, disk cluster.Disk, key cluster.ShardKey, dst []byte) error {
	began := time.Now()
	r.s.reads.begin(disk.ID, began)
	got, err := r.s.cfg.Shards.ReadShard(ctx, disk.Node, disk.ID, key, r.rows, dst)
	how := endDone
	switch {
	case ctx.Err() != nil && err != nil:
		how = endLeft
	case err != nil:
		how = endFailed
	}
	r.s.reads.end(disk.ID, began, time.Now(), how)
	if err == nil {
		if got.Bytes != len(dst) || got.ShardBytes != r.shardLen {
			err = fmt.Errorf("%w: %d bytes of a shard of %d, want %d of %d", cluster.ErrCorrupt, got.Bytes, got.ShardBytes, len(dst), r.shardLen)
		} else if bad, ok := erasure.Verify(dst, got.Sums); !ok {
			err = fmt.Errorf("%w: block %d", cluster.ErrCorrupt, int(r.rows.First)+bad)
		}
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, cluster.ErrCorrupt) {
		r.s.cfg.Damage.Damaged(disk.ID, key, err)
	}
	return fmt.Errorf("disk %s: %s: %w", disk.ID, key, err)
}

func (r *chunkRead) take(a shardAnswer) {
	f := a.flight
	r.flying = without(r.flying, f)
	if a.err == nil {
		r.got = r.got.With(erasure.ShardIndex(f.shard))
		r.bufs[f.shard] = f.buf
		return
	}
	r.s.cfg.Buffers.Put(f.buf)
	if !errors.Is(a.err, context.Canceled) {
		r.s.metrics.shardFailed("read")
		r.short.cause(a.err)
	}
}
