package upkeep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/placement"
	"bivalve/metadata"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	quiet = slog.New(slog.DiscardHandler)
	yes   = func() bool { return true }
	zones = [2]cluster.Zone{"a", "b"}
)

// fakeFacts is a region of three nodes per zone, m = 1 of k = 2.
type fakeFacts struct {
	mu     sync.Mutex
	layout *cluster.Layout
	dead   map[cluster.NodeID]bool
	down   map[cluster.Zone]bool
	sets   []string
	fail   int // so many proposals fail
	ready  []cluster.Member
	puts   int
}

func members() []cluster.Member {
	var out []cluster.Member
	for _, z := range zones {
		for n := range 3 {
			id := cluster.NodeID(string(z) + string(rune('1'+n)))
			out = append(out, cluster.Member{ID: id, Zone: z, Role: cluster.RoleStorage,
				Disks: []cluster.Disk{{ID: cluster.DiskID{z[0], byte(n)}, Node: id, Weight: 1}}})
		}
	}
	return append(out, cluster.Member{ID: "w", Zone: "w", Role: cluster.RoleWitness})
}

func newFacts(t *testing.T) *fakeFacts {
	l, err := placement.Compute(placement.Input{Members: members(), Zones: zones, Profile: cluster.Profile{K: 2, M: 1}, PGs: 8, Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	return &fakeFacts{layout: l, dead: map[cluster.NodeID]bool{}, down: map[cluster.Zone]bool{}}
}

func (f *fakeFacts) Layout() *cluster.Layout {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.layout
}

func (f *fakeFacts) ZoneDown(z cluster.Zone) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down[z]
}

func (f *fakeFacts) Alive(n cluster.NodeID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead[n]
}

func (f *fakeFacts) SetZone(_ context.Context, z cluster.Zone, down bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return errors.New("no quorum")
	}
	f.down[z] = down
	word := " up"
	if down {
		word = " down"
	}
	f.sets = append(f.sets, string(z)+word)
	return nil
}

func (f *fakeFacts) set(dead bool, nodes ...cluster.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range nodes {
		f.dead[n] = dead
	}
}

func (f *fakeFacts) said() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sets)
}

// pass lets so much time go by in the bubble, and what is due then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// run starts a task and stops it at the end of the bubble.
func run(t *testing.T, task func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := task(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// judged runs a judge in a bubble of its own.
func judged(t *testing.T, name string, leader RootLeader, body func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string))) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFacts(t)
			j := &ZoneJudge{Facts: f, Leader: leader, Logger: quiet, Every: 100 * time.Millisecond,
				DownAfter: 200 * time.Millisecond, UpAfter: time.Second, Warm: 10 * time.Second, Calm: time.Minute, MaxUpAfter: 3 * time.Second, Now: time.Now}
			run(t, j.Run)
			body(t, f, func(d time.Duration, want ...string) {
				t.Helper()
				pass(d)
				if got := f.said(); !slices.Equal(got, want) {
					t.Fatalf("said %q, want %q", got, want)
				}
			})
		})
	})
}

