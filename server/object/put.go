package object

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bivalve/metadata"
)

// PutObject stores an object: its bytes first, then the commit that makes it
// visible (laws L1, L2).
func (s *Store) PutObject(ctx context.Context, r PutRequest) (metadata.Version, error) {
	b, err := s.cfg.Buckets.GetBucket(ctx, r.Bucket)
	if err != nil {
		return metadata.Version{}, err
	}
	if err := s.checkClass(r.Attributes.StorageClass); err != nil {
		return metadata.Version{}, err
	}
	v := metadata.Version{Bucket: b.ID, Key: r.Key, ID: metadata.NullVersion, Bytes: r.Bytes, Attributes: r.Attributes,
		Tags: r.Tags, Lock: r.Lock}
	x, err := s.newSealer(sealing(b, r.Seal))
	if err != nil {
		return metadata.Version{}, err
	}
	body, size, err := x.encrypt(r.Body, r.Bytes)
	if err != nil {
		return metadata.Version{}, err
	}
	var blob *metadata.Blob
	if r.Bytes <= metadata.MaxInlineBytes {
		v.Inline, err = readInline(body, size)
	} else {
		blob, err = s.writeBlob(ctx, s.cfg.Versions.PartitionOf(b.ID, r.Key), r.Attributes.StorageClass, body, size)
	}
	if err != nil {
		return metadata.Version{}, err
	}
	sealed, err := x.seal(blob)
	if err == nil {
		v.ETag, err = x.etag(r.Body.Sums())
	}
	if err != nil {
		s.discardIf(blob)
		return metadata.Version{}, err
	}
	v.Checksum = r.Body.Sums().Checksum
	if blob != nil || sealed != nil {
		v.Parts = []metadata.Part{{Bytes: r.Bytes, Blob: blob, Seal: sealed}}
	}
	at := b
	if blob != nil {
		// Its bytes came as slowly as the client liked; that a bucket is gone is
		// remembered for a day, not for good.
		if at, err = s.cfg.Buckets.GetBucket(ctx, r.Bucket); err != nil {
			s.abandon(blob, err)
			return metadata.Version{}, err
		}
	}
	var done metadata.Version
	err = s.within(ctx, at, func(now metadata.Bucket) error {
		if blob != nil && now.ID != b.ID {
			// The bytes lie in a blob of the old bucket's partition, and the body is
			// spent: the client has to send them again.
			return fmt.Errorf("%w: bucket %s was made again a moment ago", metadata.ErrUnavailable, b.Name)
		}
		v.Bucket = now.ID
		return s.inQuota(ctx, now, v.Key, v.Bytes, r.Condition, func(c metadata.Condition) (err error) {
			done, err = s.cfg.Versions.PutVersion(ctx, v, c)
			s.describe(&done, now, true)
			return err
		})
	})
	if err != nil {
		s.abandon(blob, err)
		return metadata.Version{}, err
	}
	return done, nil
}

// readInline takes a small body whole.
func readInline(body io.Reader, size int64) ([]byte, error) {
	buf := make([]byte, size)
	if err := readFull(body, buf); err != nil {
		return nil, err
	}
	return buf, readEnd(body)
}

// discardIf is discard for a blob that may not be there.
func (s *Store) discardIf(blob *metadata.Blob) {
	if blob != nil {
		s.discard(blob)
	}
}

// abandon removes the shards of a blob whose commit certainly did not happen.
// After any other outcome they stay: the version may exist (law L5).
func (s *Store) abandon(blob *metadata.Blob, err error) {
	if blob != nil && (metadata.IsAnswer(err) || errors.Is(err, metadata.ErrUnavailable)) {
		s.discard(blob)
	}
}

// inBucket does something in the bucket of that name.
func (s *Store) inBucket(ctx context.Context, name string, do func(metadata.Bucket) error) error {
	b, err := s.cfg.Buckets.GetBucket(ctx, name)
	if err != nil {
		return err
	}
	return s.within(ctx, b, do)
}

// within does something in a bucket that GetBucket found. That may be a moment
// old: when the bucket's partition says that there is no such bucket or upload,
// the leader is asked. The bucket may have been made again under its name, and
// then the new one is meant; or its deletion is under way and may yet fail, for
// which the fence of a partition has the same words as for a bucket that is gone.
func (s *Store) within(ctx context.Context, b metadata.Bucket, do func(metadata.Bucket) error) error {
	err := do(b)
	gone := errors.Is(err, metadata.ErrNoSuchBucket)
	if !gone && !errors.Is(err, metadata.ErrNoSuchUpload) {
		return err
	}
	now, lookup := s.cfg.Buckets.GetBucketNow(ctx, b.Name)
	switch {
	case lookup != nil:
		return lookup
	case now.ID != b.ID:
		return do(now)
	case gone:
		return fmt.Errorf("%w: bucket %s is being deleted", metadata.ErrConflict, b.Name)
	}
	return err
}
