package index

import (
	"encoding/hex"
	"errors"

	"bivalve/metadata"
)

func (ix *Index) createBucket(b metadata.Bucket) (any, error) {
	if ix.t.buckets.Get([]byte(b.Name)) != nil {
		return nil, metadata.ErrBucketExists
	}
	if ix.buckets >= maxBuckets {
		return nil, metadata.ErrTooManyBuckets
	}
	b.Created, b.Deleting, b.Revision, b.Spread = ix.lastTime, 0, 0, 0
	if b.Rules != (metadata.BucketRules{}) {
		b.Revision = ix.lastTime
	}
	ix.buckets++
	return b, ix.putBucket(b)
}

func (ix *Index) putBucket(b metadata.Bucket) error {
	raw, err := metadata.EncodeBody(b)
	if err != nil {
		return err
	}
	return ix.t.buckets.Put([]byte(b.Name), raw)
}

// bucket is the one of that name, if it has the id.
func (ix *Index) bucket(name string, id metadata.BucketID) (metadata.Bucket, error) {
	var b metadata.Bucket
	raw := ix.t.buckets.Get([]byte(name))
	if raw == nil {
		return b, metadata.ErrNoSuchBucket
	}
	if err := decodeRow(raw, &b); err != nil {
		return b, err
	}
	if b.ID != id {
		return b, metadata.ErrNoSuchBucket
	}
	return b, nil
}

func (ix *Index) markBucket(m metadata.BucketMark) (any, error) {
	b, err := ix.bucket(m.Name, m.ID)
	if err != nil {
		return nil, err
	}
	if b.Deleting != m.Attempt {
		return nil, metadata.ErrConflict
	}
	b.Deleting = 0
	if m.Mark {
		b.Deleting = ix.lastTime
	}
	return b, ix.putBucket(b)
}

// dropBucket removes a bucket that every partition has fenced.
func (ix *Index) dropBucket(m metadata.BucketMark) (any, error) {
	b, err := ix.bucket(m.Name, m.ID)
	if err != nil {
		return nil, err
	}
	if b.Deleting == 0 || b.Deleting != m.Attempt {
		return nil, metadata.ErrConflict // the fences are not those of this attempt
	}
	if _, err := ix.putConfig(metadata.PutConfig{Key: droppedKey(m.ID), Any: true}); err != nil {
		return nil, err
	}
	ix.buckets--
	return nil, ix.t.buckets.Delete([]byte(m.Name))
}

func droppedKey(id metadata.BucketID) string {
	return metadata.ConfigDropped + hex.EncodeToString(id[:])
}

// forgetBucket removes what is kept of a bucket that was dropped. In a partition where
// it is not closed nothing is removed: there it may live.
func (ix *Index) forgetBucket(f metadata.Forgotten) (any, error) {
	if _, closed := ix.fence(f.Bucket); closed {
		if err := errors.Join(ix.t.fences.Delete(f.Bucket[:]), ix.t.rules.Delete(f.Bucket[:])); err != nil {
			return nil, err
		}
	}
	return nil, ix.t.config.Delete([]byte(droppedKey(f.Bucket)))
}

func (ix *Index) putConfig(p metadata.PutConfig) (any, error) {
	if len(p.Key) == 0 || len(p.Key) > metadata.MaxKeyBytes {
		return nil, metadata.ErrMalformed
	}
	var revision uint64
	if raw := ix.t.config.Get([]byte(p.Key)); raw != nil {
		var old metadata.ConfigValue
		if err := decodeRow(raw, &old); err != nil {
			return nil, err
		}
		revision = old.Revision
	}
	if !p.Any && revision != p.Expect {
		return nil, metadata.ErrConflict
	}
	v := metadata.ConfigValue{Key: p.Key, Value: p.Value, Revision: uint64(ix.lastTime)}
	raw, err := metadata.EncodeBody(v)
	if err != nil {
		return nil, err
	}
	return v.Revision, ix.t.config.Put([]byte(p.Key), raw)
}
