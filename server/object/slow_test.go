package object

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

// demote agrees that a disk is slow, and makes it so: its calls take so long.
func (r *rig) demote(d cluster.DiskID, took time.Duration) {
	r.region.set(func(f *fakeRegion) { f.slow[d] = true })
	r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
		if c.disk != d {
			return true, nil
		}
		return late(ctx, took)
	})
}

// TestSlowDiskIsSteppedAround: where there is room, chunks go where no disk is slow,
// whole, and nothing is asked of the slow one but what lies on it alone.
func TestSlowDiskIsSteppedAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, nodes(6))
		data := pattern(chunk, 8)
		old := r.putInto(zoneA, data)
		slow := r.of(old, 0)[0].disk.ID
		r.demote(slow, time.Second)
		for i := range 20 {
			v := r.mustPut(fmt.Sprint("k", i), data)
			for _, s := range r.of(v, 0) {
				if s.disk.ID == slow {
					t.Errorf("object %d lies on the slow disk", i)
				}
			}
			for _, n := range v.Parts[0].Blob.Notes {
				if n.Missing != 0 {
					t.Errorf("object %d lacks shards: %+v", i, n)
				}
			}
		}
		began := time.Now()
		r.check(old, data, 0, old.Bytes)
		if took := time.Since(began); took != 0 {
			t.Errorf("a read of what lies on it took %v", took)
		}
		for _, c := range r.shards.callsOf(opRead) {
			if c.disk == slow {
				t.Error("the slow disk was read")
			}
		}
	})
}

// TestSlowDiskInASmallZone: there is no way around it, so it is written too; the chunk
// is durable without it, and it gets no longer than the others need.
func TestSlowDiskInASmallZone(t *testing.T) {
	for _, slowest := range []time.Duration{0, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, erasure.Geometry{K: 2, M: 1})
			r.warm()
			for _, d := range disksOf(r.region.Layout(), zoneB) {
				for range windowLeast {
					r.writes.observe(d.ID, time.Now(), time.Millisecond)
				}
			}
			slow := r.region.Layout().Disks[0].ID
			r.demote(slow, slowest)
			began := time.Now()
			v := r.mustPut("k", pattern(chunk, 8))
			if took := time.Since(began); took > time.Millisecond { // what the others need
				t.Errorf("took %v", took)
			}
			lacks := 0
			for _, n := range v.Parts[0].Blob.Notes {
				lacks += erasure.ShardSet(n.Missing).Len()
			}
			if want := map[bool]int{true: 0, false: 1}[slowest == 0]; lacks != want {
				t.Errorf("%v: %d shards lack, want %d", slowest, lacks, want)
			}
			time.Sleep(2 * slowest) // what is late arrives all the same
			if n := r.shards.count(); n != 6 {
				t.Errorf("%d shards lie on the disks", n)
			}
		})
	}
}

// TestSlowDiskIsNotWaitedFor: while its last answer took longer than the others need, it
// gets nothing; once it has answered in time it does.
func TestSlowDiskIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		r.warm()
		for _, d := range disksOf(r.region.Layout(), zoneB) {
			for range windowLeast {
				r.writes.observe(d.ID, time.Now(), time.Millisecond)
			}
		}
		slow := r.region.Layout().Disks[0].ID
		lacks := func(key string) (shards int, took time.Duration) {
			began := time.Now()
			for _, n := range r.mustPut(key, pattern(chunk, 8)).Parts[0].Blob.Notes {
				shards += erasure.ShardSet(n.Missing).Len()
			}
			return shards, time.Since(began)
		}
		r.demote(slow, 5*time.Second)
		lacks("first")
		for range 2 { // while it has not answered yet, and after
			time.Sleep(4 * time.Second)
			if n, took := lacks("slow"); n != 1 || took != 0 {
				t.Errorf("%d shards lack after %v", n, took)
			}
		}
		time.Sleep(5 * time.Second)
		r.demote(slow, 0)
		lacks("fast again")
		synctest.Wait()
		for range 20 {
			if n, _ := lacks("known to be"); n != 0 {
				t.Errorf("%d shards lack though the disk keeps pace", n)
			}
		}
	})
}

