package s3test

import (
	"fmt"
	"slices"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api"
)

func (s *suite) versioning(bucket string, v metadata.Versioning) {
	s.Helper()
	_, err := s.Settings.ConfigureBucket(s.ctx, bucket, metadata.FieldVersioning, []byte(v))
	s.no(err)
}

func (s *suite) delete(bucket, key, version string) metadata.Deleted {
	s.Helper()
	done, err := s.Objects.DeleteObject(s.ctx, s3api.DeleteRequest{Bucket: bucket, Key: key, Version: version})
	s.no(err)
	return done
}

// list is all versions of a bucket in pages of limit: key, content or marker, and a
// star for the latest.
func (s *suite) list(q s3api.VersionQuery) string {
	s.Helper()
	var out []string
	for page := 0; ; page++ {
		p, err := s.Lister.ListVersions(s.ctx, q)
		s.no(err)
		for _, o := range p.Versions {
			text := o.Key + "=" + fmt.Sprint(o.Bytes)
			if o.DeleteMarker {
				text = o.Key + "-"
			}
			if o.Latest {
				text += "*"
			}
			out = append(out, text)
		}
		out = append(out, p.Prefixes...)
		if !p.More {
			break
		}
		if len(p.Versions)+len(p.Prefixes) != q.Limit || page > 100 {
			s.Fatalf("%+v: page %+v", q, p)
		}
		q.AfterKey, q.AfterTime = p.NextKey, p.NextTime
	}
	if q.Delimiter != "" { // pages have prefixes behind versions
		slices.Sort(out)
	}
	return strings.Join(out, " ")
}

// versioned is the key "k" of a bucket "v", of which every version has its own length.
type versioned struct{ *suite }

func (s versioned) add(n int) metadata.Version {
	v, err := s.put("v", "k", make([]byte, n), metadata.Condition{})
	s.no(err)
	return v
}

func (s versioned) look(version string, want int64, wantErr error) metadata.Version {
	s.Helper()
	v, err := s.Objects.HeadObject(s.ctx, "v", "k", version)
	if wantErr != nil {
		s.is(err, wantErr)
	} else if s.no(err); v.Bytes != want {
		s.Errorf("version %q has %d bytes, want %d", version, v.Bytes, want)
	}
	return v
}

func (s versioned) all(want string) {
	s.Helper()
	if got := s.list(s3api.VersionQuery{Bucket: "v", Limit: 1000}); got != want {
		s.Errorf("versions %q, want %q", got, want)
	}
}

// versionRules: what each state of versioning makes of a PUT and of a DELETE.
func (s *suite) versionRules() {
	s.bucket("v")
	k := versioned{s}
	k.add(1)
	if v := k.add(2); v.ID != metadata.NullVersion || v.Versioned {
		s.Errorf("unversioned: %+v", v)
	}
	k.all("k=2*")
	k.enabled()
	k.suspended()
	k.all("k=7* k=3")
	s.is(s.Buckets.DeleteBucket(s.ctx, "v"), metadata.ErrBucketNotEmpty)
	p, err := s.Lister.ListVersions(s.ctx, s3api.VersionQuery{Bucket: "v", Limit: 1000})
	s.no(err)
	for _, v := range p.Versions {
		s.delete("v", "k", v.VersionID)
	}
	k.all("")
	k.look("", 0, metadata.ErrNoSuchKey)
	s.delete("v", "k", "")
	k.all("k-*")
	s.is(s.Buckets.DeleteBucket(s.ctx, "v"), metadata.ErrBucketNotEmpty) // of a marker
	s.delete("v", "k", metadata.NullVersion)
	s.no(s.Buckets.DeleteBucket(s.ctx, "v"))
}

