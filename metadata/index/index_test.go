package index

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"sync"
	"testing"

	"bivalve/metadata"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness applies commands to an index as a log would.
type harness struct {
	t    testing.TB
	dir  string
	ix   *Index
	log  []Entry
	next uint64
	rng  *rand.Rand
}

func newHarness(t testing.TB) *harness {
	h := &harness{t: t, dir: t.TempDir(), rng: rand.New(rand.NewPCG(1, 2))}
	h.open()
	t.Cleanup(func() { h.must(h.ix.Close()) })
	return h
}

func (h *harness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) open() {
	ix, err := Open(filepath.Join(h.dir, "index.db"))
	h.must(err)
	h.ix = ix
}

func (h *harness) command(kind metadata.CommandKind, body any) []byte {
	var id metadata.RequestID
	for i := range id {
		id[i] = byte(h.rng.Uint32())
	}
	raw, err := metadata.NewCommand(metadata.Level, kind, id, int64(1000*(h.next+1)), body)
	h.must(err)
	return raw
}

func (h *harness) apply(raw []byte) ([]byte, error) {
	h.next++
	e := Entry{Index: h.next, Term: 1, Data: raw}
	h.log = append(h.log, e)
	res, err := h.ix.ApplyBatch([]Entry{e}, nil)
	h.must(err)
	return metadata.DecodeResult(res[0])
}

func (h *harness) do(kind metadata.CommandKind, body any) error {
	_, err := h.apply(h.command(kind, body))
	return err
}

func (h *harness) query(kind metadata.QueryKind, body, into any) error {
	h.t.Helper()
	q, err := metadata.NewQuery(kind, body)
	h.must(err)
	raw, err := h.ix.Query(q)
	h.must(err)
	payload, err := metadata.DecodeResult(raw)
	if err != nil {
		return err
	}
	if into != nil {
		h.must(metadata.DecodeBody(payload, into))
	}
	return nil
}

func (h *harness) stats() metadata.Stats {
	var s metadata.Stats
	h.must(h.query(metadata.QueryStats, struct{}{}, &s))
	s.Changes = 0 // counts what was done, not what is there
	return s
}

var bucketA = metadata.BucketID{1}

func version(key, etag string, parts ...metadata.Part) metadata.Version {
	return metadata.Version{Bucket: bucketA, Key: key, ID: metadata.NullVersion, Bytes: 7, ETag: etag, Parts: parts,
		Attributes: metadata.Attributes{User: map[string]string{"b": "2", "a": "1"}, StorageClass: "STANDARD"}}
}

func blobPart(number int, id byte, missing uint64) metadata.Part {
	b := &metadata.Blob{ID: metadata.BlobID{id}, Bytes: 7, Profile: metadata.Profile{K: 2, M: 1}}
	if missing != 0 {
		b.Notes = []metadata.ChunkNote{{Missing: missing}}
		b.AtRisk = []string{"b"}
	}
	return metadata.Part{Number: number, Bytes: 7, ETag: fmt.Sprint("e", id), Blob: b}
}

func TestConditionsAreEvaluatedInTheCommit(t *testing.T) {
	h := newHarness(t)
	put := func(etag string, c metadata.Condition) error {
		return h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", etag), Condition: c})
	}
	for i, c := range []struct {
		etag string
		cond metadata.Condition
		want error
	}{
		{"x", metadata.Condition{IfMatch: "a"}, metadata.ErrNoSuchKey},
		{"x", metadata.Condition{IfMatch: "*"}, metadata.ErrNoSuchKey},
		{"a", metadata.Condition{IfNoneMatchAny: true}, nil},
		{"b", metadata.Condition{IfNoneMatchAny: true}, metadata.ErrConditionFailed},
		{"b", metadata.Condition{IfMatch: "z"}, metadata.ErrConditionFailed},
		{"b", metadata.Condition{IfMatch: "a"}, nil},
		{"c", metadata.Condition{IfMatch: "*"}, nil},
	} {
		if err := put(c.etag, c.cond); !errors.Is(err, c.want) || (c.want == nil && err != nil) {
			t.Fatalf("case %d: got %v, want %v", i, err, c.want)
		}
	}
}

