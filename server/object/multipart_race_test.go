package object

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// TestCompleteManyTimes: of 16 completions of one upload at the same time one commits,
// and all others hear that there is no such upload, of which the outcome is kept.
func TestCompleteManyTimes(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1}, partitions(2))
	if _, err := r.ConfigureBucket(t.Context(), "bucket", metadata.FieldVersioning, []byte(metadata.VersioningEnabled)); err != nil {
		t.Fatal(err)
	}
	data := pattern(100_000, 5)
	for round := range 10 {
		key := fmt.Sprint("k", round)
		id, part := r.upload(key, data)
		var wg sync.WaitGroup
		outcomes := make([]error, 16)
		versions := make([]metadata.Version, 16)
		start := make(chan struct{})
		for i := range outcomes {
			wg.Go(func() {
				<-start
				versions[i], outcomes[i] = r.CompleteUpload(t.Context(), CompleteRequest{Bucket: "bucket", Key: key, Upload: id, Parts: []metadata.Part{part}, ETag: "e-1"})
			})
		}
		close(start)
		wg.Wait()
		done := 0
		var committed metadata.Version
		for i, err := range outcomes {
			switch {
			case err == nil:
				done++
				committed = versions[i]
			case !errors.Is(err, metadata.ErrNoSuchUpload):
				t.Errorf("completion %d: %v", i, err)
			}
		}
		if done != 1 {
			t.Fatalf("%d completions of one upload committed", done)
		}
		again, err := r.FinishedUpload(t.Context(), "bucket", key, id)
		if err != nil || again.ID != committed.ID || again.ETag != committed.ETag || again.Modified != committed.Modified {
			t.Fatalf("what is kept of it: %+v, %v; want %+v", again, err, committed)
		}
		r.check(r.head(key), data, 0, int64(len(data)))
	}
	if u := r.usage(); u.Versions != 10 || u.Uploads != 0 || u.UploadBytes != 0 {
		t.Errorf("%+v", u)
	}
}

// upload makes an upload with one part.
func (r *rig) upload(key string, data []byte) (metadata.UploadID, metadata.Part) {
	r.t.Helper()
	u, err := r.CreateUpload(r.t.Context(), CreateUploadRequest{Bucket: "bucket", Key: key})
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := r.PutPart(r.t.Context(), PutPartRequest{Bucket: "bucket", Key: key, Upload: u.ID, Number: 1, Bytes: int64(len(data)), Body: newBody(data)})
	if err != nil {
		r.t.Fatal(err)
	}
	return u.ID, p
}

// uploadRace is one upload that several clients send to, complete and abort.
type uploadRace struct {
	*rig
	id   metadata.UploadID
	seed uint64

	mu       sync.Mutex
	contents map[string][]byte // by ETag
	won      [][]metadata.Part // of completions
	aborted  int
}

func (u *uploadRace) send(rnd *rand.Rand) error {
	data := pattern(17_000+rnd.IntN(5_000), rnd.Uint64())
	b := newBody(data)
	u.mu.Lock()
	u.contents[b.md5] = data
	u.mu.Unlock()
	_, err := u.PutPart(u.t.Context(), PutPartRequest{Bucket: "bucket", Key: "k", Upload: u.id, Number: 1 + rnd.IntN(3), Bytes: int64(len(data)), Body: b})
	return err
}

func (u *uploadRace) complete() error {
	page, err := u.ListParts(u.t.Context(), "bucket", "k", u.id, 0, 10)
	if err != nil {
		return err
	}
	_, err = u.CompleteUpload(u.t.Context(), CompleteRequest{Bucket: "bucket", Key: "k", Upload: u.id, Parts: page.Parts, ETag: "e"})
	if err == nil {
		u.mu.Lock()
		u.won = append(u.won, page.Parts)
		u.mu.Unlock()
	}
	return err
}

func (u *uploadRace) abort() error {
	err := u.AbortUpload(u.t.Context(), "bucket", "k", u.id)
	if err == nil {
		u.mu.Lock()
		u.aborted++
		u.mu.Unlock()
	}
	return err
}