func TestZoneJudge(t *testing.T) {
	judged(t, "a zone dies and comes back", yes, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		after(time.Second)
		f.set(true, "b1", "b2", "b3")
		after(150 * time.Millisecond) // not yet
		after(250*time.Millisecond, "b down")
		f.set(false, "b1", "b2")
		after(900*time.Millisecond, "b down")
		f.set(true, "b2") // flaps: the time counts anew
		after(300*time.Millisecond, "b down")
		f.set(false, "b2")
		after(900*time.Millisecond, "b down")
		after(300*time.Millisecond, "b down", "b up")
	})
	judged(t, "m nodes may die", yes, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		f.set(true, "a2", "b3")
		after(time.Minute)
		f.set(true, "b1") // now groups have less than k
		after(time.Second, "b down")
	})
	judged(t, "a flap is not a death", yes, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		after(time.Second)
		for range 20 {
			f.set(true, "b1", "b2", "b3")
			after(150 * time.Millisecond)
			f.set(false, "b1", "b2", "b3")
			after(150 * time.Millisecond)
		}
	})
	judged(t, "a zone that falls again is believed later", yes, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		after(time.Second)
		var said []string
		for i, hold := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second, time.Second} {
			if i == 4 {
				after(2*time.Minute, said...) // a calm time
			}
			f.set(true, "b1", "b2", "b3")
			said = append(said, "b down")
			after(400*time.Millisecond, said...)
			f.set(false, "b1", "b2", "b3")
			after(hold-100*time.Millisecond, said...)
			said = append(said, "b up")
			after(300*time.Millisecond, said...)
		}
	})
	judged(t, "never both zones", yes, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		after(time.Second)
		f.set(true, "a1", "a2", "a3", "b1", "b2", "b3")
		after(time.Minute)
		f.set(false, "a1", "a2", "a3")
		after(time.Second, "b down")
		f.set(true, "a1", "a2", "a3")
		after(time.Minute, "b down")
	})
	judged(t, "nothing bad is believed while warming up", yes, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		f.set(true, "b1", "b2", "b3")
		after(9 * time.Second)
		after(2*time.Second, "b down")
	})
	judged(t, "a proposal that fails is made again", yes, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		after(time.Second)
		f.mu.Lock()
		f.fail = 3
		f.mu.Unlock()
		f.set(true, "a1", "a2")
		after(time.Second, "a down")
	})
	var mu sync.Mutex
	leads := false
	leader := func() bool { mu.Lock(); defer mu.Unlock(); return leads }
	judged(t, "only the leader, and a new one looks for itself", leader, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		after(time.Second)
		f.set(true, "b1", "b2", "b3")
		after(time.Minute)
		mu.Lock()
		leads = true
		mu.Unlock()
		after(9 * time.Second) // it has not seen the zone usable itself
		after(2*time.Second, "b down")
	})
	judged(t, "no layout, nothing to judge", yes, func(t *testing.T, f *fakeFacts, after func(time.Duration, ...string)) {
		f.mu.Lock()
		l := f.layout
		f.layout = nil
		f.mu.Unlock()
		f.set(true, "b1", "b2", "b3")
		after(time.Minute)
		f.mu.Lock()
		f.layout = l
		f.mu.Unlock()
		after(time.Second, "b down")
	})
}

func (f *fakeFacts) proposals() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.puts
}

func (f *fakeFacts) Founders() []cluster.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

func (f *fakeFacts) PutLayout(_ context.Context, l *cluster.Layout) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.puts++
	if f.fail > 0 {
		f.fail--
		return errors.New("no quorum")
	}
	f.layout = l
	return nil
}

func TestFounder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFacts(t)
		f.layout, f.fail = nil, 2
		var wg sync.WaitGroup
		founder := &Founder{Facts: f, Leader: yes, Logger: quiet, Every: time.Second, Zones: zones, Profile: cluster.Profile{K: 2, M: 1}, PGs: 16}
		wg.Go(func() {
			if err := founder.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
		pass(10 * time.Second)
		if f.Layout() != nil || f.proposals() != 0 {
			t.Fatal("founded without founders")
		}
		f.mu.Lock()
		f.ready = members()
		f.mu.Unlock()
		pass(10 * time.Second)
		wg.Wait() // it ended by itself
		if l := f.Layout(); l == nil || l.Epoch != 1 || len(l.Groups) != 16 || f.proposals() != 3 {
			t.Errorf("%+v after %d proposals", l, f.proposals())
		}
	})
}

// TestFounderKeepsQuiet when it does not lead, and when there is a layout.
func TestFounderKeepsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFacts(t)
		f.ready = members()
		if err := (&Founder{Facts: f, Leader: yes, Logger: quiet, Every: time.Second}).Run(t.Context()); err != nil || f.proposals() != 0 {
			t.Error(err, f.proposals())
		}
		f.layout = nil
		run(t, (&Founder{Facts: f, Leader: func() bool { return false }, Logger: quiet, Every: time.Second, Zones: zones}).Run)
		pass(time.Minute)
		if f.proposals() != 0 {
			t.Error("founded without leading")
		}
	})
}