func TestRequestAppliesOnce(t *testing.T) {
	h := newHarness(t)
	raw := h.command(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "a"), Condition: metadata.Condition{IfNoneMatchAny: true}})
	first, err := h.apply(raw)
	h.must(err)
	check := func(when string) {
		again, err := h.apply(raw)
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("%s: a retried request got %x, %v; the first %x", when, again, err, first)
		}
	}
	check("at once")
	_, err = h.ix.Flush()
	h.must(err)
	h.must(h.ix.Close())
	h.open()
	check("after reopening")
	if s := h.stats(); s.Objects != 1 || s.Garbage != 0 {
		t.Fatalf("applied more than once: %+v", s)
	}
}

func TestOverwriteAndDeleteQueueGarbage(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "a", blobPart(0, 1, 4))}))
	if s := h.stats(); s.UnderProtected != 1 || s.AtRisk["b"] != 1 || s.WithBlobs != 1 {
		t.Fatalf("stats %+v", s)
	}
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "b", blobPart(0, 2, 0))}))
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k"}))
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k"}))
	var g metadata.GarbageItems
	h.must(h.query(metadata.QueryGarbage, metadata.GarbagePage{Before: 1 << 62, Limit: 10}, &g))
	if len(g.Items) != 2 || g.Items[0].Blob.ID != (metadata.BlobID{1}) || g.Items[1].Blob.ID != (metadata.BlobID{2}) {
		t.Fatalf("garbage %+v", g)
	}
	for i, want := range []int{1, 0} {
		var behind metadata.GarbageItems
		h.must(h.query(metadata.QueryGarbage, metadata.GarbagePage{Before: 1 << 62, Limit: 10, After: g.Items[i].ID[:]}, &behind))
		if len(behind.Items) != want || want > 0 && behind.Items[0].ID != g.Items[1].ID {
			t.Fatalf("behind item %d: %+v", i, behind)
		}
	}
	h.must(h.query(metadata.QueryGarbage, metadata.GarbagePage{Before: g.Items[1].ID.QueuedAt(), Limit: 10}, &g))
	if len(g.Items) != 1 {
		t.Fatalf("grace is not honoured: %+v", g)
	}
	h.must(h.do(metadata.CmdDropGarbage, metadata.DropGarbage{Items: []metadata.GarbageID{g.Items[0].ID, g.Items[0].ID}}))
	want := metadata.Stats{Garbage: 1, AtRisk: map[string]int64{"b": 0}}
	if s := h.stats(); !reflect.DeepEqual(s, want) {
		t.Fatalf("stats %+v, want %+v", s, want)
	}
}

func TestUploadLifecycle(t *testing.T) {
	h := newHarness(t)
	ref := metadata.UploadRef{Bucket: bucketA, Key: "k", ID: metadata.UploadID{9}}
	if err := h.do(metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: blobPart(1, 1, 0)}); !errors.Is(err, metadata.ErrNoSuchUpload) {
		t.Fatal(err)
	}
	h.must(h.do(metadata.CmdCreateUpload, metadata.Upload{Bucket: bucketA, Key: "k", ID: ref.ID}))
	h.must(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: blobPart(1, 1, 0)}))
	h.must(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: blobPart(1, 2, 0)})) // replaces
	h.must(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: blobPart(2, 3, 0)}))
	h.must(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: blobPart(3, 4, 2)})) // left out
	if err := h.do(metadata.CmdFenceBucket, metadata.Fence{Bucket: bucketA}); !errors.Is(err, metadata.ErrBucketNotEmpty) {
		t.Fatalf("a bucket with an upload was fenced: %v", err)
	}
	complete := func(parts ...metadata.Part) error {
		return h.do(metadata.CmdCompleteUpload, metadata.CompleteUpload{Upload: ref.ID, Version: version("k", "m-2", parts...)})
	}
	if err := complete(blobPart(1, 1, 0), blobPart(2, 3, 0)); !errors.Is(err, metadata.ErrPartChanged) {
		t.Fatalf("a replaced part was completed: %v", err)
	}
	h.must(complete(blobPart(1, 2, 0), blobPart(2, 3, 0)))
	if err := complete(blobPart(1, 2, 0)); !errors.Is(err, metadata.ErrNoSuchUpload) {
		t.Fatal(err)
	}
	var f metadata.Finished
	h.must(h.query(metadata.QueryFinished, ref, &f))
	if f.ETag != "m-2" {
		t.Fatalf("finished %+v", f)
	}
	want := metadata.Stats{Objects: 1, Bytes: 7, WithBlobs: 1, Garbage: 2, AtRisk: map[string]int64{"b": 0}}
	if s := h.stats(); !reflect.DeepEqual(s, want) {
		t.Fatalf("stats %+v, want %+v", s, want)
	}
}

