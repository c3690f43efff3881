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
	f := &flight{shard: i, buf: r.s.cfg.Buffers.Get(r.rowsLen)}
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
	left := r.flying
	for _, f := range left {
		if f.settled.CompareAndSwap(false, true) {
			r.reserved -= int64(len(f.buf))
			r.flying = without(r.flying, f)
		}
	}
	for len(r.flying) > 0 {
		r.take(<-r.answers)
	}
}

func without(list []*flight, f *flight) []*flight {
	return slices.DeleteFunc(slices.Clone(list), func(o *flight) bool { return o == f })
}

// fetch reads the rows of one shard and checks every block (law L7).
func (r *chunkRead) fetch(ctx context.Context, i int, dst []byte) error {
	disk, key := r.place.disk(i), r.place.key(r.blob, r.chunk, i)
	began := time.Now()
	got, err := r.s.cfg.Shards.ReadShard(ctx, disk.Node, disk.ID, key, r.rows, dst)
	if err == nil {
		r.s.latency.observe(disk.ID, time.Since(began))
		if got.Bytes != len(dst) || got.ShardBytes != r.shardLen {
			err = fmt.Errorf("%w: %d bytes of a shard of %d, want %d of %d", cluster.ErrCorrupt, got.Bytes, got.ShardBytes, len(dst), r.shardLen)
		} else if bad, ok := erasure.Verify(dst, got.Sums); !ok {
			err = fmt.Errorf("%w: block %d", cluster.ErrCorrupt, int(r.rows.First)+bad)
		}
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, cluster.ErrCorrupt) || errors.Is(err, cluster.ErrNotFound) {
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
