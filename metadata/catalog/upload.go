package catalog

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"

	"bivalve/metadata"
)

// CreateUpload starts u under a new id, which begins with the time so that the
// uploads of a key sort by age.
func (c *Catalog) CreateUpload(ctx context.Context, u metadata.Upload) (metadata.Upload, error) {
	u.Initiated = c.now()
	binary.BigEndian.PutUint64(u.ID[:8], uint64(u.Initiated))
	if _, err := rand.Read(u.ID[8:]); err != nil {
		return u, fmt.Errorf("upload id: %w", err)
	}
	return u, c.change(ctx, c.Partition(u.Bucket, u.Key), metadata.CmdCreateUpload, u, nil)
}

// PutPart stores one part, replacing one of the same number.
func (c *Catalog) PutPart(ctx context.Context, ref metadata.UploadRef, p metadata.Part) (metadata.Part, error) {
	var done metadata.Committed
	err := c.change(ctx, c.Partition(ref.Bucket, ref.Key), metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: p}, &done)
	p.Modified = done.Modified
	return p, err
}

// GetUpload is an upload in progress.
func (c *Catalog) GetUpload(ctx context.Context, ref metadata.UploadRef) (metadata.Upload, error) {
	var u metadata.Upload
	err := c.read(ctx, c.Partition(ref.Bucket, ref.Key), metadata.QueryUpload, ref, &u)
	return u, err
}

// ListParts lists up to limit parts with numbers above after.
func (c *Catalog) ListParts(ctx context.Context, ref metadata.UploadRef, after, limit int) (metadata.Parts, error) {
	var out metadata.Parts
	err := c.read(ctx, c.Partition(ref.Bucket, ref.Key), metadata.QueryParts,
		metadata.PartPage{Upload: ref, After: after, Limit: limit}, &out)
	return out, err
}

// CompleteUpload turns the parts of v into its object, if all are unchanged.
func (c *Catalog) CompleteUpload(ctx context.Context, id metadata.UploadID, v metadata.Version, cond metadata.Condition) (metadata.Version, error) {
	random, err := newRandom()
	if err != nil {
		return v, err
	}
	sent := v
	sent.Parts = slices.Clone(v.Parts)
	for i, p := range sent.Parts {
		if p.Blob != nil {
			sent.Parts[i].Blob = bare(p.Blob)
		}
	}
	var done metadata.Committed
	err = c.change(ctx, c.Partition(v.Bucket, v.Key), metadata.CmdCompleteUpload,
		metadata.CompleteUpload{Upload: id, Version: sent, Condition: cond, Random: random}, &done)
	return committed(v, done), err
}

// bare is a blob without what is noted of its chunks: of 10,000 large parts that is
// more than a command may carry, and the partition has it with the parts.
func bare(b *metadata.Blob) *metadata.Blob {
	out := *b
	out.Notes, out.AtRisk = nil, nil
	return &out
}

// Finished is the outcome of an upload that was completed before.
func (c *Catalog) Finished(ctx context.Context, ref metadata.UploadRef) (metadata.Finished, error) {
	var f metadata.Finished
	err := c.read(ctx, c.Partition(ref.Bucket, ref.Key), metadata.QueryFinished, ref, &f)
	return f, err
}

// AbortUpload drops an upload and its parts.
func (c *Catalog) AbortUpload(ctx context.Context, ref metadata.UploadRef) error {
	return c.change(ctx, c.Partition(ref.Bucket, ref.Key), metadata.CmdAbortUpload, ref, nil)
}