func TestBucketsAndFences(t *testing.T) {
	h := newHarness(t)
	b := metadata.Bucket{Name: "photos", ID: bucketA}
	h.must(h.do(metadata.CmdCreateBucket, b))
	if err := h.do(metadata.CmdCreateBucket, metadata.Bucket{Name: "photos", ID: metadata.BucketID{2}}); !errors.Is(err, metadata.ErrBucketExists) {
		t.Fatal(err)
	}
	if err := h.do(metadata.CmdDropBucket, metadata.BucketMark{Name: "photos", ID: bucketA}); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("an unmarked bucket was dropped: %v", err)
	}
	raw, err := h.apply(h.command(metadata.CmdMarkBucket, metadata.BucketMark{Name: "photos", ID: bucketA, Mark: true}))
	h.must(err)
	h.must(metadata.DecodeBody(raw, &b))
	if err := h.do(metadata.CmdMarkBucket, metadata.BucketMark{Name: "photos", ID: bucketA, Mark: true}); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("a second deletion began beside the first: %v", err)
	}
	h.must(h.do(metadata.CmdFenceBucket, metadata.Fence{Bucket: bucketA, Attempt: b.Deleting}))
	if err := h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "a")}); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Fatalf("a fenced bucket took an object: %v", err)
	}
	h.must(h.do(metadata.CmdFenceBucket, metadata.Fence{Bucket: bucketA, Attempt: b.Deleting, Lift: true}))
	for _, late := range []int64{b.Deleting, b.Deleting - 1} {
		if err := h.do(metadata.CmdFenceBucket, metadata.Fence{Bucket: bucketA, Attempt: late}); !errors.Is(err, metadata.ErrConflict) {
			t.Fatalf("a late fence closed a bucket that was opened again: %v", err)
		}
	}
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "a")}))
	h.must(h.do(metadata.CmdDropBucket, metadata.BucketMark{Name: "photos", ID: bucketA, Attempt: b.Deleting}))
	if err := h.query(metadata.QueryBucket, metadata.BucketName{Name: "photos"}, nil); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Fatal(err)
	}
}

func TestConfigIsCompareAndSet(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutConfig, metadata.PutConfig{Key: "layout", Value: []byte("1")}))
	if err := h.do(metadata.CmdPutConfig, metadata.PutConfig{Key: "layout", Value: []byte("x")}); !errors.Is(err, metadata.ErrConflict) {
		t.Fatal(err)
	}
	var got metadata.ConfigValues
	h.must(h.query(metadata.QueryConfig, metadata.ConfigPrefix{Prefix: "lay"}, &got))
	h.must(h.do(metadata.CmdPutConfig, metadata.PutConfig{Key: "layout", Value: []byte("2"), Expect: got.Values[0].Revision}))
}

// TestListAgainstModel compares pages with a sorted list of names.
func TestListAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarness(t)
		names := rapid.SliceOfDistinct(rapid.StringMatching(`[a-c/]{1,6}`), rapid.ID).Draw(rt, "names")
		for _, n := range names {
			h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(n, "e")}))
		}
		// A neighbour bucket whose keys must never show.
		other := version("zz", "e")
		other.Bucket = metadata.BucketID{1, 1}
		h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: other}))
		prefix := rapid.StringMatching(`[a-c/]{0,2}`).Draw(rt, "prefix")
		delimiter := rapid.SampledFrom([]string{"", "/", "b", "bc"}).Draw(rt, "delimiter")
		limit := rapid.IntRange(1, 5).Draw(rt, "limit")
		var got []string
		for after, more := "", true; more; {
			var page metadata.ObjectRows
			h.must(h.query(metadata.QueryObjects, metadata.ObjectPage{Bucket: bucketA, Prefix: prefix, Delimiter: delimiter, After: after, Limit: limit}, &page))
			if page.More && len(page.Rows) != limit {
				rt.Fatalf("a page of %d says there is more", len(page.Rows))
			}
			for _, r := range page.Rows {
				got = append(got, r.Name)
				after = r.Name
			}
			more = page.More
		}
		if want := model(names, prefix, delimiter); !reflect.DeepEqual(got, want) {
			rt.Fatalf("prefix %q delimiter %q: got %q, want %q", prefix, delimiter, got, want)
		}
	})
}

