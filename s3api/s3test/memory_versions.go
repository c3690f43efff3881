package s3test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"bivalve/metadata"
	"bivalve/s3api"
)

// current is the newest version of a key, unless that is a marker.
func (b *bucket) current(key string) *object {
	if l := b.objects[key]; len(l) > 0 && !l[0].DeleteMarker {
		return l[0]
	}
	return nil
}

// describe adds what follows from the configuration of the bucket.
func (b *bucket) describe(v *metadata.Version) {
	v.Versioned = b.Rules.Versioning != metadata.Unversioned
	if b.current(v.Key) != nil && b.current(v.Key).ID == v.ID {
		l := b.lifecycle()
		v.Expires = l.Expires(v.Key, v.Bytes, v.Tags, v.Modified, 24*time.Hour)
	}
}

// described is an upload with what follows from the configuration of the bucket.
func (b *bucket) described(u metadata.Upload) metadata.Upload {
	l := b.lifecycle()
	u.Aborts = l.Aborts(u.Key, u.Initiated, 24*time.Hour)
	return u
}

func (b *bucket) lifecycle() (l metadata.Lifecycle) {
	if raw := b.Settings[metadata.FieldLifecycle]; raw == nil || metadata.DecodeBody(raw, &l) != nil {
		return metadata.Lifecycle{}
	}
	return l
}

// find is the place of a version in the list of its key; -1: there is none.
func (b *bucket) find(key, id string) int {
	return slices.IndexFunc(b.objects[key], func(o *object) bool { return o.ID == id })
}

func (b *bucket) drop(key string, at int) {
	l := slices.Delete(slices.Clone(b.objects[key]), at, at+1)
	b.objects[key] = l
	if len(l) == 0 {
		delete(b.objects, key)
	}
}

// commit puts a version or a marker in front; with the lock held.
func (m *Memory) commit(b *bucket, o *object) (metadata.Version, error) {
	if b.Rules.Lock == nil && o.Lock != (metadata.Lock{}) {
		return metadata.Version{}, metadata.ErrNoObjectLock
	}
	if r := b.Rules.Lock; r != nil && o.Lock.Mode == "" && r.Mode != "" && !o.DeleteMarker {
		o.Lock.Mode, o.Lock.Until = r.Mode, time.Unix(0, o.Modified).UTC().AddDate(r.Years, 0, r.Days).UnixNano()
	}
	if l := b.objects[o.Key]; len(l) > 0 {
		o.Modified = max(o.Modified, l[0].Modified+1)
	}
	o.ID = metadata.NullVersion
	if b.Rules.Versioning == metadata.VersioningEnabled {
		o.ID = metadata.NewVersionID(o.Modified, m.next())
	} else if at := b.find(o.Key, o.ID); at >= 0 {
		b.drop(o.Key, at)
	}
	if !o.DeleteMarker || b.Rules.Versioning != metadata.Unversioned {
		b.objects[o.Key] = append([]*object{o}, b.objects[o.Key]...)
	}
	v := o.Version
	b.describe(&v)
	return v, nil
}

func (m *Memory) HeadObject(_ context.Context, bucket, key, version string) (metadata.Version, error) {
	if err := m.enter("HeadObject", bucket, key); err != nil {
		return metadata.Version{}, err
	}
	defer m.mu.Unlock()
	b, err := m.find(bucket)
	if err != nil {
		return metadata.Version{}, err
	}
	at, absent := 0, metadata.ErrNoSuchKey
	if version != "" {
		at, absent = b.find(key, version), metadata.ErrNoSuchVersion
	}
	if at < 0 || at >= len(b.objects[key]) {
		return metadata.Version{}, absent
	}
	o := b.objects[key][at]
	v := o.Version
	b.describe(&v)
	v.Inline = o.data // the bytes of this very version, whatever happens to the key
	return v, nil
}

