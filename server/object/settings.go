package object

import (
	"context"

	"bivalve/metadata"
)

// CreateLockedBucket makes a bucket with versioning and object lock.
func (s *Store) CreateLockedBucket(ctx context.Context, name string) (metadata.Bucket, error) {
	return s.cfg.Settings.CreateLockedBucket(ctx, name)
}

// ConfigureBucket replaces one field of a bucket's configuration.
func (s *Store) ConfigureBucket(ctx context.Context, name, field string, value []byte) (metadata.Bucket, error) {
	return s.cfg.Settings.ConfigureBucket(ctx, name, field, value)
}
