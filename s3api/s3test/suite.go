package s3test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"bivalve/metadata"
	"bivalve/s3api"
	"bivalve/s3api/checksum"
)

// Body is an s3api.Body over bytes. Err, if set, takes the place of io.EOF.
type Body struct {
	Err  error
	data *bytes.Reader
	sums s3api.Sums
}

// NewBody answers a body with the sums that the door would compute.
func NewBody(data []byte) *Body {
	m := md5.Sum(data)
	h := checksum.New(checksum.CRC64NVME)
	h.Write(data)
	return &Body{data: bytes.NewReader(data), sums: s3api.Sums{MD5: hex.EncodeToString(m[:]),
		Checksum: metadata.Checksum{Algorithm: checksum.CRC64NVME, Type: checksum.TypeFull, Value: checksum.Encode(h.Sum(nil))}}}
}

func (b *Body) Read(p []byte) (int, error) {
	n, err := b.data.Read(p)
	if err == io.EOF && b.Err != nil {
		err = b.Err
	}
	return n, err
}

func (b *Body) Sums() s3api.Sums { return b.sums }

// suite is one run on fresh stores.
type suite struct {
	*testing.T
	Stores
	ctx context.Context
}

// Run checks that stores keep the contracts of s3api/store.go. newStores must
// answer an empty region each time.
func Run(t *testing.T, newStores func(t *testing.T) Stores) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"Buckets", (*suite).bucketRules}, {"Settings", (*suite).settingRules}, {"Versions", (*suite).versionRules}, {"ListVersions", (*suite).listVersionRules}, {"Objects", (*suite).objectRules}, {"Conditions", (*suite).conditionRules}, {"Races", (*suite).races},
		{"FailedBody", (*suite).failedBody}, {"List", (*suite).listRules}, {"Uploads", (*suite).uploadRules}, {"ListUploads", (*suite).listUploadRules}, {"Copies", (*suite).copyRules},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(&suite{t, newStores(t), t.Context()})
		})
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("got %v, want %v", err, want)
	}
}

func (s *suite) no(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) bucket(name string) {
	s.Helper()
	_, err := s.Buckets.CreateBucket(s.ctx, name)
	s.no(err)
}

func (s *suite) put(bucket, key string, data []byte, c metadata.Condition) (metadata.Version, error) {
	return s.Objects.PutObject(s.ctx, s3api.PutRequest{Bucket: bucket, Key: key, Bytes: int64(len(data)), Body: NewBody(data), Condition: c,
		Attributes: metadata.Attributes{ContentType: "text/plain", User: map[string]string{"a": "b"}}})
}

func (s *suite) remove(bucket, key string, c metadata.Condition) error {
	_, err := s.Objects.DeleteObject(s.ctx, s3api.DeleteRequest{Bucket: bucket, Key: key, Condition: c})
	return err
}

func (s *suite) read(v metadata.Version, offset, length int64) []byte {
	s.Helper()
	rd, err := s.Objects.OpenObject(s.ctx, v, offset, length)
	s.no(err)
	defer rd.Close()
	b, err := io.ReadAll(rd)
	s.no(err)
	return b
}

func (s *suite) bucketRules() {
	_, err := s.Buckets.GetBucket(s.ctx, "alpha")
	s.is(err, metadata.ErrNoSuchBucket)
	s.is(s.Buckets.DeleteBucket(s.ctx, "alpha"), metadata.ErrNoSuchBucket)
	for _, n := range []string{"gamma", "alpha", "beta"} {
		s.bucket(n)
	}
	_, err = s.Buckets.CreateBucket(s.ctx, "alpha")
	s.is(err, metadata.ErrBucketExists)
	list, more, err := s.Buckets.ListBuckets(s.ctx, s3api.BucketQuery{Limit: 2})
	s.no(err)
	if len(list) != 2 || !more || list[0].Name != "alpha" || list[1].Name != "beta" || list[0].Created == 0 {
		s.Errorf("first page: %+v, %v", list, more)
	}
	list, more, err = s.Buckets.ListBuckets(s.ctx, s3api.BucketQuery{After: "beta", Limit: 2})
	s.no(err)
	if len(list) != 1 || more || list[0].Name != "gamma" {
		s.Errorf("second page: %+v, %v", list, more)
	}
	_, err = s.put("alpha", "k", []byte("x"), metadata.Condition{})
	s.no(err)
	s.is(s.Buckets.DeleteBucket(s.ctx, "alpha"), metadata.ErrBucketNotEmpty)
	s.no(s.remove("alpha", "k", metadata.Condition{}))
	s.no(s.Buckets.DeleteBucket(s.ctx, "alpha"))
	_, err = s.put("alpha", "k", nil, metadata.Condition{})
	s.is(err, metadata.ErrNoSuchBucket)
}

