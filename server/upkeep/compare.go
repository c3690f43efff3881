package upkeep

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"

	"golang.org/x/sync/errgroup"
)

// ShardLister lists the shards of any node's disks in key order.
type ShardLister interface {
	ListShards(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error)
}

// FillDisk is a disk of this node that is given what it lacks.
type FillDisk interface {
	ID() cluster.DiskID
	Failed() error
	Stat(cluster.ShardKey) (cluster.ShardInfo, error)
	Append(ctx context.Context, shards []cluster.Shard) error
	Check(ctx context.Context, key cluster.ShardKey) error
}

const (
	listPage    = 1000             // shards of one list in memory at a time
	listTimeout = 10 * time.Second // for one page to arrive
	fillBatch   = 32               // shards that are fetched beside each other and share a sync
	fillBytes   = 8 << 20          // of them at most, or one
)

// comparison gives a disk what it lacks of one slot: it walks the lists of those who
// hold shards of the group, chunk by chunk. Shards of the slot itself are copied from
// those who held it before; others are rebuilt if k exist. The lists of its own zone
// are walked first, and those of the other only if they leave something open.
type comparison struct {
	lists  ShardLister
	mender *Mender
	d      FillDisk
	layout *cluster.Layout
	slot   cluster.Slot
	near   bool // the own zone may tell everything (gaps.nearby)
	filled func(shards int, bytes int64, copied bool)

	batch []lack
	size  int64
	few   bool // a chunk was lacking of which too few lists had a shard
}

// lack is a shard that the disk does not have.
type lack struct {
	info cluster.ShardInfo // under the key that it will have
	from []cluster.Disk    // that have it
}

// outcome tells what a comparison could not do; all nil is all well.
type outcome struct {
	before error // a list of one who held the slot before could not be had
	others error // a list of another owner could not be had
	filled error // a shard could be neither copied nor rebuilt
	loss   bool  // one who held the slot before has lost some of it
	wide   bool  // the lists of both zones were walked
}

// run fills the slot. An owner that cannot be heard does not end it.
func (c *comparison) run(ctx context.Context) (outcome, error) {
	if c.near {
		l := listsOf(c.lists, c.layout, c.slot, c.d.ID())
		o, err := c.over(ctx, l.before, l.own)
		if err != nil || !c.few && sure(l.before) && sure(l.own) {
			return o, err
		}
	}
	l := listsOf(c.lists, c.layout, c.slot, c.d.ID())
	o, err := c.over(ctx, l.before, l.others())
	o.wide = true
	return o, err
}

// over is one walk over some of the lists.
func (c *comparison) over(ctx context.Context, before, others []*shardList) (o outcome, err error) {
	c.few = false
	all := append(before[:len(before):len(before)], others...)
	err = walk(ctx, all, func(chunk cluster.ShardInfo, on []*shardList) error {
		lacks, err := c.wants(chunk, on)
		if err != nil || lacks == nil {
			return err
		}
		c.batch = append(c.batch, *lacks)
		if c.size += int64(lacks.info.Bytes); len(c.batch) < fillBatch && c.size < fillBytes {
			return nil
		}
		return c.flush(ctx, &o)
	})
	if err == nil {
		err = c.flush(ctx, &o)
	}
	for _, l := range before {
		o.before = cmp.Or(o.before, l.err)
		o.loss = o.loss || l.doubtful
	}
	for _, l := range others {
		o.others = cmp.Or(o.others, l.err)
	}
	return o, err
}

// wants tells what the disk lacks of a chunk that others hold shards of.
func (c *comparison) wants(chunk cluster.ShardInfo, on []*shardList) (*lack, error) {
	l := lack{info: chunk}
	l.info.Key.Index = c.slot.Index
	var holders uint64 // by index
	for _, list := range on {
		if list.slot == c.slot {
			l.from = append(l.from, list.disk)
			l.info.Generation = max(l.info.Generation, list.passed.Generation)
		} else {
			holders |= 1 << list.slot.Index
		}
	}
	if !chunk.Profile.Takes(c.slot.Index) {
		return nil, nil // of a narrower profile or another class
	}
	_, err := c.d.Stat(l.info.Key)
	if !errors.Is(err, cluster.ErrNotFound) {
		return nil, err
	}
	if len(l.from) == 0 && bits.OnesCount64(holders) < int(chunk.Profile.K) {
		c.few = true // if these are all: a rest of what was deleted or never finished
		return nil, nil
	}
	return &l, nil
}

// flush fetches what was found lacking, stores it with one sync and reads it back.
// The error is that of the disk or of ctx; it ends the comparison.
func (c *comparison) flush(ctx context.Context, o *outcome) error {
	batch := c.batch
	c.batch, c.size = nil, 0
	if len(batch) == 0 {
		return nil
	}
	shards, errs := make([]cluster.Shard, len(batch)), make([]error, len(batch))
	copied := make([]bool, len(batch))
	var g errgroup.Group
	for i, l := range batch {
		g.Go(func() error {
			shards[i], copied[i], errs[i] = c.mender.obtain(ctx, l)
			return nil
		})
	}
	_ = g.Wait() // each error is in errs
	if err := ctx.Err(); err != nil {
		return err
	}
	var got []cluster.Shard
	for i, err := range errs {
		if err == nil {
			got = append(got, shards[i])
		} else if o.filled == nil {
			o.filled = fmt.Errorf("%s: %w", batch[i].info.Key, err)
		}
	}
	if len(got) > 0 {
		if err := c.d.Append(ctx, got); err != nil {
			return err
		}
	}
	for i, err := range errs {
		if err != nil {
			continue
		}
		// What was deleted meanwhile is gone, and that is well.
		if err := c.d.Check(ctx, shards[i].Key); err != nil && !errors.Is(err, cluster.ErrNotFound) {
			o.filled = cmp.Or(o.filled, err)
			continue
		}
		c.filled(1, int64(len(shards[i].Payload)), copied[i])
		disk.PutBuffer(shards[i].Payload[:cap(shards[i].Payload)])
	}
	return nil
}

