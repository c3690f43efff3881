package catalog

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/replica"

	"golang.org/x/sync/errgroup"
)

// CreateBucket makes a bucket of a new id.
func (c *Catalog) CreateBucket(ctx context.Context, name string) (metadata.Bucket, error) {
	b := metadata.Bucket{Name: name}
	if _, err := rand.Read(b.ID[:]); err != nil {
		return b, fmt.Errorf("bucket id: %w", err)
	}
	err := c.change(ctx, Root, metadata.CmdCreateBucket, b, &b)
	return b, c.settled(ctx, name, err)
}

// settled passes on the outcome of a bucket's creation. Who hears that there is one may
// have made it by a request that broke off, and will write into it as into one that was
// acknowledged: so first every partition gets the rules that it was made with.
func (c *Catalog) settled(ctx context.Context, name string, outcome error) error {
	if !errors.Is(outcome, metadata.ErrBucketExists) {
		return outcome
	}
	b, err := c.GetBucketNow(ctx, name)
	if err == nil && b.Spread < b.Revision {
		err = c.SpreadRules(ctx, b)
	}
	if err != nil && !errors.Is(err, metadata.ErrNoSuchBucket) {
		return err
	}
	return outcome
}

// CreateLockedBucket makes a bucket with versioning and object lock.
func (c *Catalog) CreateLockedBucket(ctx context.Context, name string) (metadata.Bucket, error) {
	b := metadata.Bucket{Name: name, Rules: metadata.BucketRules{Versioning: metadata.VersioningEnabled, Lock: &metadata.LockRule{}}}
	if _, err := rand.Read(b.ID[:]); err != nil {
		return b, fmt.Errorf("bucket id: %w", err)
	}
	if err := c.change(ctx, Root, metadata.CmdCreateBucket, b, &b); err != nil {
		return b, c.settled(ctx, name, err)
	}
	return b, c.SpreadRules(ctx, b)
}

// ConfigureBucket replaces one field of a bucket's configuration. Once it has
// returned, every partition acts by it. After an error it may have been done, or
// done in part; upkeep then brings it to every partition.
func (c *Catalog) ConfigureBucket(ctx context.Context, name, field string, value []byte) (metadata.Bucket, error) {
	b, err := c.GetBucketNow(ctx, name)
	if err != nil {
		return b, err
	}
	id := b.ID
	b = metadata.Bucket{} // what is empty in the answer would keep its old value
	err = c.change(ctx, Root, metadata.CmdConfigureBucket,
		metadata.ConfigureBucket{Name: name, ID: id, Field: field, Value: value}, &b)
	if err == nil && b.Spread != b.Revision {
		err = c.SpreadRules(ctx, b)
	}
	if err == nil {
		c.seeOwn(ctx, b, field)
	}
	return b, err
}