// TestBucketFinisher lets the node that deletes a bucket die at every command of
// the deletion, done or not; the finisher brings it to an end.
func TestBucketFinisher(t *testing.T) {
	crash := errors.New("crashed")
	for step := 1; ; step++ {
		reached := false
		for _, done := range []bool{false, true} {
			for _, late := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					groups := catalogtest.Open(t, 4)
					cat := groups.Catalog(t)
					ctx := t.Context()
					if _, err := cat.CreateBucket(ctx, "other"); err != nil {
						t.Fatal(err)
					}
					b, err := cat.CreateBucket(ctx, "bucket")
					if err != nil {
						t.Fatal(err)
					}
					// An object comes in between the look and the fences.
					key := ""
					for i := 0; late && cat.Partition(b.ID, key) != 3; i++ {
						key = string(rune('a' + i))
					}
					if late {
						if _, err := cat.PutVersion(ctx, metadata.Version{Bucket: b.ID, Key: key, ID: metadata.NullVersion}, metadata.Condition{}); err != nil {
							t.Fatal(err)
						}
					}
					n := 0
					groups.OnPropose = func(context.Context, replica.GroupID, metadata.CommandKind, metadata.Command) (bool, error) {
						n++
						if n == step {
							reached = true
							return done, crash
						}
						if n > step {
							return false, crash // the node is dead
						}
						return true, nil
					}
					if err = cat.FinishDelete(ctx, b); late && !reached && !errors.Is(err, metadata.ErrBucketNotEmpty) {
						t.Fatal(err)
					}
					if reached && err == nil && !done {
						t.Fatalf("step %d: no error", step)
					}
					groups.OnPropose = nil
					run(t, (&BucketFinisher{Buckets: cat, Leader: yes, Logger: quiet, Every: 15 * time.Second, After: 30 * time.Second, Now: time.Now}).Run)
					pass(2 * time.Minute)
					left, err := cat.ListBuckets(ctx, metadata.BucketPage{Limit: 10})
					if err != nil {
						t.Fatal(err)
					}
					for _, l := range left.Buckets {
						if l.Deleting != 0 {
							t.Errorf("step %d done %v: %s is still being deleted", step, done, l.Name)
						}
						for i := range 8 { // it takes writes in every partition
							if _, err := cat.PutVersion(ctx, metadata.Version{Bucket: l.ID, Key: string(rune('a' + i)), ID: metadata.NullVersion}, metadata.Condition{}); err != nil {
								t.Errorf("step %d done %v: %s takes no writes: %v", step, done, l.Name, err)
							}
						}
					}
					if late && len(left.Buckets) != 2 {
						t.Errorf("step %d done %v: a bucket with an object in it was deleted", step, done)
					}
				})
			}
		}
		if !reached {
			if step < 6 { // mark, four fences, drop
				t.Errorf("only %d steps", step-1)
			}
			return
		}
	}
}

// fakeBlobs removes shards, or cannot.
type fakeBlobs struct {
	mu    sync.Mutex
	stuck map[metadata.BlobID]bool
	gone  map[metadata.BlobID]int
}

// times is how often a blob was removed; count is how many were.
func (f *fakeBlobs) times(id byte) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone[blobOf(id)]
}

func (f *fakeBlobs) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.gone)
}

func (f *fakeBlobs) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint(f.gone)
}

func (f *fakeBlobs) RemoveBlob(_ context.Context, b *metadata.Blob) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stuck[b.ID] {
		return errors.New("a disk is out of reach")
	}
	f.gone[b.ID]++
	return nil
}

func TestReclaimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := catalogtest.Open(t, 2)
		cat := groups.Catalog(t)
		ctx := t.Context()
		b, err := cat.CreateBucket(ctx, "bucket")
		if err != nil {
			t.Fatal(err)
		}
		blobs := &fakeBlobs{stuck: map[metadata.BlobID]bool{}, gone: map[metadata.BlobID]int{}}
		put := func(key string, id byte) {
			t.Helper()
			v := metadata.Version{Bucket: b.ID, Key: key, ID: metadata.NullVersion, Bytes: 20_000,
				Parts: []metadata.Part{{Bytes: 20_000, Blob: &metadata.Blob{ID: blobOf(id), Bytes: 20_000, Profile: metadata.Profile{K: 1}}}}}
			if _, err := cat.PutVersion(ctx, v, metadata.Condition{}); err != nil {
				t.Fatal(err)
			}
		}
		garbage := func() int64 {
			t.Helper()
			s, err := catalogtest.Stats(ctx, cat)
			if err != nil {
				t.Fatal(err)
			}
			return s.Garbage
		}
		put("k", 1)
		put("k", 2)
		put("other", 3)
		if _, err := cat.DeleteKey(ctx, metadata.DeleteKey{Bucket: b.ID, Key: "other", Condition: metadata.Condition{}}); err != nil {
			t.Fatal(err)
		}
		blobs.stuck[blobOf(3)] = true
		failing := false
		var hook sync.Mutex
		groups.OnPropose = func(context.Context, replica.GroupID, metadata.CommandKind, metadata.Command) (bool, error) {
			hook.Lock()
			defer hook.Unlock()
			if failing {
				return false, replica.ErrUnavailable
			}
			return true, nil
		}
		var mu sync.Mutex
		leads := map[replica.GroupID]bool{}
		run(t, (&Reclaimer{Queue: cat, Blobs: blobs, Partitions: 2, Grace: time.Minute, Every: 10 * time.Second, Logger: quiet, Now: time.Now,
			Leads: func(g replica.GroupID) bool { mu.Lock(); defer mu.Unlock(); return leads[g] }}).Run)
		pass(5 * time.Minute)
		if blobs.count() != 0 || garbage() != 2 {
			t.Fatal("reclaimed without leading")
		}
		mu.Lock()
		leads[1], leads[2] = true, true
		mu.Unlock()
		pass(15 * time.Second)
		if blobs.times(1) != 1 || blobs.count() != 1 || garbage() != 1 {
			t.Fatalf("%v, %d left", blobs, garbage())
		}
		// The grace is honoured: what became garbage now stays for a minute.
		put("k", 4)
		pass(55 * time.Second)
		if blobs.times(2) != 0 {
			t.Fatal("removed within its grace")
		}
		pass(20 * time.Second)
		if blobs.times(2) != 1 || garbage() != 1 {
			t.Fatalf("%v, %d left", blobs, garbage())
		}
		// A failure to drop is only work done twice.
		put("k", 5)
		hook.Lock()
		failing = true
		hook.Unlock()
		pass(100 * time.Second)
		if blobs.times(4) < 2 || garbage() != 2 {
			t.Fatalf("%v, %d left", blobs, garbage())
		}
		hook.Lock()
		failing = false
		hook.Unlock()
		blobs.mu.Lock()
		clear(blobs.stuck)
		blobs.mu.Unlock()
		pass(4 * time.Minute) // an item that was stuck is not tried at every look
		if blobs.times(3) != 1 || garbage() != 0 || blobs.times(5) != 0 {
			t.Fatalf("%v, %d left", blobs, garbage())
		}
	})
}

// TestStuckGarbage: items that cannot be removed, however many, do not keep those behind
// them, nor those that come later; and they are removed once they can be.
func TestStuckGarbage(t *testing.T) {
	const stuck = 45 * reclaimBatch // more than one look tries
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		blobs := &fakeBlobs{stuck: map[metadata.BlobID]bool{}, gone: map[metadata.BlobID]int{}}
		put := func(n int, stuck bool) {
			id := metadata.BlobID{byte(n >> 8), byte(n)}
			q.mu.Lock()
			q.items = append(q.items, metadata.Garbage{ID: metadata.GarbageID{7: 1, 8: byte(n >> 8), 9: byte(n)}, Blob: metadata.Blob{ID: id}})
			q.mu.Unlock()
			blobs.mu.Lock()
			blobs.stuck[id] = stuck
			blobs.mu.Unlock()
		}
		for i := range stuck {
			put(i, true)
		}
		for i := range 2 * reclaimBatch {
			put(stuck+i, false)
		}
		run(t, (&Reclaimer{Queue: q, Blobs: blobs, Partitions: 1, Grace: time.Minute, Every: 10 * time.Second, Logger: quiet, Now: time.Now,
			Leads: func(replica.GroupID) bool { return true }}).Run)
		pass(time.Minute)
		if left := q.len(); left != stuck {
			t.Errorf("%d items are left, %d of them cannot be removed", left, stuck)
		}
		put(stuck+2*reclaimBatch, false)
		pass(15 * time.Second)
		if left := q.len(); left != stuck {
			t.Errorf("what came later is not removed at the next look: %d items are left", left)
		}
		blobs.mu.Lock()
		clear(blobs.stuck)
		blobs.mu.Unlock()
		pass(5 * time.Minute)
		if left := q.len(); left != 0 {
			t.Errorf("%d items are left", left)
		}
	})
}

