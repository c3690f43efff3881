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
	v := metadata.Version{Bucket: b.ID, Key: r.Key, ID: metadata.NullVersion, Bytes: r.Bytes, Attributes: r.Attributes}
	var blob *metadata.Blob
	if r.Bytes <= metadata.MaxInlineBytes {
		v.Inline, err = readInline(r.Body, r.Bytes)
	} else {
		blob, err = s.writeBlob(ctx, s.cfg.Versions.PartitionOf(b.ID, r.Key), r.Body, r.Bytes)
	}
	if err != nil {
		return metadata.Version{}, err
	}
	sums := r.Body.Sums()
	v.ETag, v.Checksum = sums.MD5, sums.Checksum
	if blob != nil {
		v.Parts = []metadata.Part{{Bytes: r.Bytes, Blob: blob}}
	}
	done, err := s.cfg.Versions.PutVersion(ctx, v, r.Condition)
	if err != nil {
		s.abandon(blob, err)
		return metadata.Version{}, s.deletingBucket(ctx, b, err)
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

// abandon removes the shards of a blob whose commit certainly did not happen.
// After any other outcome they stay: the version may exist (law L5).
func (s *Store) abandon(blob *metadata.Blob, err error) {
	if blob != nil && (metadata.IsAnswer(err) || errors.Is(err, metadata.ErrUnavailable)) {
		s.discard(blob)
	}
}

// deletingBucket tells a bucket that is gone from one whose deletion is under way
// and may yet fail: a partition's fence says "no such bucket" for both.
func (s *Store) deletingBucket(ctx context.Context, b metadata.Bucket, err error) error {
	if !errors.Is(err, metadata.ErrNoSuchBucket) {
		return err
	}
	now, lookup := s.cfg.Buckets.GetBucketNow(ctx, b.Name)
	if lookup == nil && now.ID == b.ID {
		return fmt.Errorf("%w: bucket %s is being deleted", metadata.ErrConflict, b.Name)
	}
	return err
}
