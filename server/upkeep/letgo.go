package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
)

// letGo removes from one disk what it holds of slots that are not its own any more,
// once those who have them by the layout list it. It looks at every group when the
// disk is opened, then at those that a new layout, or the end of a move, has taken
// from it.
func (m *Mover) letGo(ctx context.Context, d MoveDisk) {
	var seen *cluster.Layout
	todo := map[cluster.PG]bool{}
	wait := m.cfg.Every
	for ; ctx.Err() == nil; sleep(ctx, wait) {
		layout := m.cfg.Layout()
		if layout == nil || d.Failed() != nil {
			continue
		}
		if layout != seen {
			for _, pg := range left(seen, layout, d.ID()) {
				todo[pg] = true
			}
			seen, wait = layout, m.cfg.Every
		}
		var first error
		for pg := range todo {
			if ctx.Err() != nil || m.cfg.Layout() != layout {
				break
			}
			err := m.release(ctx, d, layout, pg)
			if err == nil {
				delete(todo, pg)
			}
			first = cmp.Or(first, err)
		}
		if first != nil {
			m.cfg.Logger.Debug("a disk keeps what others should have", "disk", d.ID().String(), "err", first)
			wait = min(2*wait, m.cfg.Retry)
		}
	}
}

// left lists the groups of which a disk held more slots than it does now; all, if
// it is not known what it held.
func left(before, now *cluster.Layout, id cluster.DiskID) (out []cluster.PG) {
	if before != nil && before.Epoch == now.Epoch {
		for _, mv := range before.Moving {
			if before.Holds(id, mv.Slot.PG, mv.Slot.Index) && !now.Holds(id, mv.Slot.PG, mv.Slot.Index) {
				out = append(out, mv.Slot.PG)
			}
		}
		return out
	}
	for pg := range now.Groups {
		gone := before == nil
		for i := range now.Groups[pg] {
			pg, i := cluster.PG(pg), cluster.ShardIndex(i)
			gone = gone || before.Holds(id, pg, i) && !now.Holds(id, pg, i)
		}
		if gone {
			out = append(out, cluster.PG(pg))
		}
	}
	return out
}

// release lets go of what the disk holds of one group beside its own slots. nil:
// nothing is left that another should have.
func (m *Mover) release(ctx context.Context, d MoveDisk, layout *cluster.Layout, pg cluster.PG) error {
	self := cluster.Disk{ID: d.ID(), Node: m.cfg.Node}
	foreign, err := m.foreign(ctx, self, layout, pg)
	if err != nil {
		return err
	}
	m.keep(self.ID, pg, 0)
	if len(foreign) == 0 {
		return nil
	}
	// An append under an earlier layout may still be on its way here.
	if e, err := m.cfg.Settled(ctx, self); err != nil || e < layout.Epoch {
		return cmp.Or(err, fmt.Errorf("disk %s is still in epoch %d", self.ID, e))
	}
	var first error
	for _, slot := range foreign {
		r := releasing{m: m, d: d, self: self, layout: layout, slot: slot}
		if err := r.run(ctx); err != nil {
			first = cmp.Or(first, fmt.Errorf("%s: %w", slot, err))
		}
	}
	return first
}

// foreign lists the slots of a group of which the disk holds shards that it should
// not. Indices that the layout does not have belong to another profile and stay.
func (m *Mover) foreign(ctx context.Context, self cluster.Disk, layout *cluster.Layout, pg cluster.PG) (out []cluster.Slot, err error) {
	var after *cluster.ShardKey
	for {
		lctx, cancel := context.WithTimeout(ctx, listTimeout)
		page, err := m.cfg.Lists.ListShards(lctx, self.Node, self.ID, pg, after, listPage)
		cancel()
		if err != nil {
			return nil, err
		}
		for _, s := range page.Rows {
			slot := cluster.Slot{PG: pg, Index: s.Key.Index}
			if int(slot.Index) < len(layout.Groups[pg]) && !layout.Holds(self.ID, pg, slot.Index) && !slices.Contains(out, slot) {
				out = append(out, slot)
			}
		}
		if len(page.Rows) < listPage {
			return out, nil
		}
		after = &page.Rows[len(page.Rows)-1].Key
	}
}

// releasing is of one slot that the disk does not hold by the layout.
type releasing struct {
	m      *Mover
	d      MoveDisk
	self   cluster.Disk
	layout *cluster.Layout
	slot   cluster.Slot

	have  []cluster.ShardKey // that a holder of the slot lists too
	lone  int                // that none lists, and the other slots were not asked about
	given int                // that no holder had, and the owner has taken
	kept  int                // that too few others know: rests of what was deleted, or the last there is
}

// releaseBatch is how many shards are removed under one look at the layout.
const releaseBatch = 64