// TestGarbageOfAnOldProgram: a partition that does not know where to go on is not asked
// for the same items again and again.
func TestGarbageOfAnOldProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{old: true}
		blobs := &fakeBlobs{stuck: map[metadata.BlobID]bool{{1}: true}, gone: map[metadata.BlobID]int{}}
		for i := range 3 {
			q.items = append(q.items, metadata.Garbage{ID: metadata.GarbageID{7: 1, 9: byte(i)}, Blob: metadata.Blob{ID: metadata.BlobID{byte(i)}}})
		}
		run(t, (&Reclaimer{Queue: q, Blobs: blobs, Partitions: 1, Grace: time.Minute, Every: 10 * time.Second, Logger: quiet, Now: time.Now,
			Leads: func(replica.GroupID) bool { return true }}).Run)
		pass(time.Minute)
		if left := q.len(); left != 1 {
			t.Errorf("%d items are left", left)
		}
		blobs.mu.Lock()
		clear(blobs.stuck)
		blobs.mu.Unlock()
		pass(3 * time.Minute)
		if left := q.len(); left != 0 {
			t.Errorf("%d items are left", left)
		}
	})
}

// TestHangingGarbage: what was removed beside an item that hangs leaves the queue.
func TestHangingGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &fakeQueue{}
		blobs := hangingBlobs{&fakeBlobs{gone: map[metadata.BlobID]int{}}, metadata.BlobID{1}}
		for i := range 10 {
			q.items = append(q.items, metadata.Garbage{ID: metadata.GarbageID{byte(i)}, Blob: metadata.Blob{ID: metadata.BlobID{byte(i)}}})
		}
		run(t, (&Reclaimer{Queue: q, Blobs: blobs, Partitions: 1, Grace: time.Minute, Every: 10 * time.Second, Logger: quiet, Now: time.Now,
			Leads: func(replica.GroupID) bool { return true }}).Run)
		pass(5 * time.Minute)
		if left := q.len(); left != 1 || blobs.count() != 9 || blobs.gone[metadata.BlobID{}] != 1 {
			t.Errorf("%d items are left of 10, of which one cannot be removed; %s", left, blobs)
		}
	})
}

// hangingBlobs never come to an end with one of them.
type hangingBlobs struct {
	*fakeBlobs
	hangs metadata.BlobID
}

func (b hangingBlobs) RemoveBlob(ctx context.Context, blob *metadata.Blob) error {
	if blob.ID == b.hangs {
		<-ctx.Done()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.fakeBlobs.RemoveBlob(ctx, blob)
}

type fakeQueue struct {
	mu    sync.Mutex
	items []metadata.Garbage
	old   bool // of a program that begins at the first item always
}

func (q *fakeQueue) Garbage(_ context.Context, _ replica.GroupID, page metadata.GarbagePage) ([]metadata.Garbage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := 0
	if len(page.After) > 0 && !q.old {
		first = sort.Search(len(q.items), func(i int) bool { return bytes.Compare(q.items[i].ID[:], page.After) > 0 })
	}
	return slices.Clone(q.items[first:min(first+page.Limit, len(q.items))]), nil
}

func (q *fakeQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

func (q *fakeQueue) DropGarbage(ctx context.Context, _ replica.GroupID, ids []metadata.GarbageID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = slices.DeleteFunc(q.items, func(g metadata.Garbage) bool { return slices.Contains(ids, g.ID) })
	return nil
}

// blobOf is a blob that was minted as the time of a bubble began.
func blobOf(n byte) metadata.BlobID {
	return metadata.BlobID(cluster.NewBlobID(1, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), [8]byte{n}))
}
