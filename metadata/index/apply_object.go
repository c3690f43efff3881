package index

import (
	"bytes"
	"encoding/binary"

	"bivalve/metadata"
)

// fenced answers ErrNoSuchBucket for a bucket that is being or was deleted.
func (ix *Index) fenced(bucket metadata.BucketID) error {
	if _, closed := ix.fence(bucket); closed {
		return metadata.ErrNoSuchBucket
	}
	return nil
}

// fence is the last attempt to delete a bucket, and whether it stands.
func (ix *Index) fence(bucket metadata.BucketID) (attempt int64, closed bool) {
	raw := ix.t.fences.Get(bucket[:])
	if len(raw) != 9 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(raw)), raw[8] == 1
}

// holds evaluates a condition against the current version. S3: If-Match on an
// absent key is 404, everything else that does not hold is 412.
func holds(c metadata.Condition, cur metadata.Version, exists bool) error {
	switch {
	case c.IfNoneMatchAny && exists:
		return metadata.ErrConditionFailed
	case c.IfMatch != "" && !exists:
		return metadata.ErrNoSuchKey
	case c.IfMatch != "" && c.IfMatch != "*" && c.IfMatch != cur.ETag:
		return metadata.ErrConditionFailed
	}
	return nil
}

// garbageNumber is the next free number within the entry being applied, which
// may queue twice (a completed upload and what it replaced).
func (ix *Index) garbageNumber() uint16 {
	k, _ := ix.t.garbage.Cursor().Last()
	if len(k) == 10 && bytes.Equal(k[:8], timeKey(ix.lastTime, nil)) {
		return binary.BigEndian.Uint16(k[8:]) + 1
	}
	return 0
}

func (ix *Index) dropGarbage(d metadata.DropGarbage) (any, error) {
	for _, id := range d.Items {
		if err := ix.forget(id); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// fenceBucket closes the bucket here if nothing of it is left, or opens it.
func (ix *Index) fenceBucket(f metadata.Fence) (any, error) {
	last, closed := ix.fence(f.Bucket)
	late := last != 0 && last == f.Attempt && !closed && !f.Lift
	if late || last > f.Attempt {
		return nil, metadata.ErrConflict
	}
	state := byte(0)
	if !f.Lift {
		for _, t := range []records{ix.t.objects.Cursor(), ix.t.versions.Cursor(), ix.t.uploads.Cursor()} {
			if k, _ := t.Seek(f.Bucket[:]); bytes.HasPrefix(k, f.Bucket[:]) {
				return nil, metadata.ErrBucketNotEmpty
			}
		}
		state = 1
	}
	return nil, ix.t.fences.Put(f.Bucket[:], append(timeKey(f.Attempt, nil), state))
}
