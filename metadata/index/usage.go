package index

import (
	"bytes"
	"maps"
	"slices"

	"bivalve/metadata"
)

// What each bucket has here is counted in memory as commands are applied, and written
// with the other counts when they are.

// usage of a bucket, to be changed.
func (ix *Index) use(bucket metadata.BucketID) *metadata.Usage {
	ix.used[bucket] = true
	u := ix.usage[bucket]
	if u == nil {
		u = &metadata.Usage{}
		ix.usage[bucket] = u
	}
	return u
}

// loadUsage reads what saveUsage wrote.
func (ix *Index) loadUsage() error {
	ix.usage, ix.used = map[metadata.BucketID]*metadata.Usage{}, map[metadata.BucketID]bool{}
	cur := ix.t.usage.Cursor()
	for k, raw := cur.First(); len(k) == len(metadata.BucketID{}); k, raw = cur.Next() {
		var u metadata.Usage
		if err := decodeRow(raw, &u); err != nil {
			return err
		}
		ix.usage[metadata.BucketID(k)] = &u
	}
	return nil
}

// saveUsage writes what has changed; a bucket with nothing has no row.
func (ix *Index) saveUsage() error {
	changed := slices.SortedFunc(maps.Keys(ix.used), func(a, b metadata.BucketID) int { return bytes.Compare(a[:], b[:]) })
	for _, bucket := range changed {
		delete(ix.used, bucket)
		if *ix.usage[bucket] == (metadata.Usage{}) {
			delete(ix.usage, bucket)
			if err := ix.t.usage.Delete(bucket[:]); err != nil {
				return err
			}
			continue
		}
		raw, err := metadata.EncodeBody(ix.usage[bucket])
		if err != nil {
			return err
		}
		if err := ix.t.usage.Put(bucket[:], raw); err != nil {
			return err
		}
	}
	return nil
}

// fits tells whether a version that comes in the place of old leaves the bucket within
// its quota: ErrQuotaExceeded. What takes no more than it gives back always fits.
func (ix *Index) fits(room *metadata.Room, v metadata.Version, old found) error {
	if room == nil {
		return nil
	}
	var have metadata.Usage
	if u := ix.usage[v.Bucket]; u != nil {
		have = *u
	}
	bytes, versions := v.Bytes, int64(1)
	if old.exists && !old.v.DeleteMarker {
		bytes -= old.v.Bytes
		versions = 0
	}
	if bytes > 0 && have.Bytes+bytes > room.Bytes || versions > 0 && have.Versions+versions > room.Versions {
		return metadata.ErrQuotaExceeded
	}
	return nil
}

func (ix *Index) queryUsage(q metadata.UsageOf) (any, error) {
	if len(q.Buckets) > metadata.MaxUsages {
		return nil, metadata.ErrMalformed
	}
	out := metadata.Usages{Usages: make([]metadata.Usage, len(q.Buckets))}
	for i, bucket := range q.Buckets {
		if u := ix.usage[bucket]; u != nil {
			out.Usages[i] = *u
		}
	}
	return out, nil
}

// deriveUsage counts what formats before the sixth did not.
func (ix *Index) deriveUsage() error {
	ix.usage, ix.used = map[metadata.BucketID]*metadata.Usage{}, map[metadata.BucketID]bool{}
	for _, t := range []table{ix.t.objects, ix.t.versions} {
		cur := t.Cursor()
		for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
			s, err := metadata.DecodeSummary("", raw)
			if err != nil {
				return err
			}
			u := ix.use(metadata.BucketID(k[:16]))
			if s.DeleteMarker {
				u.Markers++
				continue
			}
			u.Versions++
			u.Bytes += s.Bytes
			if t.name == string(tableObjects) {
				u.Objects++
			}
		}
	}
	of := map[metadata.UploadID]metadata.BucketID{}
	cur := ix.t.uploads.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		of[metadata.UploadID(k[len(k)-16:])] = metadata.BucketID(k[:16])
		ix.use(metadata.BucketID(k[:16])).Uploads++
	}
	cur = ix.t.parts.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var p metadata.Part
		if err := decodeRow(raw, &p); err != nil {
			return err
		}
		ix.use(of[metadata.UploadID(k[:16])]).UploadBytes += p.Bytes
	}
	return nil
}
