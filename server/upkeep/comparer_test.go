package upkeep

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// TestComparer: after a forced recovery the home of blobs has lost more references than
// one page takes. It gives no garbage away as long as the copies' partition does not
// answer; then all are there again. A copy that a recovery brings back, and whose blob is
// gone, counts as broken.
func TestComparer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := catalogtest.Open(t, 2)
		cat := groups.Catalog(t)
		ctx := t.Context()
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		b, err := cat.CreateBucket(ctx, "bucket")
		must(nil, err)
		const home, there = replica.GroupID(1), replica.GroupID(2)
		serial := 0
		keyIn := func(g replica.GroupID) string {
			for ; ; serial++ {
				if k := fmt.Sprint("key", serial); cat.Partition(b.ID, k) == g {
					serial++
					return k
				}
			}
		}
		put := func(g replica.GroupID, p metadata.Part) string {
			t.Helper()
			key := keyIn(g)
			must(cat.PutVersion(ctx, metadata.Version{Bucket: b.ID, Key: key, ID: metadata.NullVersion, Bytes: p.Bytes, Parts: []metadata.Part{p}}, metadata.Condition{}))
			return key
		}
		var recovered uint32
		recover := func(g replica.GroupID) {
			t.Helper()
			recovered++
			raw, err := metadata.NewCommand(metadata.Level, metadata.CmdRecovered, metadata.RequestID{byte(recovered)}, 0, metadata.Recovered{Epoch: 1, Partitions: 2})
			must(nil, err)
			must(groups.Propose(ctx, g, raw))
		}
		var parts []metadata.Part
		var sources []string
		for n := range byte(2) {
			parts = append(parts, metadata.Part{Bytes: 20_000, Blob: &metadata.Blob{ID: blobOf(n + 1), Bytes: 20_000, Profile: metadata.Profile{K: 1}}})
			sources = append(sources, put(home, parts[n]))
		}
		const copies = metadata.MaxReferences + 100
		var lost []metadata.RefID
		var last string
		for n := range copies {
			p := parts[n%2]
			ref, err := cat.AddReference(ctx, home, metadata.AddReference{ID: metadata.RefID{byte(n >> 8), byte(n), 1}, To: uint16(there), Lifetime: int64(time.Hour), Blobs: []metadata.BlobID{p.Blob.ID}})
			must(nil, err)
			lost = append(lost, ref.ID)
			last = put(there, p.Refer(ref))
		}
		must(nil, cat.DropReferences(ctx, home, lost)) // as if they had never been
		recover(home)
		for _, key := range sources {
			must(cat.DeleteKey(ctx, metadata.DeleteKey{Bucket: b.ID, Key: key}))
		}
		var silent atomic.Bool
		silent.Store(true)
		groups.OnQuery = func(_ context.Context, g replica.GroupID, _ metadata.QueryKind) error {
			if g == there && silent.Load() {
				return replica.ErrUnavailable
			}
			return nil
		}
		run(t, (&Comparer{Book: cat, Partitions: 2, Every: time.Second, Logger: quiet, Now: time.Now,
			Leads: func(g replica.GroupID) bool { return true }}).Run)
		expect := func(when string, references int64, awaited, untold, broken int64) {
			t.Helper()
			time.Sleep(maxSilence + 3*time.Second) // of the bubble
			synctest.Wait()
			silent := silent.Swap(false)
			s, err := catalogtest.Stats(ctx, cat)
			must(nil, err)
			if s.References != references || s.Awaited != awaited || s.Untold != untold || s.Broken != broken {
				t.Fatalf("%s: %+v", when, s)
			}
			garbage, err := cat.Garbage(ctx, home, metadata.GarbagePage{Before: 1 << 62, Limit: 10})
			must(nil, err)
			if len(garbage) > 0 {
				t.Fatalf("%s: garbage is given away: %+v", when, garbage)
			}
			if silent {
				return
			}
			states, err := cat.BlobStates(ctx, home, []metadata.BlobID{parts[0].Blob.ID, parts[1].Blob.ID})
			must(nil, err)
			if states[0] != metadata.BlobHeld || states[1] != metadata.BlobHeld {
				t.Fatalf("%s: %v", when, states)
			}
		}
		expect("the copies' partition does not answer", 0, 1, 1, 0)
		expect("all have been heard", copies, 0, 0, 0)

		// The copies' partition comes back with a copy whose blob went with it.
		gone := metadata.Part{Bytes: 20_000, Blob: &metadata.Blob{ID: blobOf(9), Bytes: 20_000, Profile: metadata.Profile{K: 1}}}
		source := put(home, gone)
		ref, err := cat.AddReference(ctx, home, metadata.AddReference{ID: metadata.RefID{9}, To: uint16(there), Lifetime: int64(time.Hour), Blobs: []metadata.BlobID{gone.Blob.ID}})
		must(nil, err)
		back := put(there, gone.Refer(ref))
		must(nil, cat.DropReferences(ctx, home, []metadata.RefID{ref.ID}))
		must(cat.DeleteKey(ctx, metadata.DeleteKey{Bucket: b.ID, Key: source}))
		garbage, err := cat.Garbage(ctx, home, metadata.GarbagePage{Before: 1 << 62, Limit: 10})
		if err != nil || len(garbage) != 1 {
			t.Fatal(garbage, err)
		}
		must(nil, cat.DropGarbage(ctx, home, []metadata.GarbageID{garbage[0].ID}))
		recover(there)
		expect("a copy came back", copies, 0, 0, 1)
		pending, err := cat.PendingReferences(ctx, home, metadata.RefPage{Before: 1 << 62, Limit: metadata.MaxReferences})
		if err != nil || len(pending) != metadata.MaxReferences {
			t.Fatalf("%d references are asked about again, %v", len(pending), err)
		}
		for _, key := range []string{back, last} {
			must(cat.DeleteKey(ctx, metadata.DeleteKey{Bucket: b.ID, Key: key}))
		}
		expect("it was deleted", copies, 0, 0, 0)
	})
}