// enabled leaves versions of 3 and 2 bytes.
func (s versioned) enabled() {
	s.versioning("v", metadata.VersioningEnabled)
	v3, v4 := s.add(3), s.add(4)
	if v3.ID == v4.ID || v3.ID == metadata.NullVersion || !v4.Versioned {
		s.Errorf("ids %q and %q", v3.ID, v4.ID)
	}
	s.all("k=4* k=3 k=2")
	s.look("", 4, nil)
	s.look(v3.ID, 3, nil)
	s.look(metadata.NullVersion, 2, nil)
	s.look(metadata.NewVersionID(5, metadata.Random{1}), 0, metadata.ErrNoSuchVersion)

	marker := s.delete("v", "k", "")
	if !marker.Marker || marker.ID == "" || marker.ID == metadata.NullVersion {
		s.Errorf("marker %+v", marker)
	}
	s.all("k-* k=4 k=3 k=2")
	if v := s.look("", 0, nil); !v.DeleteMarker || v.ID != marker.ID {
		s.Errorf("newest is %+v", v)
	}
	if p, err := s.Lister.ListObjects(s.ctx, s3api.ListRequest{Bucket: "v", Limit: 10}); err != nil || len(p.Objects) != 0 {
		s.Errorf("a deleted key is listed: %+v, %v", p, err)
	}
	_, err := s.put("v", "k", nil, metadata.Condition{IfMatch: "*"})
	s.is(err, metadata.ErrNoSuchKey)
	if d := s.delete("v", "k", marker.ID); !d.Marker || d.ID != marker.ID {
		s.Errorf("removal of a marker: %+v", d)
	}
	s.all("k=4* k=3 k=2")
	s.delete("v", "k", v4.ID)
	s.delete("v", "k", v4.ID) // again: it is gone, which is what was asked for
	s.all("k=3* k=2")
	s.look("", 3, nil)
}

// suspended begins with what enabled leaves, and leaves versions of 7 and 3 bytes.
func (s versioned) suspended() {
	s.versioning("v", metadata.VersioningSuspended)
	if v := s.add(5); v.ID != metadata.NullVersion || !v.Versioned {
		s.Errorf("suspended: %+v", v)
	}
	s.all("k=5* k=3") // the old null version is replaced, wherever it stood
	s.add(6)
	s.all("k=6* k=3")
	if d := s.delete("v", "k", ""); !d.Marker || d.ID != metadata.NullVersion {
		s.Errorf("suspended marker: %+v", d)
	}
	s.all("k-* k=3")
	s.delete("v", "k", "")
	s.all("k-* k=3")
	s.versioning("v", metadata.VersioningEnabled)
	s.add(7)
	s.all("k=7* k- k=3")
	s.versioning("v", metadata.VersioningSuspended)
	s.add(8)
	s.all("k=8* k=7 k=3")
	s.delete("v", "k", metadata.NullVersion)
}

// listVersionRules: pages of every size tell the same, prefixes included, also when
// a page ends within a key.
func (s *suite) listVersionRules() {
	s.bucket("l")
	_, err := s.Lister.ListVersions(s.ctx, s3api.VersionQuery{Bucket: "nowhere", Limit: 1})
	s.is(err, metadata.ErrNoSuchBucket)
	fill := func(keys string, n int) {
		for _, k := range strings.Fields(keys) {
			_, err := s.put("l", k, make([]byte, n), metadata.Condition{})
			s.no(err)
		}
	}
	fill("a a/1 b/2/x c", 1)
	s.versioning("l", metadata.VersioningEnabled)
	fill("a a/1 a/1 b/2/x b/2/y d", 2)
	s.delete("l", "b/2/x", "")
	s.delete("l", "ghost", "")
	for _, c := range []struct{ prefix, delimiter, after, want string }{
		{"", "", "", "a=2* a=1 a/1=2* a/1=2 a/1=1 b/2/x-* b/2/x=2 b/2/x=1 b/2/y=2* c=1* d=2* ghost-*"},
		{"", "/", "", "a/ a=1 a=2* b/ c=1* d=2* ghost-*"},
		{"b/", "/", "", "b/2/"},
		{"b/2/", "/", "", "b/2/x-* b/2/x=1 b/2/x=2 b/2/y=2*"},
		{"a", "", "a", "a/1=2* a/1=2 a/1=1"},
		{"", "/", "a/", "b/ c=1* d=2* ghost-*"},
		{"zz", "", "", ""},
	} {
		for _, limit := range []int{1, 2, 3, 4, 5, 7, 1000} {
			if got := s.list(s3api.VersionQuery{Bucket: "l", Prefix: c.prefix, Delimiter: c.delimiter, AfterKey: c.after, Limit: limit}); got != c.want {
				s.Errorf("%+v limit %d: %q", c, limit, got)
			}
		}
	}
	// The marker of a page may be gone when the next is asked for.
	p, err := s.Lister.ListVersions(s.ctx, s3api.VersionQuery{Bucket: "l", Limit: 1})
	s.no(err)
	s.delete("l", "a", p.NextVersion)
	if got := s.list(s3api.VersionQuery{Bucket: "l", Prefix: "a", AfterKey: p.NextKey, AfterTime: p.NextTime, Limit: 2}); got != "a=1* a/1=2* a/1=2 a/1=1" {
		s.Errorf("behind a version that is gone: %q", got)
	}
}
