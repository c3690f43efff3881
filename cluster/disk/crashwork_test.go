package disk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
)

// noise is what payloads are cut from.
var noise = disktest.Shard(cluster.ShardKey{}, 1<<20, 1).Payload

const (
	crashKeys  = 12 // of each writer
	crashSteps = 25 // of each writer and round
)

// work writes until the end comes, or for a while, and checks the disk if it
// did not come.
func (c *crash) work(ctx context.Context, d *Disk) error {
	for range crashSteps {
		c.step++
		if err := c.together(ctx, d); err != nil {
			return err
		}
		if d.Failed() != nil {
			return c.failure(d, d.Failed())
		}
	}
	return c.model.check(ctx, d)
}

// together lets each writer do one thing: at once, or one after the other.
func (c *crash) together(ctx context.Context, d *Disk) error {
	var work []func() error
	for w := range crashPGs {
		r := rand.New(rand.NewPCG(c.rng.Uint64(), 1))
		work = append(work, func() error { return c.one(ctx, d, r, cluster.PG(w)) })
	}
	if c.rng.IntN(6) == 0 {
		full := c.rng.IntN(3) > 0
		work = append(work, func() error { return c.failure(d, d.upkeep(ctx, full)) })
	}
	if !c.many {
		for _, f := range work {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, len(work))
	var wg sync.WaitGroup
	for i, f := range work {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// failure passes what is no consequence of the end of the round.
func (c *crash) failure(d *Disk, err error) error {
	c.power.mu.Lock()
	defer c.power.mu.Unlock()
	if err == nil || ours(err) || c.power.over && d.Failed() != nil && errors.Is(err, cluster.ErrDiskFailed) {
		return nil
	}
	return fmt.Errorf("nothing had failed: %w", err)
}

// one does one thing to the keys of one writer.
func (c *crash) one(ctx context.Context, d *Disk, r *rand.Rand, pg cluster.PG) error {
	key := func() cluster.ShardKey { return disktest.Key(pg, r.IntN(crashKeys)) }
	switch r.IntN(10) {
	case 0, 1, 2:
		var keys []cluster.ShardKey
		for range 1 + r.IntN(3) {
			keys = append(keys, key())
		}
		return c.delete(ctx, d, keys)
	case 3:
		_, err := c.model.find(ctx, d, key())
		return c.failure(d, err)
	case 4: // again what was asked for last, as a client does that heard nothing
		k := key()
		s := c.model.last(k)
		if s == nil {
			return c.delete(ctx, d, []cluster.ShardKey{k})
		}
		return c.append(ctx, d, []cluster.Shard{*s})
	}
	var shards []cluster.Shard
	for range 1 + r.IntN(4) {
		s := crashShard(r, key())
		s.Generation = uint32(c.step)
		if !slices.ContainsFunc(shards, func(o cluster.Shard) bool { return o.Key == s.Key }) {
			shards = append(shards, s)
		}
	}
	return c.append(ctx, d, shards)
}

func crashShard(r *rand.Rand, k cluster.ShardKey) cluster.Shard {
	size := 1 + r.IntN(3000)
	switch r.IntN(12) {
	case 0, 1:
		size = LargeBytes + r.IntN(8<<10)
	case 2:
		size = LargeBytes + r.IntN(LargeBytes)
	case 3:
		size = 1 + r.IntN(LargeBytes)
	}
	p := noise[r.IntN(len(noise)-size):][:size]
	return cluster.Shard{Key: k, Profile: cluster.Profile{K: 4, M: 1}, Payload: p, Sums: disktest.Sums(p)}
}

func (c *crash) append(ctx context.Context, d *Disk, shards []cluster.Shard) error {
	for i := range shards {
		c.model.begin(shards[i].Key, &shards[i])
	}
	err := d.Append(ctx, shards)
	if err == nil {
		for i := range shards {
			c.model.done(shards[i].Key, &shards[i])
		}
	}
	return c.failure(d, err)
}

func (c *crash) delete(ctx context.Context, d *Disk, keys []cluster.ShardKey) error {
	for _, k := range keys {
		c.model.begin(k, nil)
	}
	err := d.Delete(ctx, keys)
	if err == nil {
		for _, k := range keys {
			c.model.done(k, nil)
		}
	}
	return c.failure(d, err)
}
