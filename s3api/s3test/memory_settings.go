package s3test

import (
	"context"
	"maps"

	"bivalve/metadata"
)

func (m *Memory) CreateLockedBucket(ctx context.Context, name string) (metadata.Bucket, error) {
	if _, err := m.CreateBucket(ctx, name); err != nil {
		return metadata.Bucket{}, err
	}
	if _, err := m.ConfigureBucket(ctx, name, metadata.FieldVersioning, []byte(metadata.VersioningEnabled)); err != nil {
		return metadata.Bucket{}, err
	}
	rule, err := metadata.EncodeBody(metadata.LockRule{})
	if err != nil {
		return metadata.Bucket{}, err
	}
	return m.ConfigureBucket(ctx, name, metadata.FieldLock, rule)
}

func (m *Memory) ConfigureBucket(_ context.Context, name, field string, value []byte) (metadata.Bucket, error) {
	if err := m.enter("ConfigureBucket", name, ""); err != nil {
		return metadata.Bucket{}, err
	}
	defer m.mu.Unlock()
	b, err := m.find(name)
	if err != nil {
		return metadata.Bucket{}, err
	}
	switch field {
	case metadata.FieldVersioning:
		if b.Rules.Lock != nil && string(value) != string(metadata.VersioningEnabled) {
			return metadata.Bucket{}, metadata.ErrInvalidBucketState
		}
		b.Rules.Versioning = metadata.Versioning(value)
	case metadata.FieldLock:
		if b.Rules.Versioning != metadata.VersioningEnabled {
			return metadata.Bucket{}, metadata.ErrInvalidBucketState
		}
		var rule metadata.LockRule
		if err := metadata.DecodeBody(value, &rule); err != nil {
			return metadata.Bucket{}, err
		}
		b.Rules.Lock = &rule
	default:
		// A new map each time: those handed out stay as they were.
		b.Settings = maps.Clone(b.Settings)
		if b.Settings == nil {
			b.Settings = map[string][]byte{}
		}
		b.Settings[field] = value
		if len(value) == 0 {
			delete(b.Settings, field)
		}
	}
	return b.Bucket, nil
}
