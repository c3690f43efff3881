package upkeep

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// TestReferenceKeeper: a reference goes when the partition that it was made for says
// that no copy uses it, and never on an error; a release goes home.
func TestReferenceKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := catalogtest.Open(t, 2)
		cat := groups.Catalog(t)
		ctx := t.Context()
		b, err := cat.CreateBucket(ctx, "bucket")
		if err != nil {
			t.Fatal(err)
		}
		keyIn := func(g replica.GroupID) string {
			for k := 'a'; ; k++ {
				if cat.Partition(b.ID, string(k)) == g {
					return string(k)
				}
			}
		}
		const home, to = replica.GroupID(1), replica.GroupID(2)
		version := func(g replica.GroupID, p metadata.Part) metadata.Version {
			return metadata.Version{Bucket: b.ID, Key: keyIn(g), ID: metadata.NullVersion, Bytes: p.Bytes, Parts: []metadata.Part{p}}
		}
		blob := metadata.Part{Bytes: 20_000, Blob: &metadata.Blob{ID: blobOf(1), Bytes: 20_000, Profile: metadata.Profile{K: 1}}}
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(cat.PutVersion(ctx, version(home, blob), metadata.Condition{}))
		add := func(id byte) metadata.Reference {
			t.Helper()
			ref, err := cat.AddReference(ctx, home, metadata.AddReference{ID: metadata.RefID{id}, To: uint16(to), Lifetime: int64(time.Hour),
				Blobs: []metadata.BlobID{blob.Blob.ID}})
			if err != nil {
				t.Fatal(err)
			}
			return ref
		}
		var mu sync.Mutex
		fails := map[metadata.CommandKind]bool{metadata.CmdJudgeReferences: true, metadata.CmdDropReferences: true}
		groups.OnPropose = func(_ context.Context, _ replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if fails[kind] {
				return false, replica.ErrUnavailable
			}
			return true, nil
		}
		allow := func(kind metadata.CommandKind) { mu.Lock(); delete(fails, kind); mu.Unlock() }
		run(t, (&ReferenceKeeper{Book: cat, Partitions: 2, Every: time.Second, Logger: quiet, Now: time.Now,
			Leads: func(replica.GroupID) bool { return true }}).Run)
		expect := func(when string, references, pending int, releases int64, held metadata.BlobState) {
			t.Helper()
			time.Sleep(maxSilence + 3*time.Second) // of the bubble
			synctest.Wait()
			s, err := catalogtest.Stats(ctx, cat)
			must(nil, err)
			p, err := cat.PendingReferences(ctx, home, metadata.RefPage{Before: 1 << 62, Limit: 10})
			must(nil, err)
			states, err := cat.BlobStates(ctx, home, []metadata.BlobID{blob.Blob.ID})
			must(nil, err)
			if s.References != int64(references) || len(p) != pending || s.Releases != releases || states[0] != held {
				t.Fatalf("%s: %d references, %d pending, %d releases, blob %d", when, s.References, len(p), s.Releases, states[0])
			}
		}
		used := add(1)
		add(2) // never used
		must(cat.PutVersion(ctx, version(to, blob.Refer(used)), metadata.Condition{}))
		must(cat.DeleteKey(ctx, metadata.DeleteKey{Bucket: b.ID, Key: keyIn(home)}))
		expect("before their time", 2, 2, 0, metadata.BlobHeld)
		time.Sleep(2 * time.Hour)
		expect("nobody can be asked", 2, 2, 0, metadata.BlobHeld)
		allow(metadata.CmdJudgeReferences)
		expect("asked, nothing can be dropped", 2, 1, 0, metadata.BlobHeld)
		allow(metadata.CmdDropReferences)
		expect("dropped what nobody uses", 1, 0, 0, metadata.BlobHeld)
		must(cat.DeleteKey(ctx, metadata.DeleteKey{Bucket: b.ID, Key: keyIn(to)}))
		expect("released", 0, 0, 0, metadata.BlobGarbage)
	})
}

// crowdedBook has long lists of two partitions: the oldest of all are of one that never
// answers.
type crowdedBook struct {
	ReferenceBook
	asked   map[replica.GroupID]int // questions
	settled map[metadata.RefID]int
}

const crowd = 2*metadata.MaxReferences + 1 // of each partition

func (b *crowdedBook) list(page metadata.RefPage) (out []metadata.PendingReference) {
	for n := int64(1); n <= 2*crowd && len(out) < page.Limit; n++ {
		if n > page.After.Until {
			out = append(out, metadata.PendingReference{ID: metadata.RefID{byte(n >> 8), byte(n)}, Until: n, To: uint16(1 + (n-1)/crowd)})
		}
	}
	return out
}

func (b *crowdedBook) PendingReferences(_ context.Context, _ replica.GroupID, page metadata.RefPage) ([]metadata.PendingReference, error) {
	return b.list(page), nil
}

func (b *crowdedBook) Releases(_ context.Context, _ replica.GroupID, page metadata.RefPage) (out []metadata.Reference, err error) {
	for _, r := range b.list(page) {
		out = append(out, metadata.Reference{ID: r.ID, Until: r.Until, Home: r.To})
	}
	return out, nil
}

func (b *crowdedBook) JudgeReferences(ctx context.Context, to replica.GroupID, refs []metadata.PendingReference) ([]metadata.RefState, error) {
	states := make([]metadata.RefState, len(refs))
	for i := range states {
		states[i] = metadata.RefUsed
	}
	return states, b.DropReferences(ctx, to, nil)
}

func (b *crowdedBook) DropReferences(_ context.Context, home replica.GroupID, _ []metadata.RefID) error {
	if b.asked[home]++; home == 1 {
		return replica.ErrUnavailable
	}
	return nil
}

func (b *crowdedBook) ConfirmReferences(_ context.Context, _ replica.GroupID, ids []metadata.RefID) error {
	for _, id := range ids {
		b.settled[id]++
	}
	return nil
}

func (b *crowdedBook) DropReleases(_ context.Context, _ replica.GroupID, refs []metadata.Reference) error {
	for _, r := range refs {
		b.settled[r.ID]++
	}
	return nil
}

// TestSilentPartitionsHoldNobodyUp: what concerns a partition that does not answer is
// passed over, however much of it comes first, and it is asked ever more seldom. A list
// that stays full is gone through once in a round.
func TestSilentPartitionsHoldNobodyUp(t *testing.T) {
	for name, round := range map[string]func(*ReferenceKeeper, context.Context, replica.GroupID) error{
		"releases": (*ReferenceKeeper).release, "pending": (*ReferenceKeeper).judge,
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_000_000, 0)
			b := &crowdedBook{asked: map[replica.GroupID]int{}, settled: map[metadata.RefID]int{}}
			k := &ReferenceKeeper{Book: b, Now: func() time.Time { return now }, Every: time.Second, Leads: func(replica.GroupID) bool { return true }}
			for n := 1; n <= 300; n++ {
				if err := round(k, t.Context(), 7); b.asked[1] == 1 && n == 1 && err == nil {
					t.Fatal("the failure is not told")
				}
				for id, times := range b.settled {
					if times != n || int(id[0])<<8+int(id[1]) <= crowd {
						t.Fatalf("round %d: reference %x was settled %d times", n, id[:2], times)
					}
				}
				if len(b.settled) != crowd {
					t.Fatalf("round %d: %d references were settled", n, len(b.settled))
				}
				now = now.Add(time.Second)
			}
			// After 1, 2, 4 .. 64 s and then every 2 minutes.
			if b.asked[1] != 9 {
				t.Errorf("asked %d times", b.asked[1])
			}
		})
	}
}
