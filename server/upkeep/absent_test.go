package upkeep

import (
	"context"
	"math/bits"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
)

// absenceRegion is a region whose disks may be away, and the watch of its root leader.
type absenceRegion struct {
	*mendRegion

	mu       sync.Mutex
	away     map[cluster.DiskID]bool
	zoneDown map[cluster.Zone]bool
	leads    bool
	chunks   int
}

func (r *absenceRegion) with(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// marked counts shards that the partitions were told are missing, by index of their disk
// in zone a; all others together are the last.
func (r *absenceRegion) marked() (n [4]int) {
	r.marks.mu.Lock()
	defer r.marks.mu.Unlock()
	for k, set := range r.marks.bits {
		for ; set != 0; set &= set - 1 {
			d := r.layout.Disk(k.PG, cluster.ShardIndex(bits.TrailingZeros64(set))).ID
			if d[0] == 'a' {
				n[d[1]]++
			} else {
				n[3]++
			}
		}
	}
	return n
}

func watchAlone(t *testing.T, name string, body func(t *testing.T, r *absenceRegion)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := &absenceRegion{mendRegion: newMendRegion(t, cluster.Profile{K: 2, M: 1}), away: map[cluster.DiskID]bool{}, zoneDown: map[cluster.Zone]bool{}, leads: true}
			for pg := range r.layout.Groups {
				id := cluster.NewBlobID(1, 1, [8]byte{byte(pg)})
				r.writeBlob(t, cluster.PG(pg), id, 100)
				r.marks.held[id] = metadata.BlobHeld
				r.chunks++
			}
			w := NewAbsenceWatch(AbsenceConfig{Marks: r.marks, Lists: r, Layout: func() *cluster.Layout { r.mu.Lock(); defer r.mu.Unlock(); return r.layout },
				DiskUp:   func(d cluster.Disk) bool { r.mu.Lock(); defer r.mu.Unlock(); return !r.away[d.ID] },
				ZoneDown: func(z cluster.Zone) bool { r.mu.Lock(); defer r.mu.Unlock(); return r.zoneDown[z] },
				Leader:   func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.leads }, Partitions: 1, Logger: quiet, Now: time.Now})
			run(t, func(ctx context.Context) error { return w.Run(ctx) })
			body(t, r)
		})
	})
}

func TestAbsenceWatch(t *testing.T) {
	lost := cluster.DiskID{'a', 1}
	setAway := func(r *absenceRegion, away bool) { r.with(func() { r.away[lost] = away }) }
	watchAlone(t, "a restart marks nothing, what stays away everything", func(t *testing.T, r *absenceRegion) {
		for range 3 {
			setAway(r, true)
			pass(14 * time.Minute)
			setAway(r, false)
			pass(time.Minute)
		}
		if n := r.marked(); n != [4]int{} {
			t.Fatalf("restarts marked %v", n)
		}
		setAway(r, true)
		pass(16 * time.Minute)
		if n := r.marked(); n != [4]int{1: r.chunks} {
			t.Errorf("marked %v of %d chunks", n, r.chunks)
		}
	})
	watchAlone(t, "a zone that is down is no absence, a disk that stays when it is back is", func(t *testing.T, r *absenceRegion) {
		setAway(r, true)
		r.with(func() { r.zoneDown["a"] = true })
		pass(time.Hour)
		if n := r.marked(); n != [4]int{} {
			t.Fatalf("marked %v", n)
		}
		r.with(func() { clear(r.zoneDown) })
		pass(10 * time.Minute)
		if n := r.marked(); n != [4]int{} {
			t.Fatalf("the delay is not counted from when the zone was back: %v", n)
		}
		pass(6 * time.Minute)
		if n := r.marked(); n[1] != r.chunks {
			t.Errorf("marked %v", n)
		}
	})
	watchAlone(t, "only the leader of the root group marks, after a delay of its own", func(t *testing.T, r *absenceRegion) {
		r.with(func() { r.leads = false })
		setAway(r, true)
		pass(time.Hour)
		r.with(func() { r.leads = true })
		pass(10 * time.Minute)
		r.with(func() { r.leads = false })
		pass(time.Minute)
		r.with(func() { r.leads = true })
		pass(10 * time.Minute)
		if n := r.marked(); n != [4]int{} {
			t.Fatalf("marked %v", n)
		}
		pass(6 * time.Minute)
		if n := r.marked(); n[1] != r.chunks {
			t.Errorf("marked %v", n)
		}
	})
	watchAlone(t, "partitions that refuse are asked again", func(t *testing.T, r *absenceRegion) {
		r.marks.refused = metadata.ErrUnavailable
		setAway(r, true)
		pass(20 * time.Minute)
		if n := r.marked(); n != [4]int{} {
			t.Fatalf("marked %v", n)
		}
		r.marks.mu.Lock()
		r.marks.refused = nil
		r.marks.mu.Unlock()
		pass(2 * time.Minute)
		if n := r.marked(); n[1] != r.chunks {
			t.Errorf("marked %v", n)
		}
	})
	watchAlone(t, "a place that still moves is where it was", func(t *testing.T, r *absenceRegion) {
		moving := 0
		for pg := range r.layout.Groups {
			for i := range r.layout.Groups[pg] {
				if r.layout.Disk(cluster.PG(pg), cluster.ShardIndex(i)).ID == lost && moving < 3 {
					r.layout.Moving = append(r.layout.Moving, cluster.Moving{Slot: cluster.Slot{PG: cluster.PG(pg), Index: cluster.ShardIndex(i)}, From: []uint16{0}})
					moving++
				}
			}
		}
		r.layout.Former = []cluster.Disk{r.layout.Disks[0]}
		setAway(r, true)
		pass(16 * time.Minute)
		if n := r.marked(); n[1] != r.chunks-moving || moving != 3 {
			t.Errorf("marked %v of %d, %d of them moving", n, r.chunks, moving)
		}
	})
	watchAlone(t, "what one has who held a place before is there, what one had who is lost is not", func(t *testing.T, r *absenceRegion) {
		left, gone := cluster.Disk{ID: cluster.DiskID{'a', 6}}, cluster.Disk{ID: cluster.DiskID{'a', 7}}
		has := &mendDisk{id: left.ID, r: r.mendRegion, stored: map[cluster.ShardKey]cluster.Shard{}, news: make(chan struct{})}
		r.disks[left.ID] = has
		l := *r.layout
		for k, s := range r.disks[lost].stored {
			l.Moving = append(l.Moving, cluster.Moving{Slot: cluster.Slot{PG: k.PG, Index: k.Index}, From: []uint16{0, 1}})
			if len(has.stored) == 0 {
				has.stored[k] = s
			}
		}
		slices.SortFunc(l.Moving, func(a, b cluster.Moving) int { return a.Slot.Compare(b.Slot) })
		l.Former = []cluster.Disk{gone, left}
		r.with(func() { r.layout = l.Forsake(func(d cluster.Disk) bool { return d.ID == gone.ID }) })
		setAway(r, true)
		pass(16 * time.Minute)
		if n := r.marked(); n != [4]int{1: r.chunks - 1} {
			t.Errorf("marked %v of %d", n, r.chunks)
		}
	})
}
