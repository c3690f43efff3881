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

// current is the current version of a key, if there is one.
func (ix *Index) current(bucket metadata.BucketID, key string) (metadata.Version, bool, error) {
	raw := ix.t.objects.Get(objectKey(bucket, key))
	if raw == nil {
		return metadata.Version{}, false, nil
	}
	v, err := metadata.DecodeVersion(bucket, key, raw)
	return v, err == nil, err
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

func (ix *Index) putVersion(p metadata.PutVersion) (any, error) {
	return ix.commitVersion(p.Version, p.Condition)
}

// commitVersion makes v current if the condition holds; what it replaces
// becomes garbage (law L3).
func (ix *Index) commitVersion(v metadata.Version, c metadata.Condition) (any, error) {
	if err := ix.fenced(v.Bucket); err != nil {
		return nil, err
	}
	cur, exists, err := ix.current(v.Bucket, v.Key)
	if err != nil {
		return nil, err
	}
	if err := holds(c, cur, exists); err != nil {
		return nil, err
	}
	v.Modified = ix.lastTime
	raw, err := metadata.EncodeVersion(&v)
	if err != nil {
		return nil, err
	}
	if exists {
		if err := ix.discard(cur); err != nil {
			return nil, err
		}
	}
	ix.count(v.Parts, v.Bytes, 1)
	ix.stats.Objects++
	ix.stats.Bytes += v.Bytes
	if err := ix.t.objects.Put(objectKey(v.Bucket, v.Key), raw); err != nil {
		return nil, err
	}
	return metadata.Committed{Modified: v.Modified}, nil
}

func (ix *Index) deleteKey(d metadata.DeleteKey) (any, error) {
	if err := ix.fenced(d.Bucket); err != nil {
		return nil, err
	}
	cur, exists, err := ix.current(d.Bucket, d.Key)
	if err != nil {
		return nil, err
	}
	if err := holds(d.Condition, cur, exists); err != nil || !exists {
		return nil, err
	}
	if err := ix.discard(cur); err != nil {
		return nil, err
	}
	return nil, ix.t.objects.Delete(objectKey(d.Bucket, d.Key))
}

// discard takes a version out of the counts and queues its blobs; the caller
// overwrites or deletes the record in the same transaction.
func (ix *Index) discard(v metadata.Version) error {
	ix.count(v.Parts, v.Bytes, -1)
	ix.stats.Objects--
	ix.stats.Bytes -= v.Bytes
	return ix.queueGarbage(v.Parts)
}

// count adds what one version or one uploaded part (sign 1), or its removal
// (sign -1), means for protection.
func (ix *Index) count(parts []metadata.Part, size, sign int64) {
	under, blobs := false, false
	risk := map[string]bool{}
	for _, p := range parts {
		if p.Blob == nil {
			continue
		}
		blobs = true
		under = under || p.Blob.UnderProtected()
		for _, zone := range p.Blob.AtRisk {
			risk[zone] = true
		}
	}
	if blobs {
		ix.stats.WithBlobs += sign
	}
	if under {
		ix.stats.UnderProtected += sign
		ix.stats.UnderBytes += sign * size
	}
	for zone := range risk { // order does not matter to sums
		ix.stats.AtRisk[zone] += sign
	}
}

// queueGarbage hands blobs to the sweeper. One entry queues at most 65,536.
func (ix *Index) queueGarbage(parts []metadata.Part) error {
	number := ix.garbageNumber()
	for _, p := range parts {
		if p.Blob == nil {
			continue
		}
		raw, err := metadata.EncodeBody(p.Blob)
		if err != nil {
			return err
		}
		k := binary.BigEndian.AppendUint16(timeKey(ix.lastTime, nil), number)
		if err := ix.t.garbage.Put(k, raw); err != nil {
			return err
		}
		number++
		ix.stats.Garbage++
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
		if ix.t.garbage.Get(id[:]) == nil {
			continue
		}
		if err := ix.t.garbage.Delete(id[:]); err != nil {
			return nil, err
		}
		ix.stats.Garbage--
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
		for _, t := range []records{ix.t.objects.Cursor(), ix.t.uploads.Cursor()} {
			if k, _ := t.Seek(f.Bucket[:]); bytes.HasPrefix(k, f.Bucket[:]) {
				return nil, metadata.ErrBucketNotEmpty
			}
		}
		state = 1
	}
	return nil, ix.t.fences.Put(f.Bucket[:], append(timeKey(f.Attempt, nil), state))
}
