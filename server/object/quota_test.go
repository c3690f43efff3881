package object

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

func (r *rig) quota(q metadata.Quota) {
	r.t.Helper()
	raw, err := metadata.EncodeBody(q)
	if err == nil {
		_, err = r.catalog.ConfigureBucket(r.t.Context(), "bucket", metadata.FieldQuota, raw)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) usage() metadata.Usage {
	r.t.Helper()
	b, err := r.catalog.GetBucketNow(r.t.Context(), "bucket")
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := r.catalog.Usage(r.t.Context(), []metadata.BucketID{b.ID})
	if err != nil {
		r.t.Fatal(err)
	}
	return all[0]
}

// TestQuotaOfOneNode: through one node the limit is exact, over all partitions and for
// every way to make an object, and what was deleted anywhere is room at once.
func TestQuotaOfOneNode(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, partitions(4))
	now := time.Unix(1_000_000, 0)
	r.cfg.Now = func() time.Time { return now } // stands still: every look but the first is an old one
	r.quota(metadata.Quota{Bytes: 1000, Objects: 50})
	full := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, metadata.ErrQuotaExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range 10 {
		r.mustPut(fmt.Sprint("k", i), pattern(100, uint64(i)))
	}
	_, err := r.put("more", pattern(1, 1))
	full("one byte too many", err)
	_, err = r.put("k3", pattern(101, 1))
	full("a larger one in its place", err)
	r.mustPut("k3", pattern(100, 77)) // no larger
	other := r.second(now)
	if _, err := other.DeleteObject(t.Context(), DeleteRequest{Bucket: "bucket", Key: "k4"}); err != nil {
		t.Fatal(err)
	}
	r.mustPut("more", pattern(100, 2)) // the other node's deletion is seen
	r.quota(metadata.Quota{Bytes: 40_000, Objects: 11})
	big := r.mustPut("big", pattern(20_000, 3))
	_, err = r.copy(big, "copy")
	full("a copy: the twelfth object", err)
	r.quota(metadata.Quota{Bytes: 40_000})
	_, err = r.copy(big, "copy")
	full("a copy: too many bytes", err)
	u, err := r.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "bucket", Key: "parts"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.PutPart(t.Context(), PutPartRequest{Bucket: "bucket", Key: "parts", Upload: u.ID, Number: 1, Bytes: 30_000, Body: newBody(pattern(30_000, 4))})
	if err != nil {
		t.Fatal(err)
	}
	complete := func() error {
		_, err := r.CompleteUpload(t.Context(), CompleteRequest{Bucket: "bucket", Key: "parts", Upload: u.ID, Parts: []metadata.Part{p}, ETag: "e-1"})
		return err
	}
	full("a completion", complete())
	r.remove("big")
	if err := complete(); err != nil { // the upload is still there
		t.Error(err)
	}
	if got, want := r.usage(), (metadata.Usage{Objects: 11, Versions: 11, Bytes: 31_000}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	r.cleaning.Wait() // refused copies let their references go in the background
	if s := r.stats(); s.References != 0 {
		t.Errorf("%d references of refused copies", s.References)
	}
}

// second is another node's store over the same region.
func (r *rig) second(now time.Time) *Store {
	r.t.Helper()
	cfg := r.cfg
	cfg.Now = func() time.Time { return now }
	s, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			r.t.Error(err)
		}
	})
	return s
}

// TestQuotaOfManyNodes: a node may overlook what others committed in other partitions
// since it looked, and no more; a look is a second old at most.
func TestQuotaOfManyNodes(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, partitions(4))
	var mu sync.Mutex
	now := time.Unix(1_000_000, 0)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	r.cfg.Now = clock
	other := r.second(now)
	other.cfg.Now = clock
	r.quota(metadata.Quota{Objects: 20})
	put := func(s *Store, key string) error {
		_, err := s.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: key, Bytes: 1, Body: newBody([]byte("x"))})
		return err
	}
	if err := errors.Join(put(r.Store, "a"), put(other, "b")); err != nil { // both have looked
		t.Fatal(err)
	}
	stored := 2
	for i := range 60 {
		for n, s := range []*Store{r.Store, other} {
			switch err := put(s, fmt.Sprintf("k%d-%d", n, i)); {
			case err == nil:
				stored++
			case !errors.Is(err, metadata.ErrQuotaExceeded):
				t.Fatal(err)
			}
		}
	}
	if got := r.usage().Versions; got != int64(stored) || got < 20 || got > 40 {
		t.Fatalf("%d objects where 20 are allowed and each of two nodes sees its own", got)
	}
	over := r.usage().Versions
	mu.Lock()
	now = now.Add(usageFresh)
	mu.Unlock()
	for _, s := range []*Store{r.Store, other} {
		if err := put(s, "late"); !errors.Is(err, metadata.ErrQuotaExceeded) {
			t.Fatalf("after a new look: %v", err)
		}
	}
	if got := r.usage().Versions; got != over {
		t.Fatalf("%d objects, %d before", got, over)
	}
}

// A look that fails does not stop writes for which an old one has room, nor refuse others
// for good; with none at all nothing is written. Buckets without a quota ask nobody.
func TestQuotaWithoutALook(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, partitions(2))
	var asked atomic.Int64
	var away atomic.Bool
	r.groups.OnQuery = func(_ context.Context, _ replica.GroupID, kind metadata.QueryKind) error {
		if kind != metadata.QueryUsage {
			return nil
		}
		if asked.Add(1); away.Load() {
			return replica.ErrUnavailable
		}
		return nil
	}
	r.mustPut("k", []byte("x"))
	if n := asked.Load(); n != 0 {
		t.Fatalf("%d questions for a bucket without a quota", n)
	}
	away.Store(true)
	r.quota(metadata.Quota{Bytes: 10})
	if _, err := r.put("k2", []byte("x")); !errors.Is(err, metadata.ErrUnavailable) {
		t.Fatalf("with nothing known: %v", err)
	}
	away.Store(false)
	r.mustPut("k2", []byte("x"))
	away.Store(true)
	late := time.Now().Add(time.Hour)
	r.cfg.Now = func() time.Time { return late }
	r.mustPut("k3", []byte("x"))
	before := asked.Load()
	r.mustPut("k4", []byte("x"))
	if n := asked.Load() - before; n != 0 {
		t.Errorf("%d questions a moment after one that had no answer", n)
	}
	if _, err := r.put("k5", pattern(20, 1)); !errors.Is(err, metadata.ErrUnavailable) {
		t.Fatalf("too much, by an old look alone: %v", err)
	}
	away.Store(false)
	if _, err := r.put("k5", pattern(20, 1)); !errors.Is(err, metadata.ErrQuotaExceeded) {
		t.Fatalf("too much: %v", err)
	}
}
