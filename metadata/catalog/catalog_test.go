package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[V any](v V, err error) func(testing.TB) V {
	return func(t testing.TB) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func put(c *catalog.Catalog, b metadata.BucketID, key string) error {
	_, err := c.PutVersion(context.Background(), metadata.Version{Bucket: b, Key: key, ID: metadata.NullVersion, ETag: key}, metadata.Condition{})
	return err
}

func bucket(t *testing.T, c *catalog.Catalog, name string) metadata.Bucket {
	t.Helper()
	return must(c.CreateBucket(t.Context(), name))(t)
}

// collapse is the listing as S3 describes it, in the plainest way.
func collapse(names []string, prefix, delimiter, after string) []string {
	var out []string
	for _, n := range names {
		if !strings.HasPrefix(n, prefix) || n <= after {
			continue
		}
		row := n
		if i := strings.Index(n[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			row = n[:len(prefix)+i+len(delimiter)] + "\x00prefix"
			if row[:len(row)-7] <= after || slices.Contains(out, row) {
				continue
			}
		}
		out = append(out, row)
	}
	return out
}

// TestListing: the partitions' streams merge into what one sorted list would
// give, page after page.
func TestListing(t *testing.T) {
	name := rapid.StringOfN(rapid.RuneFrom([]rune("ab/\x7fé")), 1, 7, -1)
	serial := 0
	groups := catalogtest.Open(t, 8)
	cat := groups.Catalog(t)
	rapid.Check(t, func(rt *rapid.T) {
		serial++
		b, err := cat.CreateBucket(t.Context(), fmt.Sprintf("bucket%d", serial))
		if err != nil {
			rt.Fatal(err)
		}
		other, err := cat.CreateBucket(t.Context(), fmt.Sprintf("other%d", serial))
		if err != nil {
			rt.Fatal(err)
		}
		names := rapid.SliceOfNDistinct(name, 0, 60, rapid.ID[string]).Draw(rt, "names")
		for _, n := range names {
			if err := errors.Join(put(cat, b.ID, n), put(cat, other.ID, n+"x")); err != nil {
				rt.Fatal(err)
			}
		}
		sort.Strings(names)
		prefix := rapid.SampledFrom([]string{"", "a", "a/", "b", "é", "/"}).Draw(rt, "prefix")
		delimiter := rapid.SampledFrom([]string{"", "/", "a", "b/", "é"}).Draw(rt, "delimiter")
		after := rapid.OneOf(rapid.Just(""), name).Draw(rt, "after")
		limit := rapid.IntRange(1, 20).Draw(rt, "limit")
		want := collapse(names, prefix, delimiter, after)
		var got []string
		for more := true; more; {
			page, err := cat.ListObjects(t.Context(), metadata.ObjectPage{Bucket: b.ID, Prefix: prefix, Delimiter: delimiter, After: after, Limit: limit})
			if err != nil {
				rt.Fatal(err)
			}
			if more = page.More; len(page.Rows) > limit || more && len(page.Rows) != limit {
				rt.Fatalf("page of %d rows of %d, more: %v", len(page.Rows), limit, more)
			}
			for _, row := range page.Rows {
				after = row.Name
				if row.Record == nil {
					row.Name += "\x00prefix"
				} else if o, err := metadata.DecodeSummary(row.Name, row.Record); err != nil || o.ETag != row.Name {
					rt.Fatalf("%+v, %v", o, err)
				}
				got = append(got, row.Name)
			}
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("prefix %q delimiter %q:\n got %q\nwant %q", prefix, delimiter, got, want)
		}
	})
}

// TestListingUploads: by key, then age, whatever the partition; a page goes on
// after any upload.
func TestListingUploads(t *testing.T) {
	name := rapid.StringOfN(rapid.RuneFrom([]rune("ab/")), 1, 4, -1)
	serial := 0
	groups := catalogtest.Open(t, 4)
	cat := groups.Catalog(t)
	rapid.Check(t, func(rt *rapid.T) {
		serial++
		b, err := cat.CreateBucket(t.Context(), fmt.Sprintf("bucket%d", serial))
		if err != nil {
			rt.Fatal(err)
		}
		type row struct{ key, id string }
		var all []row
		for _, n := range rapid.SliceOfN(name, 0, 25).Draw(rt, "names") {
			u, err := cat.CreateUpload(t.Context(), metadata.Upload{Bucket: b.ID, Key: n})
			if err != nil {
				rt.Fatal(err)
			}
			all = append(all, row{n, u.ID.String()}) // ids grow with time
		}
		sort.SliceStable(all, func(i, j int) bool { return all[i].key < all[j].key })
		prefix := rapid.SampledFrom([]string{"", "a", "b/"}).Draw(rt, "prefix")
		delimiter := rapid.SampledFrom([]string{"", "/"}).Draw(rt, "delimiter")
		limit := rapid.IntRange(1, 9).Draw(rt, "limit")
		var want, got []row
		for _, u := range all {
			if !strings.HasPrefix(u.key, prefix) {
				continue
			}
			if i := strings.Index(u.key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
				u = row{key: u.key[:len(prefix)+i+1]}
				if len(want) > 0 && want[len(want)-1] == u {
					continue
				}
			}
			want = append(want, u)
		}
		q := metadata.UploadPage{Bucket: b.ID, Prefix: prefix, Delimiter: delimiter, Limit: limit}
		for more := true; more; {
			page, err := cat.ListUploads(t.Context(), q)
			if err != nil {
				rt.Fatal(err)
			}
			if more = page.More; len(page.Rows) > limit || more && len(page.Rows) != limit {
				rt.Fatalf("page of %d rows of %d, more: %v", len(page.Rows), limit, more)
			}
			for _, r := range page.Rows {
				q.AfterKey, q.AfterKeyOnly = r.Name, r.Upload == nil
				if r.Upload == nil {
					got = append(got, row{key: r.Name})
					continue
				}
				q.AfterUpload = r.Upload.ID
				got = append(got, row{r.Name, r.Upload.ID.String()})
			}
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("prefix %q delimiter %q limit %d:\n got %q\nwant %q", prefix, delimiter, limit, got, want)
		}
	})
}

// TestListingFails whole when one partition does not answer (F61).
func TestListingFails(t *testing.T) {
	groups := catalogtest.Open(t, 4)
	cat := groups.Catalog(t)
	b := bucket(t, cat, "bucket")
	for i := range 40 {
		must(0, put(cat, b.ID, fmt.Sprint(i)))(t)
	}
	for calls := 1; calls <= 6; calls++ {
		var mu sync.Mutex
		n := 0
		groups.OnQuery = func(context.Context, replica.GroupID, metadata.QueryKind) error {
			mu.Lock()
			defer mu.Unlock()
			if n++; n == calls {
				return replica.ErrUnavailable
			}
			return nil
		}
		page, err := cat.ListObjects(t.Context(), metadata.ObjectPage{Bucket: b.ID, Limit: 30})
		groups.OnQuery = nil
		if failed := n >= calls; failed != errors.Is(err, metadata.ErrUnavailable) {
			t.Errorf("call %d of %d failed: %d rows, %v", calls, n, len(page.Rows), err)
		}
	}
}

// TestPutDuringDelete puts an object at every step of a bucket's deletion, in
// every partition. Either the bucket is gone and so is the object, or both are
// there.
func TestPutDuringDelete(t *testing.T) {
	const partitions = 4
	for step := 1; step <= partitions+2; step++ {
		for p := replica.GroupID(1); p <= partitions; p++ {
			groups := catalogtest.Open(t, partitions)
			cat := groups.Catalog(t)
			b := bucket(t, cat, "bucket")
			key := ""
			for i := 0; cat.Partition(b.ID, key) != p; i++ {
				key = fmt.Sprint("k", i)
			}
			n, inside := 0, false
			var perr error
			groups.OnPropose = func(context.Context, replica.GroupID, metadata.CommandKind, metadata.Command) (bool, error) {
				if inside {
					return true, nil
				}
				if n++; n == step {
					inside = true
					perr = put(cat, b.ID, key)
					inside = false
				}
				return true, nil
			}
			derr := cat.DeleteBucket(t.Context(), "bucket")
			groups.OnPropose = nil
			_, gerr := cat.GetBucketNow(t.Context(), "bucket")
			switch {
			case derr == nil:
				if !errors.Is(perr, metadata.ErrNoSuchBucket) || !errors.Is(gerr, metadata.ErrNoSuchBucket) {
					t.Errorf("step %d partition %d: deleted; put: %v, get: %v", step, p, perr, gerr)
				}
			case errors.Is(derr, metadata.ErrBucketNotEmpty):
				rows := must(cat.ListObjects(t.Context(), metadata.ObjectPage{Bucket: b.ID, Limit: 10}))(t)
				if perr != nil || gerr != nil || len(rows.Rows) != 1 || rows.Rows[0].Name != key {
					t.Errorf("step %d partition %d: not empty; put: %v, get: %v, %d rows", step, p, perr, gerr, len(rows.Rows))
				}
				for i := range 20 { // open again everywhere
					if err := put(cat, b.ID, fmt.Sprint(i)); err != nil {
						t.Errorf("step %d partition %d: put after: %v", step, p, err)
					}
				}
			default:
				t.Errorf("step %d partition %d: %v", step, p, derr)
			}
		}
	}
}

// TestDeleteRaces: many writers and deleters at once.
func TestDeleteRaces(t *testing.T) {
	groups := catalogtest.Open(t, 4)
	cat := groups.Catalog(t)
	for round := range 60 {
		name := fmt.Sprintf("bucket%d", round)
		b := bucket(t, cat, name)
		var mu sync.Mutex
		var stored []string
		deleted := 0
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 4 {
			wg.Go(func() {
				<-start
				key := fmt.Sprint(i)
				switch err := put(cat, b.ID, key); {
				case err == nil:
					mu.Lock()
					stored = append(stored, key)
					mu.Unlock()
				case !errors.Is(err, metadata.ErrNoSuchBucket):
					t.Error(err)
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				<-start
				switch err := cat.DeleteBucket(t.Context(), name); {
				case err == nil:
					mu.Lock()
					deleted++
					mu.Unlock()
				case !errors.Is(err, metadata.ErrBucketNotEmpty) && !errors.Is(err, metadata.ErrConflict) && !errors.Is(err, metadata.ErrNoSuchBucket):
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		now, err := cat.GetBucketNow(t.Context(), name)
		rows := must(cat.ListObjects(t.Context(), metadata.ObjectPage{Bucket: b.ID, Limit: 10}))(t)
		if len(rows.Rows) != len(stored) || deleted > 1 || (deleted == 1) != errors.Is(err, metadata.ErrNoSuchBucket) || deleted == 1 && len(stored) > 0 {
			t.Fatalf("%d deletions, %d objects stored, %d listed, bucket: %v", deleted, len(stored), len(rows.Rows), err)
		}
		if err == nil && now.Deleting != 0 {
			t.Fatal("the mark of a deletion that was given up stands")
		}
	}
}

// TestDeleteOutlivesItsClient: a client that goes away in the midst leaves no
// bucket that is neither open nor gone.
func TestDeleteOutlivesItsClient(t *testing.T) {
	groups := catalogtest.Open(t, 4)
	cat := groups.Catalog(t)
	bucket(t, cat, "bucket")
	ctx, cancel := context.WithCancel(t.Context())
	groups.OnPropose = func(ctx context.Context, _ replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
		if kind == metadata.CmdFenceBucket {
			cancel()
		}
		if err := ctx.Err(); err != nil {
			return false, fmt.Errorf("%w: %w", replica.ErrUnavailable, err)
		}
		return true, nil
	}
	if err := cat.DeleteBucket(ctx, "bucket"); err != nil {
		t.Error(err)
	}
	groups.OnPropose = nil
	if _, err := cat.GetBucketNow(t.Context(), "bucket"); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Error(err)
	}
	cancel()
}

// TestAgainUnderTheSameName: nothing of an old bucket shows in a new one, and a
// late command of the old one's deletion does not touch it.
func TestAgainUnderTheSameName(t *testing.T) {
	cat := catalogtest.Open(t, 2).Catalog(t)
	old := bucket(t, cat, "bucket")
	must(0, cat.DeleteBucket(t.Context(), "bucket"))(t)
	b := bucket(t, cat, "bucket")
	if b.ID == old.ID {
		t.Fatal("the same id again")
	}
	if err := put(cat, old.ID, "k"); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Error(err)
	}
	if err := cat.FinishDelete(t.Context(), old); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Error(err)
	}
	must(0, put(cat, b.ID, "k"))(t)
	if err := cat.DeleteBucket(t.Context(), "bucket"); !errors.Is(err, metadata.ErrBucketNotEmpty) {
		t.Error(err)
	}
}

// TestOutcomes: what the consensus layer says, in the words of metadata (law L5).
func TestOutcomes(t *testing.T) {
	groups := catalogtest.Open(t, 1)
	cat := groups.Catalog(t)
	b := bucket(t, cat, "bucket")
	for in, want := range map[error]error{
		replica.ErrUnknown:          metadata.ErrUnknownOutcome,
		replica.ErrUnavailable:      metadata.ErrUnavailable,
		replica.ErrDropped:          metadata.ErrUnavailable,
		context.DeadlineExceeded:    metadata.ErrUnavailable,
		context.Canceled:            context.Canceled,
		&replica.NotLeaderError{}:   metadata.ErrUnavailable,
		errors.New("anything else"): metadata.ErrUnavailable,
		fmt.Errorf("%w: %w", replica.ErrUnknown, context.DeadlineExceeded): metadata.ErrUnknownOutcome,
		fmt.Errorf("%w: %w", replica.ErrUnknown, context.Canceled):         metadata.ErrUnknownOutcome,
	} {
		groups.OnPropose = func(context.Context, replica.GroupID, metadata.CommandKind, metadata.Command) (bool, error) {
			return false, in
		}
		err := put(cat, b.ID, "k")
		if !errors.Is(err, want) || want != metadata.ErrUnknownOutcome && errors.Is(err, metadata.ErrUnknownOutcome) || metadata.IsAnswer(err) {
			t.Errorf("%v became %v, want %v", in, err, want)
		}
	}
}

// TestNoQuorum: a group that never answers is an error after a while.
func TestNoQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := catalogtest.Open(t, 1)
		cat := groups.Catalog(t)
		b := bucket(t, cat, "bucket")
		groups.OnPropose = func(ctx context.Context, _ replica.GroupID, _ metadata.CommandKind, _ metadata.Command) (bool, error) {
			<-ctx.Done()
			return false, fmt.Errorf("%w: %w", replica.ErrUnavailable, ctx.Err())
		}
		groups.OnQuery = func(ctx context.Context, _ replica.GroupID, _ metadata.QueryKind) error {
			<-ctx.Done()
			return fmt.Errorf("%w: %w", replica.ErrUnavailable, ctx.Err())
		}
		began := time.Now()
		if err := put(cat, b.ID, "k"); !errors.Is(err, metadata.ErrUnavailable) {
			t.Error(err)
		}
		if _, err := cat.GetVersion(context.Background(), b.ID, "k", ""); !errors.Is(err, metadata.ErrUnavailable) {
			t.Error(err)
		}
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, p := range []int{0, -1, 3, 5000, 8192} {
		if _, err := catalog.New(catalog.Config{Partitions: p}); err == nil || !strings.Contains(err.Error(), "partitions") || !strings.Contains(err.Error(), "Groups") {
			t.Errorf("%d partitions: %v", p, err)
		}
	}
}
