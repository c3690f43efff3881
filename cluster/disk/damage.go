package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
)

// maxDamaged bounds what is remembered one by one; what is found beyond it is
// counted, and found again once there is room.
const maxDamaged = 64 << 10

// DamagedShard is a shard whose record does not hold what it should.
type DamagedShard struct {
	Key        cluster.ShardKey
	Profile    cluster.Profile
	Generation uint32
	Bytes      int // of the payload
	Since      time.Time
	Reason     string
}

// damage remembers the damaged shards of a disk until they are mended, replaced
// or deleted. It does not outlive the process: a reader or the scrub finds the
// damage again.
type damage struct {
	mu            sync.Mutex
	known         map[cluster.ShardKey]DamagedShard
	found, mended int64
	news          chan struct{} // closed at the next find
}

// see remembers that the record at p did not read as it should. An error that
// says nothing about what is on the medium does not count.
func (g *damage) see(k cluster.ShardKey, p place, err error, now time.Time) {
	if !errors.Is(err, cluster.ErrCorrupt) && !isMediumError(err) || errors.Is(err, errIndex) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, again := g.known[k]; again {
		return
	}
	g.found++
	if len(g.known) >= maxDamaged {
		return
	}
	if g.known == nil {
		g.known = map[cluster.ShardKey]DamagedShard{}
	}
	g.known[k] = DamagedShard{Key: k, Profile: p.profile, Generation: p.gen, Bytes: int(p.length), Since: now, Reason: err.Error()}
	if g.news != nil {
		close(g.news)
		g.news = nil
	}
}

func (g *damage) forget(k cluster.ShardKey) {
	g.mu.Lock()
	delete(g.known, k)
	g.mu.Unlock()
}

func (g *damage) counts() (now, found, mended int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int64(len(g.known)), g.found, g.mended
}

// Damaged lists up to limit shards that are known to be damaged, oldest first.
func (d *Disk) Damaged(limit int) []DamagedShard {
	g := &d.damage
	g.mu.Lock()
	out := make([]DamagedShard, 0, len(g.known))
	for _, s := range g.known {
		out = append(out, s)
	}
	g.mu.Unlock()
	slices.SortFunc(out, func(a, b DamagedShard) int {
		return cmp.Or(a.Since.Compare(b.Since), compareKeys(a.Key, b.Key))
	})
	return out[:min(len(out), max(0, limit))]
}

// DamageFound is closed when the next shard is found damaged.
func (d *Disk) DamageFound() <-chan struct{} {
	g := &d.damage
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.news == nil {
		g.news = make(chan struct{})
	}
	return g.news
}

// Mend writes the content of a shard again, at the next generation, and returns
// when it is durable. ErrNotFound when the key does not live (any more): a shard
// that was deleted stays deleted. ErrInvalid when the content is not that of the
// shard as it was first appended, so that no wrong rebuild can take its place.
// Other errors are as for Append; Generation is not looked at. When the disk hangs
// Mend returns all the same, and the payload's memory is still in use.
func (d *Disk) Mend(ctx context.Context, s cluster.Shard) error {
	return leaveErr(ctx, d, func() error { return d.mend(ctx, s) })
}

func (d *Disk) mend(ctx context.Context, s cluster.Shard) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.users.Done()
	if err := d.Failed(); err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("disk %s: mend %s: %w", d.owner.disk, s.Key, err) }
	if err := checkShard(&s); err != nil {
		return fail(err)
	}
	keys := []cluster.ShardKey{s.Key}
	if err := d.claims.take(ctx, keys, d.hung); err != nil {
		return err
	}
	defer d.claims.release(keys)
	old, found, err := d.lookup(s.Key)
	if err == nil && !found {
		d.damage.forget(s.Key)
		err = cluster.ErrNotFound
	}
	if err == nil && contentHash(s.Profile, len(s.Payload), s.Sums) != old.content {
		err = fmt.Errorf("%w: not the bytes that were stored", cluster.ErrInvalid)
	}
	if err != nil {
		return fail(err)
	}
	kind := smallSegment
	if len(s.Payload) >= LargeBytes {
		kind = largeSegment
	}
	req := newRequest()
	defer req.free()
	req.add(write{
		header:  header{kind: kindShard, key: s.Key, profile: s.Profile, gen: old.gen + 1, length: uint32(len(s.Payload)), sums: s.Sums, target: d.priorFor(old)},
		payload: s.Payload, content: old.content, old: old, replaces: true,
	}, kind)
	if err := d.writerOf(kind).submit(ctx, req); err != nil {
		return err
	}
	d.damage.mu.Lock()
	d.damage.mended++
	d.damage.mu.Unlock()
	return nil
}