func (s *suite) objectRules() {
	s.bucket("objects")
	_, err := s.Objects.HeadObject(s.ctx, "objects", "k", "")
	s.is(err, metadata.ErrNoSuchKey)
	_, err = s.Objects.HeadObject(s.ctx, "nowhere", "k", "")
	s.is(err, metadata.ErrNoSuchBucket)
	for _, n := range []int{0, 1, 16 << 10, 16<<10 + 1, 200_000, 5<<20 + 3} {
		data := bytes.Repeat([]byte("0123456789abcdefg"), n/17+1)[:n]
		_, err := s.put("objects", "k", data, metadata.Condition{})
		s.no(err)
		v, err := s.Objects.HeadObject(s.ctx, "objects", "k", "")
		s.no(err)
		sums := NewBody(data).Sums()
		if v.Bytes != int64(n) || v.ETag != sums.MD5 || v.Checksum != sums.Checksum || v.Modified == 0 || v.ID != metadata.NullVersion ||
			v.Attributes.ContentType != "text/plain" || v.Attributes.User["a"] != "b" {
			s.Errorf("%d bytes: %+v", n, v)
		}
		if n == 0 {
			continue
		}
		for _, r := range [][2]int64{{0, int64(n)}, {0, 1}, {int64(n) - 1, 1}, {int64(n) / 2, int64(n) - int64(n)/2}} {
			if got := s.read(v, r[0], r[1]); !bytes.Equal(got, data[r[0]:r[0]+r[1]]) {
				s.Errorf("%d bytes, range %v: differs", n, r)
			}
		}
	}
	old, err := s.Objects.HeadObject(s.ctx, "objects", "k", "")
	s.no(err)
	_, err = s.put("objects", "k", []byte("new"), metadata.Condition{})
	s.no(err)
	if got := s.read(old, 0, 10); string(got) != "0123456789" {
		s.Errorf("a version that was looked up reads %q after an overwrite", got)
	}
	s.no(s.remove("objects", "k", metadata.Condition{}))
	s.no(s.remove("objects", "k", metadata.Condition{}))
	_, err = s.Objects.HeadObject(s.ctx, "objects", "k", "")
	s.is(err, metadata.ErrNoSuchKey)
}

func (s *suite) conditionRules() {
	s.bucket("conditions")
	absent, has := metadata.Condition{IfNoneMatchAny: true}, func(e string) metadata.Condition { return metadata.Condition{IfMatch: e} }
	_, err := s.put("conditions", "k", []byte("1"), has("*"))
	s.is(err, metadata.ErrNoSuchKey)
	v, err := s.put("conditions", "k", []byte("1"), absent)
	s.no(err)
	_, err = s.put("conditions", "k", []byte("2"), absent)
	s.is(err, metadata.ErrConditionFailed)
	_, err = s.put("conditions", "k", []byte("2"), has("0"))
	s.is(err, metadata.ErrConditionFailed)
	v2, err := s.put("conditions", "k", []byte("2"), has(v.ETag))
	s.no(err)
	s.is(s.remove("conditions", "k", has(v.ETag)), metadata.ErrConditionFailed)
	s.no(s.remove("conditions", "k", has(v2.ETag)))
}

// races: of many conditional creates exactly one wins.
func (s *suite) races() {
	s.bucket("races")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			_, err := s.put("races", "k", fmt.Appendf(nil, "writer %d", i), metadata.Condition{IfNoneMatchAny: true})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, metadata.ErrConditionFailed) && !errors.Is(err, metadata.ErrConditionConflict) {
				s.Errorf("loser got %v", err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		s.Errorf("%d writers won", won)
	}
}

// failedBody: a body that does not hold together leaves no version.
func (s *suite) failedBody() {
	s.bucket("failed")
	bad := errors.New("what the client sent is not what it claimed")
	for _, n := range []int{100, 100_000} {
		_, err := s.put("failed", "k", []byte("old"), metadata.Condition{})
		s.no(err)
		b := NewBody(make([]byte, n))
		b.Err = bad
		_, err = s.Objects.PutObject(s.ctx, s3api.PutRequest{Bucket: "failed", Key: "k", Bytes: int64(n), Body: b})
		s.is(err, bad)
		v, err := s.Objects.HeadObject(s.ctx, "failed", "k", "")
		s.no(err)
		if v.Bytes != 3 {
			s.Errorf("the old object is gone: %+v", v)
		}
	}
}

func (s *suite) listRules() {
	s.bucket("list")
	_, err := s.Lister.ListObjects(s.ctx, s3api.ListRequest{Bucket: "nowhere", Limit: 1})
	s.is(err, metadata.ErrNoSuchBucket)
	keys := []string{"a", "a/", "a/1", "a/2/x", "a/2/y", "b", "b/1", "é", "~"}
	for _, k := range keys {
		_, err := s.put("list", k, []byte(k), metadata.Condition{})
		s.no(err)
	}
	for _, c := range []struct{ prefix, delimiter, after, want string }{
		{"", "", "", "a a/ a/1 a/2/x a/2/y b b/1 ~ é"}, {"", "/", "", "a b ~ é | a/ b/"}, {"a/", "/", "", "a/ a/1 | a/2/"},
		{"", "/", "a/", "b ~ é | b/"}, {"", "", "a/2/x", "a/2/y b b/1 ~ é"}, {"a", "", "a/1", "a/2/x a/2/y"}, {"zz", "/", "", ""}, {"", "2/", "", "a a/ a/1 b b/1 ~ é | a/2/"},
	} {
		for limit := 1; limit <= 10; limit++ {
			var objects, prefixes []string
			r := s3api.ListRequest{Bucket: "list", Prefix: c.prefix, Delimiter: c.delimiter, After: c.after, Limit: limit}
			for page := 0; ; page++ {
				p, err := s.Lister.ListObjects(s.ctx, r)
				s.no(err)
				for _, o := range p.Objects {
					objects = append(objects, o.Key)
					if o.Bytes != int64(len(o.Key)) || o.ETag == "" || o.Modified == 0 {
						s.Errorf("summary: %+v", o)
					}
				}
				prefixes = append(prefixes, p.Prefixes...)
				if !p.More {
					break
				}
				if len(p.Objects)+len(p.Prefixes) != limit || p.Next <= r.After || page > len(keys) {
					s.Fatalf("%+v limit %d: page %+v", c, limit, p)
				}
				r.After = p.Next
			}
			got := strings.Join(objects, " ")
			if len(prefixes) > 0 {
				got += " | " + strings.Join(prefixes, " ")
			}
			if got != c.want {
				s.Errorf("%+v limit %d: %q", c, limit, got)
			}
		}
	}
}
