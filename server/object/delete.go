package object

import (
	"context"

	"bivalve/metadata"
)

// DeleteObject removes the current version of a key from the index (law L3); its
// shards are removed after a grace.
func (s *Store) DeleteObject(ctx context.Context, bucket, key string, c metadata.Condition) error {
	return s.inBucket(ctx, bucket, func(b metadata.Bucket) error {
		return s.cfg.Versions.DeleteKey(ctx, b.ID, key, c)
	})
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
