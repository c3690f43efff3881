package server

import (
	"context"
	"fmt"
	"sync"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/cluster/transport"
	"bivalve/server/object"

	"golang.org/x/sync/errgroup"
)

// localShards offers this node's disks to the others (transport.ShardHandler).
type localShards struct {
	slots  *slotList
	region *Region

	mu    sync.Mutex
	under map[cluster.DiskID]map[cluster.Epoch]int // appends under way, by the epoch that they were accepted in
}

// begin counts an append to a disk if the node is in that epoch, in which the disk
// owns the slots. end takes it back.
func (l *localShards) begin(id cluster.DiskID, e cluster.Epoch) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.under == nil {
		l.under = map[cluster.DiskID]map[cluster.Epoch]int{}
	}
	if l.under[id] == nil {
		l.under[id] = map[cluster.Epoch]int{}
	}
	l.under[id][e]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.under[id][e]--; l.under[id][e] == 0 {
			delete(l.under[id], e)
		}
	}
}

// Settled is the epoch that a disk has come to: no append that was accepted in an
// earlier one is under way any more.
func (l *localShards) Settled(id cluster.DiskID) cluster.Epoch {
	layout := l.region.Layout()
	if layout == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := layout.Epoch
	for under := range l.under[id] {
		e = min(e, under)
	}
	return e
}

func (l *localShards) disk(id cluster.DiskID) (*disk.Disk, error) {
	for _, s := range l.slots.all() {
		if s.holds(id) {
			return s.get()
		}
	}
	return nil, fmt.Errorf("%w: %s", cluster.ErrDiskUnknown, id)
}

// failed tells why a disk takes no writes.
func (l *localShards) failed(id cluster.DiskID) error {
	d, err := l.disk(id)
	if err != nil {
		return err
	}
	return d.Failed()
}

// AppendShards stores shards, those of one disk together so that they share one
// sync. A shard for a placement group that the disk does not own in the caller's
// epoch is refused.
func (l *localShards) AppendShards(ctx context.Context, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error {
	errs := make([]error, len(shards))
	byDisk := map[cluster.DiskID][]int{}
	// Counted before the layout is looked at: who asks Settled after a newer layout
	// came either sees this append or is too late for it to be accepted.
	for _, id := range disks {
		defer l.begin(id, epoch)()
	}
	layout := l.region.Layout()
	for i, s := range shards {
		if layout == nil || layout.Epoch != epoch || !layout.Owns(disks[i], s.Key.PG, s.Key.Index) {
			errs[i] = fmt.Errorf("%w: %s, epoch %d", cluster.ErrWrongEpoch, s.Key, epoch)
			continue
		}
		byDisk[disks[i]] = append(byDisk[disks[i]], i)
	}
	appendTo := func(id cluster.DiskID, list []int) {
		d, err := l.disk(id)
		if err == nil {
			batch := make([]cluster.Shard, len(list))
			for j, i := range list {
				batch[j] = shards[i]
			}
			err = d.Append(ctx, batch)
		}
		for _, i := range list {
			errs[i] = err
		}
	}
	if len(byDisk) == 1 {
		for id, list := range byDisk {
			appendTo(id, list)
		}
		return errs
	}
	var g errgroup.Group
	for id, list := range byDisk {
		g.Go(func() error { appendTo(id, list); return nil })
	}
	_ = g.Wait() // each result is in errs
	return errs
}

func (l *localShards) ReadShard(ctx context.Context, id cluster.DiskID, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	d, err := l.disk(id)
	if err != nil {
		return cluster.BlockRead{}, err
	}
	return d.Read(ctx, key, r, dst)
}

func (l *localShards) DeleteShards(ctx context.Context, id cluster.DiskID, keys []cluster.ShardKey) error {
	d, err := l.disk(id)
	if err != nil {
		return err
	}
	return d.Delete(ctx, keys)
}

func (l *localShards) ListShards(ctx context.Context, id cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error) {
	d, err := l.disk(id)
	if err != nil {
		return cluster.ShardPage{}, err
	}
	// Losses are found when a disk is opened, before it lists anything: one that has
	// none before the look has none in it, while one that has may be restored after.
	whole := d.Loss() == nil
	rows, err := d.List(ctx, pg, after, limit)
	return cluster.ShardPage{Rows: rows, Whole: whole}, err
}

// allShards reaches the disks of any node: its own without a detour.
type allShards struct {
	self   cluster.NodeID
	local  *localShards
	remote transport.Shards
}

var (
	_ object.Shards = allShards{}
	_ object.Relays = transport.Shards{}
)

func (a allShards) AppendShards(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error {
	if to == a.self {
		return a.local.AppendShards(ctx, epoch, disks, shards)
	}
	return a.remote.AppendShards(ctx, to, epoch, disks, shards)
}

func (a allShards) ReadShard(ctx context.Context, to cluster.NodeID, id cluster.DiskID, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	if to == a.self {
		return a.local.ReadShard(ctx, id, key, r, dst)
	}
	return a.remote.ReadShard(ctx, to, id, key, r, dst)
}

func (a allShards) ListShards(ctx context.Context, to cluster.NodeID, id cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error) {
	if to == a.self {
		return a.local.ListShards(ctx, id, pg, after, limit)
	}
	return a.remote.ListShards(ctx, to, id, pg, after, limit)
}

func (a allShards) DeleteShards(ctx context.Context, to cluster.NodeID, id cluster.DiskID, keys []cluster.ShardKey) error {
	if to == a.self {
		return a.local.DeleteShards(ctx, id, keys)
	}
	return a.remote.DeleteShards(ctx, to, id, keys)
}
