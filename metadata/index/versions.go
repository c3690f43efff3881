package index

import (
	"bytes"
	"encoding/binary"

	"bivalve/metadata"
)

// The current version of a key, if it has content, is its row of the table
// objects: reading and listing what is current costs the same with a thousand old
// versions behind it. Every other version, and every delete marker, is a row of
// the table versions. So a key whose newest version is a marker has no row in
// objects; its first row in versions is the marker.

// found is a version with its place.
type found struct {
	v      metadata.Version
	raw    []byte // valid until the next change
	exists bool
	aside  bool // in versions, not in objects
}

// current is the current version of a key, if it has one with content.
func (ix *Index) current(bucket metadata.BucketID, key string) (found, error) {
	return asFound(bucket, key, ix.t.objects.Get(objectKey(bucket, key)), false)
}

func asFound(bucket metadata.BucketID, key string, raw []byte, aside bool) (found, error) {
	if raw == nil {
		return found{}, nil
	}
	v, err := metadata.DecodeVersion(bucket, key, raw)
	return found{v: v, raw: raw, exists: err == nil, aside: aside}, err
}

// newest is the record of the newest version, perhaps of a marker; nil: none.
func (ix *Index) newest(bucket metadata.BucketID, key string) []byte {
	if raw := ix.t.objects.Get(objectKey(bucket, key)); raw != nil {
		return raw
	}
	_, raw := ix.firstAside(bucket, key)
	return raw
}

// firstAside is the first row that a key has in versions.
func (ix *Index) firstAside(bucket metadata.BucketID, key string) (k, raw []byte) {
	from := versionKey(bucket, key, -1) // -1 turned is 0: before any time
	k, raw = ix.t.versions.Cursor().Seek(from)
	if len(k) != len(from) || !bytes.HasPrefix(k, from[:len(from)-8]) {
		return nil, nil
	}
	return k, raw
}

// find is the version of that id.
func (ix *Index) find(bucket metadata.BucketID, key, id string) (found, error) {
	cur, err := ix.current(bucket, key)
	if err != nil || cur.exists && cur.v.ID == id {
		return cur, err
	}
	at, ok := metadata.VersionTime(id)
	if id == metadata.NullVersion {
		at, ok = ix.nullTime(bucket, key)
	}
	if !ok {
		return found{}, nil
	}
	f, err := asFound(bucket, key, ix.t.versions.Get(versionKey(bucket, key, at)), true)
	if err == nil && f.v.ID != id {
		return found{}, nil
	}
	return f, err
}

// nullTime is when the null version of a key was committed, if it is in versions.
func (ix *Index) nullTime(bucket metadata.BucketID, key string) (int64, bool) {
	raw := ix.t.nulls.Get(objectKey(bucket, key))
	if len(raw) != 8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(raw)), true
}

// storeAgain writes a version where it was found.
func (ix *Index) storeAgain(f found) error {
	if f.aside {
		return ix.putAside(f.v)
	}
	return ix.putCurrent(f.v)
}

func (ix *Index) putCurrent(v metadata.Version) error {
	raw, err := metadata.EncodeVersion(&v)
	if err != nil {
		return err
	}
	return ix.t.objects.Put(objectKey(v.Bucket, v.Key), raw)
}

func (ix *Index) putAside(v metadata.Version) error {
	raw, err := metadata.EncodeVersion(&v)
	if err != nil {
		return err
	}
	if v.ID == metadata.NullVersion {
		if err := ix.t.nulls.Put(objectKey(v.Bucket, v.Key), timeKey(v.Modified, nil)); err != nil {
			return err
		}
	}
	return ix.t.versions.Put(versionKey(v.Bucket, v.Key, v.Modified), raw)
}

// remove takes the record of a version away from where it was found.
func (ix *Index) remove(f found) error {
	if !f.aside {
		ix.use(f.v.Bucket).Objects--
		return ix.t.objects.Delete(objectKey(f.v.Bucket, f.v.Key))
	}
	if f.v.ID == metadata.NullVersion {
		if err := ix.t.nulls.Delete(objectKey(f.v.Bucket, f.v.Key)); err != nil {
			return err
		}
	}
	return ix.t.versions.Delete(versionKey(f.v.Bucket, f.v.Key, f.v.Modified))
}

// stepAside makes room for a newer version of a key.
func (ix *Index) stepAside(bucket metadata.BucketID, key string) error {
	cur, err := ix.current(bucket, key)
	if err != nil || !cur.exists {
		return err
	}
	if err := ix.remove(cur); err != nil {
		return err
	}
	return ix.putAside(cur.v)
}

// promote makes the newest version that a key still has current, unless it is a
// marker, which is current where it is.
func (ix *Index) promote(bucket metadata.BucketID, key string) error {
	if ix.t.objects.Get(objectKey(bucket, key)) != nil {
		return nil
	}
	_, raw := ix.firstAside(bucket, key)
	f, err := asFound(bucket, key, raw, true)
	if err != nil || !f.exists || f.v.DeleteMarker {
		return err
	}
	if err := ix.remove(f); err != nil {
		return err
	}
	ix.use(bucket).Objects++
	return ix.putCurrent(f.v)
}

// discard takes a version out of the counts and lets its blobs go, and its record
// with them.
func (ix *Index) discard(f found) error {
	if !f.exists {
		return nil
	}
	if f.v.DeleteMarker {
		ix.stats.Markers--
		ix.use(f.v.Bucket).Markers--
	} else {
		ix.stats.Objects--
		ix.stats.Bytes -= f.v.Bytes
		u := ix.use(f.v.Bucket)
		u.Versions--
		u.Bytes -= f.v.Bytes
	}
	if err := ix.letGo(metadata.VersionOwner(&f.v), f.v.Parts, f.v.Bytes); err != nil {
		return err
	}
	return ix.remove(f)
}
