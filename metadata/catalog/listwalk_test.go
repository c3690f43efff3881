package catalog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"

	"pgregory.net/rapid"
)

// churn changes a bucket while a listing asks the partitions: it has a turn before each
// question.
type churn struct {
	mu     sync.Mutex
	c      *catalog.Catalog
	rng    *rand.Rand
	bucket metadata.BucketID
	keys   []string
	rate   int // changes in a turn
	left   int // changes to be made yet: who adds versions for ever is never caught up with
}

func (ch *churn) turn(ctx context.Context, _ replica.GroupID, kind metadata.QueryKind) error {
	if kind != metadata.QueryObjects && kind != metadata.QueryVersions {
		return nil
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for range min(ch.rate, ch.left) {
		ch.left--
		key := ch.keys[ch.rng.IntN(len(ch.keys))]
		var err error
		if ch.rng.IntN(2) == 0 {
			err = put(ch.c, ch.bucket, key)
		} else {
			_, err = ch.c.DeleteKey(ctx, metadata.DeleteKey{Bucket: ch.bucket, Key: key})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestWalkAmongWrites: who walks a bucket page by page while others write and delete
// meets every key that nobody touches exactly once, in order, and every common prefix
// with such a key; of versions, each that was there from the beginning and stays.
func TestWalkAmongWrites(t *testing.T) {
	groups := catalogtest.Open(t, 8)
	cat := groups.Catalog(t)
	serial := 0
	rapid.Check(t, func(rt *rapid.T) {
		serial++
		b, err := cat.CreateBucket(t.Context(), fmt.Sprintf("walk%d", serial))
		if err != nil {
			rt.Fatal(err)
		}
		versions := rapid.Bool().Draw(rt, "versions")
		if versions {
			if _, err := cat.ConfigureBucket(t.Context(), b.Name, metadata.FieldVersioning, []byte(metadata.VersioningEnabled)); err != nil {
				rt.Fatal(err)
			}
		}
		name := rapid.StringOfN(rapid.RuneFrom([]rune("ab/")), 1, 6, -1)
		all := rapid.SliceOfNDistinct(name, 2, 60, rapid.ID[string]).Draw(rt, "names")
		cut := rapid.IntRange(1, len(all)-1).Draw(rt, "stable")
		ch := &churn{c: cat, rng: rand.New(rand.NewPCG(1, uint64(serial))), bucket: b.ID, keys: all[cut:], rate: rapid.IntRange(1, 4).Draw(rt, "rate"), left: 150}
		var stable []string // what the walk must meet: keys, or keys with the id of a version
		for i, key := range all {
			for range rapid.IntRange(1, 3).Draw(rt, "versions of a key") {
				v, err := cat.PutVersion(context.Background(), metadata.Version{Bucket: b.ID, Key: key, ETag: "e"}, metadata.Condition{})
				if err != nil {
					rt.Fatal(err)
				}
				if versions {
					stable = append(stable, key+" "+v.ID)
				}
			}
			if !versions && i < cut {
				stable = append(stable, key)
			}
		}
		delimiter := rapid.SampledFrom([]string{"", "/"}).Draw(rt, "delimiter")
		limit := rapid.IntRange(1, 9).Draw(rt, "limit")
		groups.OnQuery = ch.turn
		got := walk(rt, cat, b.ID, versions, delimiter, limit)
		groups.OnQuery = nil
		met := map[string]int{}
		for i, row := range got {
			met[row.name]++
			if i > 0 && got[i-1].key > row.key {
				rt.Fatalf("%q after %q", row.key, got[i-1].key)
			}
		}
		for _, want := range stable {
			if key, _, _ := strings.Cut(want, " "); delimiter != "" && strings.Contains(key, delimiter) {
				want = key[:strings.Index(key, delimiter)+1] // its common prefix
			}
			if met[want] != 1 {
				rt.Fatalf("%q was met %d times among %v", want, met[want], got)
			}
		}
	})
}

// walked is a row: its key, and what to call it.
type walked struct{ key, name string }

// walk lists a whole bucket in pages.
func walk(rt *rapid.T, cat *catalog.Catalog, bucket metadata.BucketID, versions bool, delimiter string, limit int) (out []walked) {
	ctx := context.Background()
	o := metadata.ObjectPage{Bucket: bucket, Delimiter: delimiter, Limit: limit}
	v := metadata.VersionPage{Bucket: bucket, Delimiter: delimiter, Limit: limit}
	for more := true; more; {
		var rows []metadata.VersionRow
		if versions {
			page, err := cat.ListVersions(ctx, v)
			if err != nil {
				rt.Fatal(err)
			}
			rows, more = page.Rows, page.More
		} else {
			page, err := cat.ListObjects(ctx, o)
			if err != nil {
				rt.Fatal(err)
			}
			for _, r := range page.Rows {
				rows = append(rows, metadata.VersionRow{Name: r.Name, Record: r.Record})
			}
			more = page.More
		}
		for _, r := range rows {
			is := walked{r.Name, r.Name}
			o.After, v.AfterKey, v.AfterTime = r.Name, r.Name, 0
			if r.Record != nil && versions {
				s, err := metadata.DecodeSummary(r.Name, r.Record)
				if err != nil {
					rt.Fatal(err)
				}
				v.AfterTime = s.Modified
				is.name += " " + s.VersionID
			}
			out = append(out, is)
		}
	}
	return out
}