// TestDownIsWorseThanSlow: a chunk rather waits for slow disks than lacks a shard.
func TestDownIsWorseThanSlow(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1}, nodes(4))
	l := r.region.Layout()
	disks := disksOf(l, zoneA)
	r.region.set(func(f *fakeRegion) {
		f.disks[disks[0].ID] = true
		for _, d := range disks[1:] {
			f.slow[d.ID] = true
		}
	})
	v := r.mustPut("k", pattern(chunk, 8))
	for _, s := range r.of(v, 0) {
		if s.disk.ID == disks[0].ID {
			t.Error("the chunk lies where a disk is down")
		}
	}
}

// TestSlowNodeIsNoRelay.
func TestSlowNodeIsNoRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := relayRig(t, erasure.Geometry{K: 2, M: 1})
		slow := disksOf(r.region.Layout(), zoneB)[0]
		r.region.set(func(f *fakeRegion) { f.slow[slow.ID] = true })
		for i := range 20 {
			r.mustPut(fmt.Sprint("k", i), pattern(chunk, 8))
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.calls) == 0 {
			t.Error("no relay was used")
		}
		for _, id := range f.calls {
			if id == slow.Node {
				t.Fatalf("%s relayed", id)
			}
		}
	})
}

// TestCallsLeftBehind: a slow disk that cannot keep up holds a share of the memory and no
// more; what it lacks beyond that is noted as missing, as what comes too late is, and no
// write waits for it or is refused.
func TestCallsLeftBehind(t *testing.T) {
	for name, c := range map[string]struct {
		writes, size int
		most         int64 // bytes that stay with the calls
	}{
		"large": {16, chunk, (64 << 20) / leftShare},
		"many":  {2 * leftChunks, 20_000, leftChunks * 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
				r.warm()
				r.demote(r.region.Layout().Disks[0].ID, time.Hour)
				data := pattern(c.size, 8)
				began := time.Now()
				var writes sync.WaitGroup
				for i := range c.writes {
					writes.Go(func() {
						v, err := r.put(fmt.Sprint("k", i), data)
						if err != nil {
							t.Error(err)
							return
						}
						if n := v.Parts[0].Blob.Notes; len(n) != 1 || erasure.ShardSet(n[0].Missing).Len() != 1 {
							t.Errorf("object %d: %+v", i, n)
						}
					})
				}
				writes.Wait()
				synctest.Wait()
				if took := time.Since(began); took > callLife/2 {
					t.Errorf("took %v: some calls have ended meanwhile", took)
				}
				if n := r.lentNow(); n != c.most {
					t.Errorf("%d bytes are held by calls that nobody waits for, want %d", n, c.most)
				}
				time.Sleep(2 * callLife)
				synctest.Wait()
				if r.left != (leftBehind{limit: r.left.limit}) {
					t.Errorf("still counted: %d bytes, %d chunks", r.left.bytes, r.left.chunks)
				}
			})
		})
	}
}

// TestRelayLeavesLittleBehind: likewise where a relay has sent the shard.
func TestRelayLeavesLittleBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := relayRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
		now := time.Now()
		for _, s := range f.stores {
			for _, d := range r.region.Layout().Disks {
				for range windowLeast {
					s.writes.observe(d.ID, now, time.Millisecond)
				}
			}
		}
		slow := disksOf(r.region.Layout(), zoneB)[0]
		r.demote(slow.ID, time.Hour)
		data := pattern(chunk, 8)
		for i := range 20 {
			r.mustPut(fmt.Sprint("k", i), data)
		}
		synctest.Wait()
		for n, s := range f.stores {
			s.left.mu.Lock()
			if s.left.chunks > 1 {
				t.Errorf("%s: calls of %d chunks go on, %d bytes", n, s.left.chunks, s.left.bytes)
			}
			s.left.mu.Unlock()
		}
		time.Sleep(2 * callLife)
		synctest.Wait()
		for n, s := range f.stores {
			if s.left != (leftBehind{limit: s.left.limit}) {
				t.Errorf("%s: still counted: %d bytes, %d chunks", n, s.left.bytes, s.left.chunks)
			}
		}
	})
}