// client does six things of chance.
func (u *uploadRace) client(n uint64) {
	rnd := rand.New(rand.NewPCG(u.seed, n))
	for range 6 {
		var err error
		switch p := rnd.IntN(10); {
		case p < 7:
			err = u.send(rnd)
		case p < 9 || u.seed%2 == 0:
			err = u.complete()
		default:
			err = u.abort()
		}
		if err != nil && !errors.Is(err, metadata.ErrNoSuchUpload) && !errors.Is(err, metadata.ErrPartChanged) {
			u.t.Error(err)
		}
	}
}

// TestUploadRaces: parts are sent, and sent again, while others complete and abort the
// upload, in an order of chance. In the end there is the object with exactly the bytes
// that its completion named, or none; and of everything else nothing is left but
// garbage, which is all removed.
func TestUploadRaces(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			u := &uploadRace{rig: newRig(t, erasure.Geometry{K: 1}, partitions(2)), seed: seed, contents: map[string][]byte{}}
			first := pattern(20_000, seed)
			var p metadata.Part
			u.id, p = u.upload("k", first)
			u.contents[p.ETag] = first
			var work sync.WaitGroup
			for n := range uint64(6) {
				work.Go(func() { u.client(n) })
			}
			work.Wait()
			switch len(u.won) + u.aborted {
			case 0:
				if err := u.abort(); err != nil {
					t.Fatal(err)
				}
			case 1:
			default:
				t.Fatalf("%d completions and %d aborts of one upload", len(u.won), u.aborted)
			}
			u.cleaning.Wait()
			v, err := u.HeadObject(t.Context(), "bucket", "k", "")
			if (err == nil) != (len(u.won) == 1) {
				t.Fatalf("%d completions, and the object is %+v, %v", len(u.won), v, err)
			}
			if err == nil {
				var want []byte
				for _, p := range u.won[0] {
					want = append(want, u.contents[p.ETag]...)
				}
				u.check(v, want, 0, int64(len(want)))
			}
			u.onlyLeft(v)
		})
	}
}

// onlyLeft removes all garbage and checks that the disks hold one version and no more.
func (r *rig) onlyLeft(v metadata.Version) {
	r.t.Helper()
	for g := 1; g <= r.catalog.Partitions(); g++ {
		items, err := r.catalog.Garbage(r.t.Context(), replica.GroupID(g), metadata.GarbagePage{Before: 1 << 62, Limit: 1000})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, item := range items {
			if err := r.RemoveBlob(r.t.Context(), &item.Blob); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	want := 0
	for _, p := range v.Parts {
		want += 2 * int(chunks(p.Blob.Bytes)) // of the code 1+0 in two zones
	}
	if got := r.shards.count(); got != want {
		r.t.Errorf("%d shards are left, want %d", got, want)
	}
	if u := r.usage(); u.Uploads != 0 || u.UploadBytes != 0 || u.Bytes != v.Bytes {
		r.t.Errorf("%+v", u)
	}
}

// TestUploadsPastAPage: uploads of many keys, many of one key, in all partitions, are
// listed page by page: each once, in order.
func TestUploadsPastAPage(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, partitions(4))
	const keys, of = 500, 1700
	want := map[metadata.UploadID]bool{}
	for i := range keys + of {
		key := fmt.Sprintf("k%04d", i)
		if i >= keys {
			key = "k0250"
		}
		u, err := r.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "bucket", Key: key})
		if err != nil {
			t.Fatal(err)
		}
		want[u.ID] = true
	}
	q := UploadQuery{Bucket: "bucket", Limit: 1000}
	var last metadata.Upload
	pages := 0
	for more := true; more; pages++ {
		page, err := r.ListUploads(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if more = page.More; more && len(page.Uploads) != 1000 {
			t.Errorf("a page of %d uploads, and more", len(page.Uploads))
		}
		for _, u := range page.Uploads {
			if !want[u.ID] {
				t.Fatalf("%s of %s is listed twice, or was never made", u.ID, u.Key)
			}
			delete(want, u.ID)
			if u.Key < last.Key || u.Key == last.Key && bytes.Compare(u.ID[:], last.ID[:]) <= 0 {
				t.Fatalf("%s %s after %s %s", u.Key, u.ID, last.Key, last.ID)
			}
			last = u
		}
		q.KeyMarker, q.UploadMarker = page.NextKey, page.NextUpload
	}
	if len(want) != 0 || pages != 3 {
		t.Errorf("%d uploads were not listed, in %d pages", len(want), pages)
	}
}
