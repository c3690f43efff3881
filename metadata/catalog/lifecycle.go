package catalog

import (
	"context"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// PageVersions is one page of the versions that a partition has of a bucket.
func (c *Catalog) PageVersions(ctx context.Context, g replica.GroupID, q metadata.VersionPage) (metadata.VersionRows, error) {
	var out metadata.VersionRows
	err := c.read(ctx, g, metadata.QueryVersions, q, &out)
	return out, err
}

// PageUploads is one page of the uploads that a partition has of a bucket.
func (c *Catalog) PageUploads(ctx context.Context, g replica.GroupID, q metadata.UploadPage) (metadata.UploadRows, error) {
	var out metadata.UploadRows
	err := c.read(ctx, g, metadata.QueryUploads, q, &out)
	return out, err
}

// ExpireVersions expires versions of a partition; Random is filled in.
func (c *Catalog) ExpireVersions(ctx context.Context, g replica.GroupID, e metadata.ExpireVersions) (done int, err error) {
	if e.Random, err = newRandom(); err != nil {
		return 0, err
	}
	var out metadata.Expired
	err = c.change(ctx, g, metadata.CmdExpireVersions, e, &out)
	return out.Done, err
}
