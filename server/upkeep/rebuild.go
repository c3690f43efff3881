package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/erasure"

	"golang.org/x/sync/errgroup"
)

// repair is the rebuilding of one shard, or of several of one chunk.
type repair struct {
	m      *Mender
	layout *cluster.Layout
	geo    erasure.Geometry
	shard  disk.DamagedShard // its index counts for no more than skip says
	skip   erasure.ShardSet  // not to be read

	shards [][]byte // by index: whole and verified, or nil
	got    int
	cause  error // of the first read that failed
}

// mend rebuilds a shard and puts it back in the place of the damaged one.
func (m *Mender) mend(ctx context.Context, d MendDisk, s disk.DamagedShard) error {
	shard, err := m.rebuild(ctx, s)
	if err != nil {
		return err
	}
	// The disk compares the sums with those it knows: a wrong rebuild is refused.
	if err = d.Mend(ctx, shard); err == nil {
		m.shards.Inc()
		disk.PutBuffer(shard.Payload[:cap(shard.Payload)]) // else a disk that hangs may still use it
	}
	return err
}

// rebuild makes a shard out of k others. All shards of a chunk have the same
// length, so no metadata is asked.
func (m *Mender) rebuild(ctx context.Context, s disk.DamagedShard) (cluster.Shard, error) {
	r := &repair{m: m, layout: m.cfg.Layout(), geo: erasure.Geometry{K: int(s.Profile.K), M: s.Profile.Extra()}, shard: s,
		skip: erasure.SetOf(erasure.ShardIndex(s.Key.Index))}
	if err := r.check(); err != nil {
		return cluster.Shard{}, err
	}
	r.shards = make([][]byte, r.geo.Shards())
	defer r.free()
	if err := r.gather(ctx); err != nil {
		return cluster.Shard{}, err
	}
	codec, err := m.codecs.Get(r.geo)
	if err != nil {
		return cluster.Shard{}, err
	}
	index := erasure.ShardIndex(s.Key.Index)
	shards := append([][]byte(nil), r.shards...)
	shards[index] = disk.GetBuffer(s.Bytes)[:0]
	if err := codec.ReconstructShards(shards, erasure.SetOf(index)); err != nil {
		return cluster.Shard{}, err
	}
	return cluster.Shard{Key: s.Key, Profile: s.Profile, Generation: s.Generation + 1,
		Sums: erasure.Sums(nil, shards[index]), Payload: shards[index]}, nil
}

// check refuses what cannot be a shard of this region.
func (r *repair) check() error {
	pg, s := int(r.shard.Key.PG), r.shard
	switch {
	case r.layout == nil:
		return fmt.Errorf("%w: the region has no layout yet", cluster.ErrUnreachable)
	case r.geo.Validate() != nil:
		return fmt.Errorf("%w: profile %+v", cluster.ErrInvalid, s.Profile)
	case pg >= len(r.layout.Groups) || len(r.layout.Groups[pg]) < r.geo.Shards() || !s.Profile.Takes(s.Key.Index):
		return fmt.Errorf("%w: the layout has no place for %s of profile %+v", cluster.ErrInvalid, s.Key, s.Profile)
	case s.Bytes < 1 || s.Bytes > cluster.MaxShardBytes:
		return fmt.Errorf("%w: a shard of %d bytes", cluster.ErrInvalid, s.Bytes)
	}
	return nil
}

func (r *repair) free() {
	for _, b := range r.shards {
		if b != nil {
			disk.PutBuffer(b)
		}
	}
}

// order lists the other shards: this zone before the other, so that no byte
// crosses while the zone holds k good ones, and disks that seem down last.
func (r *repair) order() []cluster.ShardIndex {
	var class [4][]cluster.ShardIndex
	for i := range cluster.ShardIndex(r.geo.Shards()) {
		if r.skip.Has(erasure.ShardIndex(i)) || !r.shard.Profile.Takes(i) {
			continue
		}
		c := 0
		if !r.own(i) {
			c = 1
		}
		if !slices.ContainsFunc(r.layout.Holders(r.shard.Key.PG, i), r.m.cfg.DiskUp) {
			c += 2
		}
		class[c] = append(class[c], i)
	}
	return append(append(append(class[0], class[1]...), class[2]...), class[3]...)
}