func model(names []string, prefix, delimiter string) []string {
	seen := map[string]bool{}
	var out []string
	for _, n := range names {
		if !strings.HasPrefix(n, prefix) {
			continue
		}
		if delimiter != "" {
			if i := strings.Index(n[len(prefix):], delimiter); i >= 0 {
				n = n[:len(prefix)+i+len(delimiter)]
			}
		}
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	sort.Strings(out)
	return out
}

// TestCrashReplaysToTheSameState: a state that lost what was not flushed, or
// that came through a snapshot, and then replayed the log, equals one that was
// never interrupted.
func TestCrashReplaysToTheSameState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarness(t)
		ops := rapid.IntRange(1, 30).Draw(rt, "ops")
		for range ops {
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key")
			ref := metadata.UploadRef{Bucket: bucketA, Key: key, ID: metadata.UploadID{key[0]}}
			part := blobPart(rapid.IntRange(1, 2).Draw(rt, "part"), byte(rapid.IntRange(1, 9).Draw(rt, "blob")), uint64(rapid.IntRange(0, 1).Draw(rt, "missing")))
			var err error
			switch rapid.IntRange(0, 9).Draw(rt, "op") {
			case 0, 1:
				err = h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(key, "e", part)})
			case 2:
				err = h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: key})
			case 3:
				err = h.do(metadata.CmdCreateUpload, metadata.Upload{Bucket: bucketA, Key: key, ID: ref.ID})
			case 4:
				err = h.do(metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: part})
			case 5:
				err = h.do(metadata.CmdCompleteUpload, metadata.CompleteUpload{Upload: ref.ID, Version: version(key, "m", part)})
			case 6:
				err = h.do(metadata.CmdAbortUpload, ref)
			case 7:
				_, err = h.ix.Flush()
			case 8, 9:
				m := metadata.ShardMark{Blob: part.Blob.ID, PG: 7, Zones: []string{"a", "b"}}
				m.Set = uint64(rapid.IntRange(0, 63).Draw(rt, "set"))
				m.Clear = uint64(rapid.IntRange(0, 63).Draw(rt, "clear"))
				err = h.do(metadata.CmdMarkShards, metadata.MarkShards{Marks: []metadata.ShardMark{m}})
			}
			if err != nil && !metadata.IsAnswer(err) {
				rt.Fatal(err)
			}
		}
		audit(t, h.ix)
		want := dump(t, h.ix)
		snap := filepath.Join(h.dir, "snap")
		f, err := os.Create(snap)
		h.must(err)
		cut := h.ix.Durable().Index
		h.must(h.ix.Close()) // what was not flushed is gone
		h.open()
		if got := h.ix.Applied().Index; got != cut {
			rt.Fatalf("reopened at %d, durable was %d", got, cut)
		}
		_, err = h.ix.StreamSnapshot(f)
		h.must(err)
		h.must(f.Close())
		_, err = h.ix.ApplyBatch(h.log, nil) // all of it: what is in already is skipped
		h.must(err)
		if got := dump(t, h.ix); got != want {
			rt.Fatalf("after a crash:\n%s\nwant:\n%s", got, want)
		}
		at, err := h.ix.InstallSnapshot(snap)
		h.must(err)
		if at.Index != cut {
			rt.Fatalf("snapshot is of %d, want %d", at.Index, cut)
		}
		_, err = h.ix.ApplyBatch(h.log, nil)
		h.must(err)
		if got := dump(t, h.ix); got != want {
			rt.Fatalf("after a snapshot:\n%s\nwant:\n%s", got, want)
		}
	})
}

