package upkeep

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
)

// listPage is how many shards of one owner are in memory at a time.
const listPage = 1000

// listTimeout is for one page to arrive.
const listTimeout = 10 * time.Second

// comparison is of one placement group of which the disk owns one shard.
type comparison struct {
	r      *Restorer
	d      RestoreDisk
	layout *cluster.Layout
	pg     cluster.PG
	index  cluster.ShardIndex
}

// run walks the lists of all other owners at once, chunk by chunk. An owner that
// cannot be heard does not end it, but then the group is not done.
func (c *comparison) run(ctx context.Context) error {
	var owners []*ownerList
	for i := range c.layout.Groups[c.pg] {
		if i := cluster.ShardIndex(i); i != c.index {
			owners = append(owners, &ownerList{c: c, disk: c.layout.Disk(c.pg, i), index: i})
		}
	}
	var unheard error
	for {
		var next *cluster.ShardInfo
		for _, o := range owners {
			head, err := o.head(ctx)
			if err != nil {
				unheard = cmp.Or(unheard, err)
				continue
			}
			if head != nil && (next == nil || compareChunks(head.Key, next.Key) < 0) {
				next = head
			}
		}
		if next == nil {
			return unheard
		}
		chunk := *next
		holders := 0
		for _, o := range owners {
			if o.pass(chunk.Key) {
				holders++
			}
		}
		if err := c.want(ctx, chunk, holders); err != nil {
			if ctx.Err() != nil || c.d.Failed() != nil {
				return err
			}
			unheard = cmp.Or(unheard, err)
		}
	}
}

// want sees to it that the disk has its shard of a chunk that others hold shards
// of.
func (c *comparison) want(ctx context.Context, other cluster.ShardInfo, holders int) error {
	key := other.Key
	key.Index = c.index
	if int(c.index) >= 2*other.Profile.PerZone() || holders < int(other.Profile.K) {
		return nil // of a narrower profile; or a rest of what was deleted or never finished
	}
	_, err := c.d.Stat(key)
	if !errors.Is(err, cluster.ErrNotFound) {
		return err
	}
	m := c.r.cfg.Mender
	select {
	case m.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.room }()
	s, err := m.rebuild(ctx, disk.DamagedShard{Key: key, Profile: other.Profile, Bytes: other.Bytes})
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	s.Generation = other.Generation
	if err := c.d.Append(ctx, []cluster.Shard{s}); err != nil {
		return err
	}
	n := len(s.Payload)
	disk.PutBuffer(s.Payload[:cap(s.Payload)])
	c.r.shards.Inc()
	c.r.report(c.d.ID(), func(p *RestoreProgress) { p.Restored++; p.Bytes += int64(n) })
	return nil
}

// ownerList is the list of one other owner of the group, page by page.
type ownerList struct {
	c     *comparison
	disk  cluster.Disk
	index cluster.ShardIndex
	page  []cluster.ShardInfo
	after *cluster.ShardKey
	ended bool
	err   error
}

// head is the next shard of the list; nil at its end. After an error there is
// nothing more.
func (o *ownerList) head(ctx context.Context) (*cluster.ShardInfo, error) {
	for len(o.page) == 0 && !o.ended && o.err == nil {
		o.fetch(ctx)
	}
	if o.err != nil || len(o.page) == 0 {
		return nil, o.err
	}
	return &o.page[0], nil
}

func (o *ownerList) fetch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	page, err := o.c.r.cfg.Lists.ListShards(ctx, o.disk.Node, o.disk.ID, o.c.pg, o.after, listPage)
	if err != nil {
		o.err = fmt.Errorf("list of disk %s: %w", o.disk.ID, err)
		return
	}
	o.ended = len(page) < listPage
	if len(page) > 0 {
		o.after = &page[len(page)-1].Key
	}
	for _, s := range page {
		if s.Key.Index == o.index { // others are what an earlier layout has left
			o.page = append(o.page, s)
		}
	}
}

// pass steps over the chunk and tells whether the list had it.
func (o *ownerList) pass(k cluster.ShardKey) bool {
	if o.err != nil || len(o.page) == 0 || compareChunks(o.page[0].Key, k) != 0 {
		return false
	}
	o.page = o.page[1:]
	return true
}

func compareChunks(a, b cluster.ShardKey) int {
	return cmp.Or(bytes.Compare(a.Blob[:], b.Blob[:]), cmp.Compare(a.Chunk, b.Chunk))
}