// fullHome is a region where a partition cannot take what it hears.
type fullHome struct {
	full  replica.GroupID
	mu    sync.Mutex
	heard map[replica.GroupID]bool
	tried int // by the one that is full
}

func (b *fullHome) RecoveryLocal(g replica.GroupID) (metadata.Recovery, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard[g] {
		return metadata.Recovery{Epoch: 1}, nil
	}
	return metadata.Recovery{Epoch: 1, Awaited: []uint16{3}}, nil
}

func (b *fullHome) AssertReferences(_ context.Context, home replica.GroupID, _ metadata.AssertReferences) (metadata.Asserted, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if home == b.full {
		b.tried++
		return metadata.Asserted{}, metadata.ErrUnavailable
	}
	b.heard[home] = true
	return metadata.Asserted{}, nil
}

func (b *fullHome) Recovery(context.Context, replica.GroupID) (metadata.Recovery, error) {
	return metadata.Recovery{}, nil
}

func (b *fullHome) FenceHome(context.Context, replica.GroupID, metadata.FenceHome) error { return nil }

func (b *fullHome) Namings(context.Context, replica.GroupID, metadata.NamingPage) (metadata.Namings, error) {
	return metadata.Namings{}, nil
}

func (b *fullHome) DoubtReferences(context.Context, replica.GroupID, metadata.DoubtReferences) (metadata.Doubted, error) {
	return metadata.Doubted{}, nil
}

func (b *fullHome) ToldHome(context.Context, replica.GroupID, metadata.ToldHome) error { return nil }

// TestComparerGoesOnBesideAFullHome: two recovered partitions are led here and await the
// same third one. One of them cannot take what it hears: the other one hears all the
// same, and the one that cannot is tried ever more seldom.
func TestComparerGoesOnBesideAFullHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const full, other = replica.GroupID(1), replica.GroupID(2)
		b := &fullHome{full: full, heard: map[replica.GroupID]bool{}}
		run(t, (&Comparer{Book: b, Partitions: 3, Every: time.Second, Logger: quiet, Now: time.Now,
			Leads: func(g replica.GroupID) bool { return g == full || g == other }}).Run)
		time.Sleep(time.Hour) // of the bubble
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.heard[other] {
			t.Error("partition 2 has not heard partition 3, which answers all the time")
		}
		if most := int(time.Hour/maxSilence) + 10; b.tried < 10 || b.tried > most {
			t.Errorf("partition 1 was tried %d times in an hour, want at most %d", b.tried, most)
		}
	})
}