// obtain copies a shard from one that has it or, if none gives a good one, rebuilds
// it.
func (m *Mender) obtain(ctx context.Context, l lack) (s cluster.Shard, copied bool, err error) {
	select {
	case m.room <- struct{}{}:
	case <-ctx.Done():
		return s, false, ctx.Err()
	}
	defer func() { <-m.room }()
	var failed error
	for _, from := range l.from {
		if s, err = m.copyFrom(ctx, from, l.info); err == nil {
			return s, true, nil
		}
		failed = err
	}
	s, err = m.rebuild(ctx, disk.DamagedShard{Key: l.info.Key, Profile: l.info.Profile, Bytes: l.info.Bytes})
	if err != nil && failed != nil {
		err = fmt.Errorf("%w; nor copied: %w", err, failed)
	}
	s.Generation = l.info.Generation
	return s, false, err
}

// copyFrom reads one whole shard of a disk, verified (law L7).
func (m *Mender) copyFrom(ctx context.Context, from cluster.Disk, info cluster.ShardInfo) (cluster.Shard, error) {
	if info.Bytes < 1 || info.Bytes > cluster.MaxShardBytes {
		return cluster.Shard{}, fmt.Errorf("%w: a shard of %d bytes", cluster.ErrInvalid, info.Bytes)
	}
	if err := m.spend(ctx, int64(info.Bytes)); err != nil {
		return cluster.Shard{}, err
	}
	b, sums, err := m.readWhole(ctx, from, info.Key, info.Bytes, true)
	if err != nil {
		return cluster.Shard{}, err
	}
	return cluster.Shard{Key: info.Key, Profile: info.Profile, Generation: info.Generation, Sums: sums, Payload: b}, nil
}

// walk goes through several lists of one group at once, chunk by chunk in order.
// visit gets one row of each chunk and the lists that have it. A list that fails
// keeps its error and ends; the others go on.
func walk(ctx context.Context, lists []*shardList, visit func(cluster.ShardInfo, []*shardList) error) error {
	on := make([]*shardList, 0, len(lists))
	for {
		var next *cluster.ShardInfo
		for _, l := range lists {
			head := l.head(ctx)
			if head != nil && (next == nil || compareChunks(head.Key, next.Key) < 0) {
				next = head
			}
		}
		if err := ctx.Err(); err != nil || next == nil {
			return err
		}
		chunk := *next
		on = on[:0]
		for _, l := range lists {
			if l.pass(chunk.Key) {
				on = append(on, l)
			}
		}
		if err := visit(chunk, on); err != nil {
			return err
		}
	}
}

// shardList is what one disk holds of one slot, page by page.
type shardList struct {
	lists ShardLister
	disk  cluster.Disk
	slot  cluster.Slot
	limit int             // of one page [listPage]
	to    *cluster.BlobID // the last blob that is wanted; nil: all

	page   []cluster.ShardInfo
	passed cluster.ShardInfo // the row that pass stepped over last
	after  *cluster.ShardKey
	ended  bool
	err    error

	doubtful bool // its disk knows of a loss, or does not say: there may be more
}

// head is the next row; nil at the end and after an error.
func (l *shardList) head(ctx context.Context) *cluster.ShardInfo {
	for len(l.page) == 0 && !l.ended && l.err == nil {
		l.fetch(ctx)
	}
	if l.err != nil || len(l.page) == 0 {
		return nil
	}
	return &l.page[0]
}

func (l *shardList) fetch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	limit := cmp.Or(l.limit, listPage)
	got, err := l.lists.ListShards(ctx, l.disk.Node, l.disk.ID, l.slot.PG, l.after, limit)
	if err != nil {
		l.err = fmt.Errorf("list of disk %s: %w", l.disk.ID, err)
		return
	}
	l.doubtful = l.doubtful || !got.Whole
	page := got.Rows
	l.ended = len(page) < limit
	if l.to != nil {
		end := slices.IndexFunc(page, func(s cluster.ShardInfo) bool { return bytes.Compare(s.Key.Blob[:], l.to[:]) > 0 })
		if end >= 0 {
			page, l.ended = page[:end], true
		}
	}
	if len(page) > 0 {
		l.after = &page[len(page)-1].Key
	}
	for _, s := range page {
		if s.Key.Index == l.slot.Index { // others are what an earlier layout has left
			l.page = append(l.page, s)
		}
	}
}

// pass steps over the chunk and tells whether the list had it.
func (l *shardList) pass(k cluster.ShardKey) bool {
	if l.err != nil || len(l.page) == 0 || compareChunks(l.page[0].Key, k) != 0 {
		return false
	}
	l.passed = l.page[0]
	l.page = l.page[1:]
	return true
}

func compareChunks(a, b cluster.ShardKey) int {
	return cmp.Or(bytes.Compare(a.Blob[:], b.Blob[:]), cmp.Compare(a.Chunk, b.Chunk))
}
