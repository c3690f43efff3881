package server

import (
	"context"
	"fmt"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/cluster/transport"
	"bivalve/server/object"

	"golang.org/x/sync/errgroup"
)

// localShards offers this node's disks to the others (transport.ShardHandler).
type localShards struct {
	slots  []*diskSlot
	region *Region
}

func (l *localShards) disk(id cluster.DiskID) (*disk.Disk, error) {
	for _, s := range l.slots {
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

func (l *localShards) ListShards(ctx context.Context, id cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error) {
	d, err := l.disk(id)
	if err != nil {
		return nil, err
	}
	return d.List(ctx, pg, after, limit)
}

// allShards reaches the disks of any node: its own without a detour.
type allShards struct {
	self   cluster.NodeID
	local  *localShards
	remote transport.Shards
}

var _ object.Shards = allShards{}

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

func (a allShards) ListShards(ctx context.Context, to cluster.NodeID, id cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error) {
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