func (m *Memory) DeleteObject(_ context.Context, r s3api.DeleteRequest) (metadata.Deleted, error) {
	if err := m.enter("DeleteObject", r.Bucket, r.Key); err != nil {
		return metadata.Deleted{}, err
	}
	defer m.mu.Unlock()
	b, err := m.find(r.Bucket)
	if err != nil {
		return metadata.Deleted{}, err
	}
	if r.Version == "" {
		if err := check(r.Condition, b.current(r.Key)); err != nil {
			return metadata.Deleted{}, err
		}
		v, err := m.commit(b, &object{Version: metadata.Version{Bucket: b.ID, Key: r.Key, Modified: m.Now().UnixNano(), DeleteMarker: true}})
		if err != nil || b.Rules.Versioning == metadata.Unversioned {
			return metadata.Deleted{}, err
		}
		return metadata.Deleted{ID: v.ID, Marker: true}, nil
	}
	at := b.find(r.Key, r.Version)
	if at < 0 {
		return metadata.Deleted{ID: r.Version}, check(r.Condition, nil)
	}
	o := b.objects[r.Key][at]
	if err := check(r.Condition, o); err != nil {
		return metadata.Deleted{}, err
	}
	if o.Lock.Holds(m.Now().UnixNano(), r.Bypass) {
		return metadata.Deleted{}, metadata.ErrLocked
	}
	b.drop(r.Key, at)
	return metadata.Deleted{ID: r.Version, Marker: o.DeleteMarker}, nil
}

func (m *Memory) AmendObject(_ context.Context, r s3api.AmendRequest) (string, error) {
	if err := m.enter("AmendObject", r.Bucket, r.Key); err != nil {
		return "", err
	}
	defer m.mu.Unlock()
	b, err := m.find(r.Bucket)
	if err != nil {
		return "", err
	}
	at, absent := 0, metadata.ErrNoSuchKey
	if r.Version != "" {
		at, absent = b.find(r.Key, r.Version), metadata.ErrNoSuchVersion
	}
	if at < 0 || at >= len(b.objects[r.Key]) {
		return "", absent
	}
	o := *b.objects[r.Key][at]
	switch {
	case o.DeleteMarker && r.Version == "":
		return "", metadata.ErrNoSuchKey
	case o.DeleteMarker:
		return "", metadata.ErrIsMarker
	case (r.Retention != nil || r.Hold != nil) && b.Rules.Lock == nil:
		return "", metadata.ErrNoObjectLock
	case r.Retention != nil && !o.Lock.Admits(*r.Retention, m.Now().UnixNano(), r.Bypass):
		return "", metadata.ErrLocked
	}
	if r.Retention != nil {
		o.Lock.Mode, o.Lock.Until = r.Retention.Mode, r.Retention.Until
	}
	if r.Hold != nil {
		o.Lock.SetHold(*r.Hold)
	}
	if r.SetTags {
		o.Tags = r.Tags
	}
	list := slices.Clone(b.objects[r.Key])
	list[at] = &o
	b.objects[r.Key] = list
	return o.ID, nil
}

func (m *Memory) ListVersions(_ context.Context, q s3api.VersionQuery) (s3api.VersionPage, error) {
	var p s3api.VersionPage
	if err := m.enter("ListVersions", q.Bucket, ""); err != nil {
		return p, err
	}
	defer m.mu.Unlock()
	b, err := m.find(q.Bucket)
	if err != nil {
		return p, err
	}
	for _, k := range slices.Sorted(maps.Keys(b.objects)) {
		if !strings.HasPrefix(k, q.Prefix) {
			continue
		}
		prefix := common(k, q.Prefix, q.Delimiter)
		if prefix != "" && (prefix <= q.AfterKey || len(p.Prefixes) > 0 && p.Prefixes[len(p.Prefixes)-1] == prefix) {
			continue
		}
		for i, o := range b.objects[k] {
			if prefix == "" && !b.behind(q, k, o) {
				continue
			}
			if len(p.Versions)+len(p.Prefixes) == q.Limit {
				p.More = true
				return p, nil
			}
			if prefix != "" {
				p.Prefixes = append(p.Prefixes, prefix)
				p.NextKey, p.NextVersion, p.NextTime = prefix, "", 0
				break
			}
			p.Versions = append(p.Versions, metadata.ObjectSummary{Key: k, Bytes: o.Bytes, ETag: o.ETag, Modified: o.Modified,
				StorageClass: o.Attributes.StorageClass, Checksum: o.Checksum, VersionID: o.ID, DeleteMarker: o.DeleteMarker, Latest: i == 0, Tags: o.Tags})
			p.NextKey, p.NextVersion, p.NextTime = k, o.ID, o.Modified
		}
	}
	return p, nil
}

// behind tells whether a version comes after the marker of a page.
func (b *bucket) behind(q s3api.VersionQuery, key string, o *object) bool {
	switch {
	case key != q.AfterKey:
		return key > q.AfterKey
	case q.AfterTime < 0:
		at := b.find(key, metadata.NullVersion)
		return at < 0 || o.Modified < b.objects[key][at].Modified
	}
	return q.AfterTime != 0 && o.Modified < q.AfterTime
}
