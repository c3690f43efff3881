package catalog_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// scale is a region's metadata with two large buckets: keys has one directory of
// directories, history has keys with four old versions each, every other one of them
// hidden by a delete marker.
type scale struct {
	c             *catalog.Catalog
	queries       atomic.Int64
	keys, history metadata.BucketID
	n             int // rows of each
}

const (
	perDir  = 100
	perKey  = 5 // versions
	pageMax = 1000
)

func (s *scale) key(i int) string { return fmt.Sprintf("all/%05d/%02d", i/perDir, i%perDir) }

// newScale fills 16 partitions with n keys and n versions.
func newScale(t testing.TB, n int) *scale {
	t.Helper()
	ctx := context.Background()
	g := catalogtest.Open(t, 16)
	s := &scale{c: g.Catalog(t), n: n}
	g.OnQuery = func(context.Context, replica.GroupID, metadata.QueryKind) error {
		s.queries.Add(1)
		return nil
	}
	b := must(s.c.CreateBucket(ctx, "keys"))(t)
	s.keys = b.ID
	b = must(s.c.CreateBucket(ctx, "history"))(t)
	s.history = b.ID
	must(s.c.ConfigureBucket(ctx, b.Name, metadata.FieldVersioning, []byte(metadata.VersioningEnabled)))(t)
	done := 0
	settle := func() {
		if done++; done%50_000 == 0 {
			g.Flush(t)
		}
	}
	store := func(b metadata.BucketID, key string) {
		must(s.c.PutVersion(ctx, metadata.Version{Bucket: b, Key: key, ETag: "0123456789abcdef0123456789abcdef", Bytes: 4096}, metadata.Condition{}))(t)
		settle()
	}
	for i := range n {
		store(s.keys, s.key(i))
	}
	for i := range n / perKey {
		for range perKey - 1 {
			store(s.history, s.key(i))
		}
		if i%2 == 0 {
			store(s.history, s.key(i))
			continue
		}
		must(s.c.DeleteKey(ctx, metadata.DeleteKey{Bucket: s.history, Key: s.key(i)}))(t)
		settle()
	}
	g.Flush(t)
	return s
}

// view is one way to list a bucket; page lists behind a part (0 to 1) of it and says
// how many rows came.
type view struct {
	name string
	page func(t testing.TB, part float64) int
}

func (s *scale) views() []view {
	ctx := context.Background()
	objects := func(b metadata.BucketID, prefix, delimiter string, after func(float64) string) func(testing.TB, float64) int {
		return func(t testing.TB, part float64) int {
			t.Helper()
			q := metadata.ObjectPage{Bucket: b, Prefix: prefix, Delimiter: delimiter, Limit: pageMax}
			if part > 0 {
				q.After = after(part)
			}
			return len(must(s.c.ListObjects(ctx, q))(t).Rows)
		}
	}
	versions := func(t testing.TB, part float64) int {
		t.Helper()
		q := metadata.VersionPage{Bucket: s.history, Limit: pageMax}
		if part > 0 {
			q.AfterKey = s.key(int(part * float64(s.n/perKey)))
		}
		return len(must(s.c.ListVersions(ctx, q))(t).Rows)
	}
	at := func(part float64) string { return s.key(int(part * float64(s.n))) }
	return []view{
		{"keys", objects(s.keys, "", "", at)},
		{"keys of one directory, with a delimiter", objects(s.keys, "all/", "|", at)},
		{"directories", objects(s.keys, "all/", "/", func(part float64) string { return fmt.Sprintf("all/%05d/", int(part*float64(s.n/perDir))) })},
		{"keys among old versions and markers", objects(s.history, "", "", func(part float64) string { return s.key(int(part * float64(s.n/perKey))) })},
		{"versions and markers", versions},
	}
}

// places are where pages begin: the front, the middle and near the end.
var places = []struct {
	name string
	part float64
}{{"front", 0}, {"middle", 0.5}, {"end", 0.85}}

// TestListingAsksAlike: a page asks the partitions as often at the end of a bucket as at
// its front. Where every partition has every row of a page, four rounds are enough.
func TestListingAsksAlike(t *testing.T) {
	s := newScale(t, 30_000)
	for _, v := range s.views() {
		for _, at := range places {
			s.queries.Store(0)
			rows := v.page(t, at.part)
			most := int64(2 * 16)
			if v.name == "directories" {
				most = 4 * 16
			}
			if n := s.queries.Load(); n > most || rows == 0 {
				t.Errorf("%s, %s: %d rows for %d questions", v.name, at.name, rows, n)
			}
		}
	}
}

// BenchmarkListing lists pages of 1000 of a million keys, and of a million versions.
func BenchmarkListing(b *testing.B) {
	s := newScale(b, 1_000_000)
	for _, v := range s.views() {
		for _, at := range places {
			b.Run(v.name+"/"+at.name, func(b *testing.B) {
				s.queries.Store(0)
				for b.Loop() {
					if rows := v.page(b, at.part); rows != pageMax {
						b.Fatalf("%d rows", rows)
					}
				}
				b.ReportMetric(float64(s.queries.Load())/float64(b.N), "questions/op")
			})
		}
	}
}
