package catalog

import (
	"context"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// PutVersion makes v current if the condition holds and returns it with its
// commit time.
func (c *Catalog) PutVersion(ctx context.Context, v metadata.Version, cond metadata.Condition) (metadata.Version, error) {
	var done metadata.Committed
	err := c.change(ctx, c.Partition(v.Bucket, v.Key), metadata.CmdPutVersion,
		metadata.PutVersion{Version: v, Condition: cond}, &done)
	v.Modified = done.Modified
	return v, err
}

// GetVersion is the current version of a key.
func (c *Catalog) GetVersion(ctx context.Context, bucket metadata.BucketID, key string) (metadata.Version, error) {
	var raw []byte
	err := c.read(ctx, c.Partition(bucket, key), metadata.QueryVersion, metadata.KeyRef{Bucket: bucket, Key: key}, &raw)
	if err != nil {
		return metadata.Version{}, err
	}
	return metadata.DecodeVersion(bucket, key, raw)
}

// DeleteKey removes the current version if the condition holds.
func (c *Catalog) DeleteKey(ctx context.Context, bucket metadata.BucketID, key string, cond metadata.Condition) error {
	return c.change(ctx, c.Partition(bucket, key), metadata.CmdDeleteKey,
		metadata.DeleteKey{Bucket: bucket, Key: key, Condition: cond}, nil)
}

// Garbage lists up to limit blobs of a partition that became garbage before the
// given log time (Unix nanoseconds).
func (c *Catalog) Garbage(ctx context.Context, g replica.GroupID, before int64, limit int) ([]metadata.Garbage, error) {
	var out metadata.GarbageItems
	err := c.read(ctx, g, metadata.QueryGarbage, metadata.GarbagePage{Before: before, Limit: limit}, &out)
	return out.Items, err
}

// DropGarbage forgets items whose shards are gone.
func (c *Catalog) DropGarbage(ctx context.Context, g replica.GroupID, items []metadata.GarbageID) error {
	return c.change(ctx, g, metadata.CmdDropGarbage, metadata.DropGarbage{Items: items}, nil)
}

// Stats adds up what all partitions hold.
func (c *Catalog) Stats(ctx context.Context) (metadata.Stats, error) {
	sum := metadata.Stats{AtRisk: map[string]int64{}}
	for g := 1; g <= c.cfg.Partitions; g++ {
		var s metadata.Stats
		if err := c.read(ctx, replica.GroupID(g), metadata.QueryStats, struct{}{}, &s); err != nil {
			return sum, err
		}
		sum.Objects += s.Objects
		sum.Bytes += s.Bytes
		sum.Uploads += s.Uploads
		sum.Garbage += s.Garbage
		sum.UnderProtected += s.UnderProtected
		sum.UnderBytes += s.UnderBytes
		sum.WithBlobs += s.WithBlobs
		for zone, n := range s.AtRisk {
			sum.AtRisk[zone] += n
		}
	}
	return sum, nil
}