func (r *repair) own(i cluster.ShardIndex) bool {
	return r.layout.ZoneOf(r.shard.Key.PG, i) == r.m.cfg.Zone
}

// gather reads shards in order until k are there, as many at a time as are still
// needed.
func (r *repair) gather(ctx context.Context) error {
	for order := r.order(); r.got < r.geo.K && len(order) > 0; {
		n := min(r.geo.K-r.got, len(order))
		if err := r.m.spend(ctx, int64(n)*int64(r.shard.Bytes)); err != nil {
			return err
		}
		errs := make([]error, n)
		var g errgroup.Group
		for j, i := range order[:n] {
			g.Go(func() error { r.shards[i], errs[j] = r.read(ctx, i); return nil })
		}
		_ = g.Wait() // each result is in errs
		for _, err := range errs {
			switch {
			case err == nil:
				r.got++
			case r.cause == nil:
				r.cause = err
			}
		}
		order = order[n:]
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.got < r.geo.K {
		// Not %w: that another shard is missing does not mean that this one is.
		return fmt.Errorf("%w: %d of %d shards: %v", errTooFew, r.got, r.geo.K, r.cause)
	}
	return nil
}

var errTooFew = errors.New("cannot be mended now")

// read is one other shard, whole and verified (law L7), from its owner or, while
// its slot is moving, from who held it before.
func (r *repair) read(ctx context.Context, i cluster.ShardIndex) ([]byte, error) {
	key := r.shard.Key
	key.Index = i
	var first error
	for _, from := range r.layout.Holders(key.PG, i) {
		b, _, err := r.m.readWhole(ctx, from, key, r.shard.Bytes, r.own(i))
		if err == nil {
			return b, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// readWhole reads a whole shard of so many bytes into a buffer, with its sums, and
// verifies it. own tells whether it comes from this node's zone.
func (m *Mender) readWhole(ctx context.Context, from cluster.Disk, key cluster.ShardKey, bytes int, own bool) ([]byte, []uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.ReadTimeout)
	defer cancel()
	b := disk.GetBuffer(bytes)
	got, err := m.readOrLeave(ctx, from, key, b)
	if err == nil {
		label := "other"
		if own {
			label = "own"
		}
		m.bytes.WithLabelValues(label).Add(float64(got.Bytes))
		if got.Bytes != len(b) || got.ShardBytes != len(b) {
			err = fmt.Errorf("%w: %d bytes of a shard of %d, want %d", cluster.ErrCorrupt, got.Bytes, got.ShardBytes, len(b))
		} else if bad, ok := verifyShard(b, got.Sums); !ok {
			err = fmt.Errorf("%w: block %d", cluster.ErrCorrupt, bad)
		}
	}
	if err == nil {
		return b, got.Sums, nil
	}
	// b is left to the garbage collector: a disk that hangs may still write to it.
	if errors.Is(err, cluster.ErrCorrupt) {
		m.cfg.Reports.Damaged(from.ID, key, err)
	}
	return nil, nil, fmt.Errorf("disk %s: %s: %w", from.ID, key, err)
}

// readOrLeave is ReadShard for as long as ctx lasts: a call that a disk which hangs
// does not give back is left behind, with its buffer.
func (m *Mender) readOrLeave(ctx context.Context, from cluster.Disk, key cluster.ShardKey, b []byte) (cluster.BlockRead, error) {
	type answer struct {
		got cluster.BlockRead
		err error
	}
	done := make(chan answer, 1)
	go func() {
		got, err := m.cfg.Shards.ReadShard(ctx, from.Node, from.ID, key, cluster.BlockRange{}, b)
		done <- answer{got, err}
	}()
	select {
	case a := <-done:
		return a.got, a.err
	case <-ctx.Done():
		return cluster.BlockRead{}, fmt.Errorf("%w: %w", cluster.ErrUnreachable, ctx.Err())
	}
}

// spend waits until so many bytes may be read.
func (m *Mender) spend(ctx context.Context, bytes int64) error {
	m.mu.Lock()
	d := m.pace.take(bytes, float64(m.cfg.Rate))
	m.mu.Unlock()
	if !sleep(ctx, d) {
		return ctx.Err()
	}
	return nil
}
