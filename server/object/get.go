package object

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"bivalve/metadata"
)

// HeadObject is the version of that id; with "" the newest, which may be a marker.
func (s *Store) HeadObject(ctx context.Context, bucket, key, id string) (v metadata.Version, err error) {
	err = s.inBucket(ctx, bucket, func(b metadata.Bucket) error {
		v, err = s.cfg.Versions.GetVersion(ctx, b.ID, key, id)
		s.describe(&v, b, id == "")
		return err
	})
	return v, err
}

// OpenObject reads bytes [offset, offset+length) of a version. The first chunk is
// read before it returns, so that an object that cannot be read is an error and
// not a broken stream.
func (s *Store) OpenObject(ctx context.Context, v metadata.Version, offset, length int64) (io.ReadCloser, error) {
	if err := checkRange(v, offset, length); err != nil {
		return nil, err
	}
	if length == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if metadata.SealOf(v.Parts) != metadata.SealNone {
		return s.OpenSealed(ctx, v, nil, offset, length)
	}
	if len(v.Parts) == 0 || v.Parts[0].Blob == nil && len(v.Parts) == 1 {
		return io.NopCloser(bytes.NewReader(v.Inline[offset : offset+length])), nil
	}
	return s.openParts(ctx, v.Parts, offset, length)
}

func checkRange(v metadata.Version, offset, length int64) error {
	if offset < 0 || length < 0 || offset > v.Bytes || length > v.Bytes-offset {
		return fmt.Errorf("range [%d, +%d) is outside of an object of %d bytes", offset, length, v.Bytes)
	}
	return nil
}