// run walks the disk's own list beside those of the slot's holders and, if they lack
// anything, of all holders of the group. What the slot's holders have is removed here;
// what they lack but k others know is given to the owner first; what too few know is
// left to the orphan sweep, which asks the partition.
func (r *releasing) run(ctx context.Context) error {
	if err := r.over(ctx, false); err != nil || r.lone == 0 {
		return err
	}
	return r.over(ctx, true)
}

// over is one walk, beside all holders of the group or those of the slot alone.
func (r *releasing) over(ctx context.Context, all bool) error {
	own := &shardList{lists: r.m.cfg.Lists, disk: r.self, slot: r.slot}
	lists := []*shardList{own}
	for i := range r.layout.Groups[r.slot.PG] {
		s := cluster.Slot{PG: r.slot.PG, Index: cluster.ShardIndex(i)}
		for _, d := range r.layout.Holders(s.PG, s.Index) {
			if all || s == r.slot {
				lists = append(lists, &shardList{lists: r.m.cfg.Lists, disk: d, slot: s})
			}
		}
	}
	err := walk(ctx, lists, func(_ cluster.ShardInfo, on []*shardList) error {
		if !slices.Contains(on, own) {
			return nil
		}
		for _, l := range lists {
			if l.slot == r.slot && l.err != nil {
				return l.err // it may well have the shard
			}
		}
		return r.judge(ctx, own.passed, on, all)
	})
	if err == nil {
		err = r.remove(ctx)
	}
	for _, l := range lists {
		if l.slot == r.slot || r.kept > 0 {
			err = cmp.Or(err, l.err)
		}
	}
	switch {
	case err != nil:
		return err
	case r.given > 0:
		return fmt.Errorf("%d shards were given to the owner and are compared again", r.given)
	}
	if r.kept > 0 {
		r.m.keep(r.self.ID, r.slot.PG, r.kept)
		return fmt.Errorf("%d shards stay that too few others know", r.kept)
	}
	return nil
}

// judge decides about one shard of the disk.
func (r *releasing) judge(ctx context.Context, mine cluster.ShardInfo, on []*shardList, all bool) error {
	var others uint64 // by index
	for _, l := range on {
		switch {
		case l.slot != r.slot:
			others |= 1 << l.slot.Index
		case l.disk.ID != r.self.ID && l.passed.Bytes == mine.Bytes && l.passed.Profile == mine.Profile && l.passed.Generation >= mine.Generation:
			if r.have = append(r.have, mine.Key); len(r.have) == releaseBatch {
				return r.remove(ctx)
			}
			return nil
		}
	}
	switch {
	case !all:
		r.lone++
		return nil
	case bits.OnesCount64(others) < int(mine.Profile.K):
		r.kept++
		return nil
	}
	return r.give(ctx, mine)
}

// give stores a shard with the owner of its slot. It stays here until the owner
// lists it.
func (r *releasing) give(ctx context.Context, mine cluster.ShardInfo) error {
	s, err := r.m.cfg.Mender.copyFrom(ctx, r.self, mine)
	if err != nil {
		if errors.Is(err, cluster.ErrNotFound) || errors.Is(err, cluster.ErrCorrupt) {
			return nil // deleted meanwhile; or no use to anybody, and the owner's to rebuild
		}
		return err
	}
	owner := r.layout.Disk(r.slot.PG, r.slot.Index)
	actx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	err = r.m.cfg.Append.AppendShards(actx, owner.Node, r.layout.Epoch, []cluster.DiskID{owner.ID}, []cluster.Shard{s})[0]
	if err == nil {
		r.given++
		disk.PutBuffer(s.Payload[:cap(s.Payload)])
	}
	return err
}

// remove deletes what others have, if the layout is still the one that says so.
func (r *releasing) remove(ctx context.Context) error {
	keys := r.have
	r.have = nil
	if len(keys) == 0 {
		return nil
	}
	lock := r.m.locks.of(r.self.ID, r.slot.PG)
	lock.Lock()
	defer lock.Unlock()
	if now := r.m.cfg.Layout(); now.Epoch != r.layout.Epoch || now.Holds(r.self.ID, r.slot.PG, r.slot.Index) {
		return errors.New("the layout has changed")
	}
	dctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := r.d.Delete(dctx, keys); err != nil {
		return err
	}
	r.m.freed.Add(float64(len(keys)))
	return nil
}

// keep remembers how many shards of a group stay on a disk that should not have
// them.
func (m *Mover) keep(id cluster.DiskID, pg cluster.PG, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept[id] == nil {
		m.kept[id] = map[cluster.PG]int{}
	}
	if m.kept[id][pg] += n; n == 0 {
		delete(m.kept[id], pg)
	}
}

// Kept is how many shards a disk keeps of slots that it does not own because too
// few others know them.
func (m *Mover) Kept(id cluster.DiskID) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept[id] {
		n += k
	}
	return n
}