// dump renders every table; of meta what all formats have.
func dump(t testing.TB, ix *Index) string {
	t.Helper()
	if _, err := ix.Flush(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, tab := range []table{ix.t.config, ix.t.buckets, ix.t.objects, ix.t.uploads, ix.t.parts, ix.t.finished,
		ix.t.finishedQ, ix.t.garbage, ix.t.fences, ix.t.requests, ix.t.blobs, ix.t.under, ix.t.since, ix.t.slots, ix.t.rules, ix.t.versions, ix.t.nulls,
		ix.t.references, ix.t.pending, ix.t.refs, ix.t.releases, ix.t.usage, ix.t.named, ix.t.peers} {
		cur := tab.Cursor()
		for k, v := cur.First(); k != nil; k, v = cur.Next() {
			fmt.Fprintf(&b, "%s %x %x\n", tab.name, k, v)
		}
	}
	for _, k := range [][]byte{keyApplied, keyStats} {
		fmt.Fprintf(&b, "meta %x %x\n", k, ix.t.meta.Get(k))
	}
	return b.String()
}

func TestBadSnapshotLeavesTheStateAlone(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "a")}))
	bad := filepath.Join(h.dir, "bad")
	h.must(os.WriteFile(bad, bytes.Repeat([]byte{0x5a}, 64<<10), 0o600))
	if _, err := h.ix.InstallSnapshot(bad); err == nil {
		t.Fatal("garbage was installed")
	}
	h.must(h.query(metadata.QueryVersion, metadata.KeyRef{Bucket: bucketA, Key: "k"}, nil))
}

func TestUnknownFormatAndCommandHalt(t *testing.T) {
	h := newHarness(t)
	if _, err := h.ix.ApplyBatch([]Entry{{Index: 1, Term: 1, Data: []byte{99, 1}}}, nil); err == nil {
		t.Fatal("a torn command was passed over")
	}
	raw := h.command(metadata.CommandKind(200), struct{}{})
	if _, err := h.ix.ApplyBatch([]Entry{{Index: 1, Term: 1, Data: raw}}, nil); err == nil {
		t.Fatal("a command of a newer version was passed over")
	}
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "a")}))
	_, err := h.ix.Flush()
	h.must(err)
	h.must(h.ix.t.meta.b.Put(keyFormat, []byte{9, 0xf6}))
	h.must(h.ix.tx.Commit())
	h.must(h.ix.db.Close())
	if _, err := Open(filepath.Join(h.dir, "index.db")); !errors.Is(err, ErrFormat) {
		t.Fatalf("opened a file of format 9: %v", err)
	}
	h.dir = t.TempDir()
	h.open()
}

// TestReadersBesideTheWriter runs under the race detector.
func TestReadersBesideTheWriter(t *testing.T) {
	h := newHarness(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			q, _ := metadata.NewQuery(metadata.QueryObjects, metadata.ObjectPage{Bucket: bucketA, Limit: 100})
			g, _ := metadata.NewQuery(metadata.QueryVersion, metadata.KeyRef{Bucket: bucketA, Key: "k3"})
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, raw := range [][]byte{q, g} {
					if _, err := h.ix.Query(raw); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}()
	}
	for i := range 300 {
		h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(fmt.Sprint("k", i%50), "e", blobPart(0, 1, 0))}))
		if i%40 == 0 {
			_, err := h.ix.Flush()
			h.must(err)
		}
	}
	close(stop)
	wg.Wait()
}

func FuzzCommandAndQuery(f *testing.F) {
	seed, _ := metadata.NewCommand(metadata.Level, metadata.CmdPutVersion, metadata.RequestID{1}, 5, metadata.PutVersion{Version: version("k", "e", blobPart(0, 1, 1))})
	q, _ := metadata.NewQuery(metadata.QueryObjects, metadata.ObjectPage{Bucket: bucketA, Limit: 3})
	f.Add(seed)
	f.Add(q)
	h := newHarness(f)
	var n uint64
	f.Fuzz(func(t *testing.T, raw []byte) {
		n++
		// Either an answer or a refusal; never a panic.
		_, _ = h.ix.ApplyBatch([]Entry{{Index: n, Term: 1, Data: raw}}, nil)
		if _, err := h.ix.Query(raw); err != nil {
			t.Fatal(err)
		}
		_, _ = metadata.DecodeVersion(bucketA, "k", raw)
	})
}