// seeOwn waits a moment for this node's copy to have a change of a field that was made
// by way of it, so that its next requests neither are refused for going by the former
// state nor tell of it. Nothing hangs on it: what counts is decided by the groups.
func (c *Catalog) seeOwn(ctx context.Context, b metadata.Bucket, field string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for {
		var own metadata.Bucket
		err := c.readLocal(metadata.QueryBucket, metadata.BucketName{Name: b.Name}, &own)
		if err == nil && (own.ID != b.ID || own.Revision >= b.Revision && bytes.Equal(own.Settings[field], b.Settings[field])) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// spreadAtOnce is how many partitions are told at the same time.
const spreadAtOnce = 16

// SpreadRules hands the rules of a bucket to every partition, then notes it.
func (c *Catalog) SpreadRules(ctx context.Context, b metadata.Bucket) error {
	work, wctx := errgroup.WithContext(ctx)
	work.SetLimit(spreadAtOnce)
	for g := 1; g <= c.cfg.Partitions; g++ {
		work.Go(func() error {
			return c.change(wctx, replica.GroupID(g), metadata.CmdSetRules,
				metadata.SetRules{Bucket: b.ID, Revision: b.Revision, Rules: b.Rules}, nil)
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return c.change(ctx, Root, metadata.CmdSpreadBucket, metadata.SpreadBucket{Name: b.Name, ID: b.ID, Revision: b.Revision}, nil)
}

// GetBucket looks at this node's copy of the root group first; a bucket that is
// not there may have been made a moment ago through another node, so "no such
// bucket" is only said after asking the leader. One that is there but was just
// deleted is refused by the fences of its partitions.
func (c *Catalog) GetBucket(ctx context.Context, name string) (metadata.Bucket, error) {
	var b metadata.Bucket
	err := c.readLocal(metadata.QueryBucket, metadata.BucketName{Name: name}, &b)
	if err == nil {
		return b, nil
	}
	err = c.read(ctx, Root, metadata.QueryBucket, metadata.BucketName{Name: name}, &b)
	return b, err
}

// GetBucketNow is GetBucket without the shortcut: it sees a deletion at once.
func (c *Catalog) GetBucketNow(ctx context.Context, name string) (metadata.Bucket, error) {
	var b metadata.Bucket
	err := c.read(ctx, Root, metadata.QueryBucket, metadata.BucketName{Name: name}, &b)
	return b, err
}

// ListBuckets is one page of buckets by name.
func (c *Catalog) ListBuckets(ctx context.Context, q metadata.BucketPage) (metadata.Buckets, error) {
	var out metadata.Buckets
	err := c.read(ctx, Root, metadata.QueryBuckets, q, &out)
	return out, err
}

// ListBucketsLocal is ListBuckets as this node's copy of the root group has it.
func (c *Catalog) ListBucketsLocal(q metadata.BucketPage) (metadata.Buckets, error) {
	var out metadata.Buckets
	return out, c.readLocal(metadata.QueryBuckets, q, &out)
}

// DeleteBucket proves a bucket empty and drops it: mark it in the root group,
// fence it in every partition (each says no if it holds anything of it), drop
// it. Until the drop the bucket exists; if any partition says no, the mark is
// cleared and the fences are lifted. A crash in between leaves a marked bucket,
// which FinishDelete brings to either end (law L6: the same code). ErrConflict
// while another deletion of the bucket runs.
func (c *Catalog) DeleteBucket(ctx context.Context, name string) error {
	b, err := c.GetBucketNow(ctx, name)
	if err != nil {
		return err
	}
	// A look first, so that asking to delete a bucket in use does not fence it.
	rows, err := c.ListVersions(ctx, metadata.VersionPage{Bucket: b.ID, Limit: 1})
	if err != nil {
		return err
	}
	if len(rows.Rows) > 0 {
		return metadata.ErrBucketNotEmpty
	}
	if err := c.abortUploads(ctx, b.ID); err != nil {
		return err
	}
	b.Deleting = 0
	// Detached from the client on purpose: one that goes away must not leave the
	// bucket closed to writes until the deletion is taken over.
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	return c.FinishDelete(dctx, b)
}

// abortUploads ends every upload of a bucket: as in S3, uploads in progress do not
// keep a bucket that holds no object.
func (c *Catalog) abortUploads(ctx context.Context, bucket metadata.BucketID) error {
	for {
		page, err := c.ListUploads(ctx, metadata.UploadPage{Bucket: bucket, Limit: 1000})
		if err != nil || len(page.Rows) == 0 {
			return err
		}
		for _, r := range page.Rows {
			err := c.AbortUpload(ctx, metadata.UploadRef{Bucket: bucket, Key: r.Name, ID: r.Upload.ID})
			if err != nil && !errors.Is(err, metadata.ErrNoSuchUpload) {
				return err
			}
		}
	}
}

// deleteTimeout is shorter than it takes until a deletion is taken over.
const deleteTimeout = 20 * time.Second

// FinishDelete begins a deletion, or takes over the one whose mark b carries.
func (c *Catalog) FinishDelete(ctx context.Context, b metadata.Bucket) error {
	err := c.change(ctx, Root, metadata.CmdMarkBucket,
		metadata.BucketMark{Name: b.Name, ID: b.ID, Mark: true, Attempt: b.Deleting}, &b)
	if err != nil {
		return err
	}
	for g := 1; g <= c.cfg.Partitions; g++ {
		err := c.change(ctx, replica.GroupID(g), metadata.CmdFenceBucket, metadata.Fence{Bucket: b.ID, Attempt: b.Deleting}, nil)
		if errors.Is(err, metadata.ErrBucketNotEmpty) {
			return errors.Join(metadata.ErrBucketNotEmpty, c.reopen(ctx, b))
		}
		if err != nil {
			return err
		}
	}
	return c.change(ctx, Root, metadata.CmdDropBucket, metadata.BucketMark{Name: b.Name, ID: b.ID, Attempt: b.Deleting}, nil)
}

// reopen lifts the fences, then clears the mark, so that a crash in between is
// still known as an interrupted deletion.
func (c *Catalog) reopen(ctx context.Context, b metadata.Bucket) error {
	for g := 1; g <= c.cfg.Partitions; g++ {
		if err := c.change(ctx, replica.GroupID(g), metadata.CmdFenceBucket, metadata.Fence{Bucket: b.ID, Attempt: b.Deleting, Lift: true}, nil); err != nil {
			return err
		}
	}
	return c.change(ctx, Root, metadata.CmdMarkBucket, metadata.BucketMark{Name: b.Name, ID: b.ID, Attempt: b.Deleting}, nil)
}

// ForgetDropped has every partition forget the buckets that were dropped before a time
// (Unix nanoseconds of log time), up to most of them, and answers how many. The root
// group's note of a bucket goes last, so that what broke off midway is done again.
func (c *Catalog) ForgetDropped(ctx context.Context, before int64, most int) (done int, err error) {
	dropped, err := c.GetConfig(ctx, metadata.ConfigDropped)
	if err != nil {
		return 0, err
	}
	for _, d := range dropped {
		if int64(d.Revision) >= before || done == most {
			continue
		}
		id, err := hex.DecodeString(strings.TrimPrefix(d.Key, metadata.ConfigDropped))
		if err != nil || len(id) != len(metadata.BucketID{}) {
			return done, fmt.Errorf("%w: note %q of a dropped bucket", metadata.ErrMalformed, d.Key)
		}
		f := metadata.Forgotten{Bucket: metadata.BucketID(id)}
		for g := 1; g <= c.cfg.Partitions; g++ {
			if err := c.change(ctx, replica.GroupID(g), metadata.CmdForgetBucket, f, nil); err != nil {
				return done, err
			}
		}
		if err := c.change(ctx, Root, metadata.CmdForgetBucket, f, nil); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// GetConfig lists the configuration values whose key has the prefix.
func (c *Catalog) GetConfig(ctx context.Context, prefix string) ([]metadata.ConfigValue, error) {
	var out metadata.ConfigValues
	err := c.read(ctx, Root, metadata.QueryConfig, metadata.ConfigPrefix{Prefix: prefix}, &out)
	return out.Values, err
}

// GetConfigLocal is this node's copy, which may be a moment old.
func (c *Catalog) GetConfigLocal(prefix string) ([]metadata.ConfigValue, error) {
	var out metadata.ConfigValues
	err := c.readLocal(metadata.QueryConfig, metadata.ConfigPrefix{Prefix: prefix}, &out)
	return out.Values, err
}

// PutConfig replaces one value; see metadata.PutConfig for its condition.
func (c *Catalog) PutConfig(ctx context.Context, p metadata.PutConfig) (revision uint64, err error) {
	err = c.change(ctx, Root, metadata.CmdPutConfig, p, &revision)
	return revision, err
}
