package catalog

import (
	"context"
	"crypto/rand"
	"fmt"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// PutVersion makes v current if the condition holds and returns it with its
// commit time and the id that it got.
func (c *Catalog) PutVersion(ctx context.Context, v metadata.Version, cond metadata.Condition) (metadata.Version, error) {
	random, err := newRandom()
	if err != nil {
		return v, err
	}
	var done metadata.Committed
	if cond, err = c.condition(ctx, v.Bucket, v.Key, cond); err != nil {
		return v, err
	}
	err = c.change(ctx, c.Partition(v.Bucket, v.Key), metadata.CmdPutVersion,
		metadata.PutVersion{Version: v, Condition: cond, Random: random}, &done)
	return committed(v, done), err
}

func committed(v metadata.Version, done metadata.Committed) metadata.Version {
	v.Modified, v.ID = done.Modified, done.ID
	if v.ID == "" {
		v.ID = metadata.NullVersion
	}
	return v
}

func newRandom() (r metadata.Random, err error) {
	if _, err = rand.Read(r[:]); err != nil {
		err = fmt.Errorf("version id: %w", err)
	}
	return r, err
}

// GetVersion is the version of that id; with "" the newest, which may be a delete
// marker.
func (c *Catalog) GetVersion(ctx context.Context, bucket metadata.BucketID, key, id string) (metadata.Version, error) {
	var raw []byte
	err := c.read(ctx, c.Partition(bucket, key), metadata.QueryVersion, metadata.KeyRef{Bucket: bucket, Key: key, Version: id}, &raw)
	if err != nil {
		return metadata.Version{}, err
	}
	return metadata.DecodeVersion(bucket, key, raw)
}

// DeleteKey removes a version, or hides the current one behind a marker; see
// metadata.DeleteKey. Random is filled in.
func (c *Catalog) DeleteKey(ctx context.Context, d metadata.DeleteKey) (done metadata.Deleted, err error) {
	if d.Random, err = newRandom(); err != nil {
		return done, err
	}
	if d.Version != "" {
		if d.Clock, err = c.Clock(); err != nil {
			return done, err
		}
	}
	var raw []byte
	if err := c.change(ctx, c.Partition(d.Bucket, d.Key), metadata.CmdDeleteKey, d, &raw); err != nil || len(raw) == 0 {
		return done, err
	}
	return done, metadata.DecodeBody(raw, &done)
}

// AmendVersion changes the tags or the lock of a version.
func (c *Catalog) AmendVersion(ctx context.Context, a metadata.AmendVersion) (done metadata.Committed, err error) {
	if a.Retention != nil {
		if a.Clock, err = c.Clock(); err != nil {
			return done, err
		}
	}
	err = c.change(ctx, c.Partition(a.Bucket, a.Key), metadata.CmdAmendVersion, a, &done)
	return done, err
}

// Garbage lists blobs of a partition that nobody refers to any more, the oldest first.
func (c *Catalog) Garbage(ctx context.Context, g replica.GroupID, page metadata.GarbagePage) ([]metadata.Garbage, error) {
	var out metadata.GarbageItems
	err := c.read(ctx, g, metadata.QueryGarbage, page, &out)
	return out.Items, err
}

// DropGarbage forgets items whose shards are gone.
func (c *Catalog) DropGarbage(ctx context.Context, g replica.GroupID, items []metadata.GarbageID) error {
	return c.change(ctx, g, metadata.CmdDropGarbage, metadata.DropGarbage{Items: items}, nil)
}
