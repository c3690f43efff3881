package catalog

import (
	"context"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// MarkShards changes what a partition knows to be missing, at most MaxMarks at a
// time, and tells of each mark what the partition knows of its blob. Of blobs with very
// many owners it may do the first ones alone, one at least: those that it tells of.
func (c *Catalog) MarkShards(ctx context.Context, g replica.GroupID, marks []metadata.ShardMark) ([]metadata.BlobState, error) {
	var out metadata.BlobStates
	err := c.change(ctx, g, metadata.CmdMarkShards, metadata.MarkShards{Marks: marks}, &out)
	return out.States, err
}

// MarkNews tells which of the shards that marks set the partition does not know to be
// missing, though it holds their blobs.
func (c *Catalog) MarkNews(ctx context.Context, g replica.GroupID, marks []metadata.ShardMark) ([]bool, error) {
	var out metadata.MarkNews
	err := c.read(ctx, g, metadata.QueryNews, metadata.MarkShards{Marks: marks}, &out)
	return out.News, err
}

// BlobStates tells of each blob what a partition knows of it.
func (c *Catalog) BlobStates(ctx context.Context, g replica.GroupID, ids []metadata.BlobID) ([]metadata.BlobState, error) {
	var out metadata.BlobStates
	err := c.read(ctx, g, metadata.QueryBlob, metadata.BlobIDs{IDs: ids}, &out)
	return out.States, err
}

// Under lists under-protected blobs of a partition, the most endangered first.
func (c *Catalog) Under(ctx context.Context, g replica.GroupID, after []byte, limit int) (metadata.UnderBlobs, error) {
	var out metadata.UnderBlobs
	err := c.read(ctx, g, metadata.QueryUnder, metadata.UnderPage{After: after, Limit: limit}, &out)
	return out, err
}

// Blobs lists what a partition holds and what of it is garbage, by id, after the id
// after (nil: from the first).
func (c *Catalog) Blobs(ctx context.Context, g replica.GroupID, after []byte, limit int) (metadata.BlobRows, error) {
	var out metadata.BlobRows
	err := c.read(ctx, g, metadata.QueryBlobs, metadata.BlobPage{After: after, Limit: limit}, &out)
	return out, err
}

// Slots tells what hangs on each place of the placement groups, for one partition.
func (c *Catalog) Slots(ctx context.Context, g replica.GroupID) ([]metadata.SlotCount, error) {
	return allSlots(func(q metadata.SlotPage, out *metadata.Slots) error {
		return c.read(ctx, g, metadata.QuerySlots, q, out)
	})
}

// allSlots goes through all pages. Each is of a time between call and return.
func allSlots(ask func(metadata.SlotPage, *metadata.Slots) error) (all []metadata.SlotCount, err error) {
	for q := (metadata.SlotPage{}); ; {
		var page metadata.Slots
		if err := ask(q, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Slots...)
		if !page.More || len(page.Slots) == 0 {
			return all, nil
		}
		q.After = &page.Slots[len(page.Slots)-1].Slot
	}
}

// Last lists the objects of a partition that the loss of one more shard would take.
func (c *Catalog) Last(ctx context.Context, g replica.GroupID, limit int) (metadata.LastPlaces, error) {
	var out metadata.LastPlaces
	err := c.read(ctx, g, metadata.QueryLast, metadata.LastPage{Limit: limit}, &out)
	return out, err
}

// LastLocal is Last as this node's copy has it.
func (c *Catalog) LastLocal(g replica.GroupID, limit int) (metadata.LastPlaces, error) {
	var out metadata.LastPlaces
	err := c.readCopy(g, metadata.QueryLast, metadata.LastPage{Limit: limit}, &out)
	return out, err
}

// GroupStats is what one partition holds.
func (c *Catalog) GroupStats(ctx context.Context, g replica.GroupID) (metadata.Stats, error) {
	var s metadata.Stats
	return s, c.read(ctx, g, metadata.QueryStats, struct{}{}, &s)
}

// UnderLocal is Under as this node's copy has it.
func (c *Catalog) UnderLocal(g replica.GroupID, after []byte, limit int) (metadata.UnderBlobs, error) {
	var out metadata.UnderBlobs
	err := c.readCopy(g, metadata.QueryUnder, metadata.UnderPage{After: after, Limit: limit}, &out)
	return out, err
}

// SlotsLocal is Slots as this node's copy has it.
func (c *Catalog) SlotsLocal(g replica.GroupID) ([]metadata.SlotCount, error) {
	return allSlots(func(q metadata.SlotPage, out *metadata.Slots) error {
		return c.readCopy(g, metadata.QuerySlots, q, out)
	})
}

// GroupStatsLocal is GroupStats as this node's copy has it.
func (c *Catalog) GroupStatsLocal(g replica.GroupID) (metadata.Stats, error) {
	var s metadata.Stats
	return s, c.readCopy(g, metadata.QueryStats, struct{}{}, &s)
}
