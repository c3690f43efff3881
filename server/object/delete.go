package object

import (
	"context"

	"bivalve/metadata"
)

// DeleteObject removes a version from the index (law L3), or hides the current one;
// shards are removed after a grace.
func (s *Store) DeleteObject(ctx context.Context, r DeleteRequest) (done metadata.Deleted, err error) {
	err = s.inBucket(ctx, r.Bucket, func(b metadata.Bucket) error {
		done, err = s.cfg.Versions.DeleteKey(ctx, metadata.DeleteKey{Bucket: b.ID, Key: r.Key, Version: r.Version,
			Condition: r.Condition, Bypass: r.Bypass})
		return err
	})
	return done, err
}

// AmendObject changes the tags or the lock of a version.
func (s *Store) AmendObject(ctx context.Context, r AmendRequest) (id string, err error) {
	err = s.inBucket(ctx, r.Bucket, func(b metadata.Bucket) error {
		done, err := s.cfg.Versions.AmendVersion(ctx, metadata.AmendVersion{Bucket: b.ID, Key: r.Key, Version: r.Version,
			SetTags: r.SetTags, Tags: r.Tags, Retention: r.Retention, Hold: r.Hold, Bypass: r.Bypass})
		id = done.ID
		return err
	})
	return id, err
}

// CreateBucket makes a bucket.
func (s *Store) CreateBucket(ctx context.Context, name string) (metadata.Bucket, error) {
	return s.cfg.Buckets.CreateBucket(ctx, name)
}

// GetBucket looks a bucket up, as of now.
func (s *Store) GetBucket(ctx context.Context, name string) (metadata.Bucket, error) {
	return s.cfg.Buckets.GetBucketNow(ctx, name)
}

// DeleteBucket removes an empty bucket.
func (s *Store) DeleteBucket(ctx context.Context, name string) error {
	return s.cfg.Buckets.DeleteBucket(ctx, name)
}

// ListBuckets is one page of buckets by name.
func (s *Store) ListBuckets(ctx context.Context, q BucketQuery) ([]metadata.Bucket, bool, error) {
	page, err := s.cfg.Buckets.ListBuckets(ctx, metadata.BucketPage{Prefix: q.Prefix, After: q.After, Limit: q.Limit})
	return page.Buckets, page.More, err
}
