package upkeep

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// fakeCounts are of partitions that know these places to lack a shard.
type fakeCounts struct {
	mu      sync.Mutex
	missing map[cluster.Slot]bool
	queued  int64
	down    bool
}

func (c *fakeCounts) set(change func(*fakeCounts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *fakeCounts) Slots(_ context.Context, g replica.GroupID) (out []metadata.SlotCount, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, metadata.ErrUnavailable
	}
	for s := range c.missing {
		if int(s.PG)%4+1 == int(g) {
			out = append(out, metadata.SlotCount{Slot: metadata.Slot{PG: uint16(s.PG), Index: uint8(s.Index)}, Missing: 1})
		}
	}
	return out, nil
}

func (c *fakeCounts) GroupStats(context.Context, replica.GroupID) (metadata.Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return metadata.Stats{Queued: c.queued}, nil
}

// far tells how often disks of the other zone were asked for a list.
func (r *mendRegion) far() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, times := range r.listed {
		if id[0] != 'a' {
			n += times
		}
	}
	return n
}

// homeIn is the slot of the home disk in a group, and which others its zone has.
func (r *mendRegion) homeIn(pg cluster.PG) (home cluster.Slot, own []cluster.Slot) {
	for i := range r.layout.Groups[pg] {
		s := cluster.Slot{PG: pg, Index: cluster.ShardIndex(i)}
		switch {
		case r.layout.Owns(r.home[0], pg, s.Index):
			home = s
		case r.layout.ZoneOf(pg, s.Index) == "a":
			own = append(own, s)
		}
	}
	return home, own
}

// forget removes a shard of the first chunk of a group.
func (r *mendRegion) forget(s cluster.Slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.disks[r.layout.Disk(s.PG, s.Index).ID].stored, cluster.ShardKey{PG: s.PG, Index: s.Index})
}

// TestRestoreAsksItsZone: the other zone is asked for its lists where the own one cannot
// tell what the disk should have, and nowhere else; nothing is forgotten.
func TestRestoreAsksItsZone(t *testing.T) {
	const all = 8 * 3 // groups, and disks of the other zone
	for name, c := range map[string]struct {
		prepare func(r *mendRegion, home cluster.Slot, own []cluster.Slot) // of group 1
		far     int                                                        // disks of the other zone that one look asks
		stays   bool                                                       // the loss
	}{
		"all is well": {},
		"counts of other places": {prepare: func(r *mendRegion, home cluster.Slot, own []cluster.Slot) {
			r.counts.missing = map[cluster.Slot]bool{home: true, own[0]: true}
		}},
		"no other place of the zone is without gaps": {far: 3, prepare: func(r *mendRegion, home cluster.Slot, own []cluster.Slot) {
			// The zone was away, and the first that was healed was lost again.
			r.counts.missing = map[cluster.Slot]bool{own[0]: true, own[1]: true}
			r.forget(own[0])
			r.forget(own[1])
		}},
		"another disk of the zone has a loss": {far: all, prepare: func(r *mendRegion, _ cluster.Slot, own []cluster.Slot) {
			r.lost[r.layout.Disk(1, own[0].Index).ID] = true
			r.forget(own[0])
			r.forget(own[1])
		}},
		"too few of the zone have a chunk": {far: 3, prepare: func(r *mendRegion, _ cluster.Slot, own []cluster.Slot) {
			r.forget(own[0])
		}},
		"an owner of the zone is away": {far: all, stays: true, prepare: func(r *mendRegion, _ cluster.Slot, own []cluster.Slot) {
			r.dead[r.layout.Disk(1, own[0].Index).ID] = true
			r.forget(own[1])
		}},
		"an owner of the other zone is away": {prepare: func(r *mendRegion, _ cluster.Slot, own []cluster.Slot) {
			r.dead[cluster.DiskID{'b', 0}] = true
		}},
		"the partitions do not answer": {far: all, prepare: func(r *mendRegion, _ cluster.Slot, own []cluster.Slot) {
			r.counts.down = true
			r.forget(own[0])
			r.forget(own[1])
		}},
		"a partition does not know the places": {far: all, prepare: func(r *mendRegion, _ cluster.Slot, own []cluster.Slot) {
			r.counts.queued = 1
			r.forget(own[0])
			r.forget(own[1])
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, d, had, re := restoring(t, cluster.Profile{K: 2, M: 1})
				home, own := r.homeIn(1)
				if c.prepare != nil {
					c.prepare(r, home, own)
				}
				if err := re.restore(t.Context(), d, d.Loss(), true); (err != nil) != c.stays || (d.Loss() != nil) != c.stays {
					t.Fatalf("%v; loss %v", err, d.Loss())
				}
				// Marks and shards are looked for in two walks; what was marked needs no more.
				if n := r.far(); n > 2*c.far || n < c.far || len(d.stored) != len(had) {
					t.Errorf("%d lists of the other zone were asked for, %d disks may be; %d of %d shards", n, c.far, len(d.stored), len(had))
				}
			})
		})
	}
}

// TestNearby: which places of a zone can tell what another one should have.
func TestNearby(t *testing.T) {
	r := newMendRegion(t, cluster.Profile{K: 2, M: 2})
	l := *r.layout
	slot := func(i cluster.ShardIndex) cluster.Slot { return cluster.Slot{PG: 1, Index: i} }
	for _, c := range []struct {
		name string
		l    func(l *cluster.Layout)
		gaps gaps
		at   cluster.ShardIndex
		want bool
	}{
		{"none", nil, gaps{}, 0, true},
		{"not known", nil, nil, 0, false},
		{"own gap", nil, gaps{slot(0): true}, 0, true},
		{"gaps of the other zone", nil, gaps{slot(4): true, slot(5): true, slot(6): true, slot(7): true}, 0, true},
		{"all but one", nil, gaps{slot(0): true, slot(2): true, slot(3): true}, 0, true},
		{"all", nil, gaps{slot(1): true, slot(2): true, slot(3): true}, 0, false},
		{"only those that class lean leaves empty", nil, gaps{slot(1): true}, 0, false},
		{"for one that it leaves empty too", nil, gaps{slot(0): true, slot(1): true}, 2, true},
		{"moving", func(l *cluster.Layout) {
			l.Moving = []cluster.Moving{{Slot: slot(1)}, {Slot: slot(2)}, {Slot: slot(3)}}
		}, gaps{}, 0, false},
		{"k = 1", func(l *cluster.Layout) { l.Profile = cluster.Profile{K: 1, M: 3} }, gaps{}, 0, false},
		{"m = 0", func(l *cluster.Layout) { l.Profile = cluster.Profile{K: 4} }, gaps{}, 0, false},
	} {
		now := l
		if c.l != nil {
			c.l(&now)
		}
		if got := c.gaps.nearby(&now, slot(c.at)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestRestoreSettles: a loss stays until what was being written when it was found has
// come to the other disks.
func TestRestoreSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d, had, re := restoring(t, cluster.Profile{K: 2, M: 1})
		home, own := r.homeIn(1)
		late := map[cluster.Slot]cluster.Shard{}
		for _, s := range own {
			k := cluster.ShardKey{PG: s.PG, Index: s.Index}
			late[s] = r.disks[r.layout.Disk(s.PG, s.Index).ID].stored[k]
			r.forget(s)
		}
		r.mu.Lock()
		delete(d.stored, cluster.ShardKey{PG: home.PG, Index: home.Index})
		r.mu.Unlock()
		run(t, re.Run)
		pass(12 * time.Second)
		if len(d.stored) != len(had)-1 || d.Loss() == nil {
			t.Fatalf("%d of %d shards, loss %v", len(d.stored), len(had), d.Loss())
		}
		r.mu.Lock()
		for s, shard := range late {
			r.disks[r.layout.Disk(s.PG, s.Index).ID].stored[shard.Key] = shard
		}
		r.mu.Unlock()
		pass(20 * time.Second)
		if len(d.stored) != len(had) || d.Loss() != nil {
			t.Fatalf("%d of %d shards, loss %v", len(d.stored), len(had), d.Loss())
		}
	})
}

// TestRestoreUnderAnotherLayout: lists of those who owned the places then prove nothing.
func TestRestoreUnderAnotherLayout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d, _, re := restoring(t, cluster.Profile{K: 2, M: 1})
		re.cfg.Lists = hookedLists{r, func() {
			next := *r.layout
			next.Epoch++
			r.layout = &next
		}}
		if err := re.restore(t.Context(), d, d.Loss(), true); err == nil || d.Loss() == nil {
			t.Fatalf("%v, loss %v", err, d.Loss())
		}
	})
}

// hookedLists call a function before each page.
type hookedLists struct {
	*mendRegion
	before func()
}

func (h hookedLists) ListShards(ctx context.Context, to cluster.NodeID, id cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error) {
	h.before()
	return h.mendRegion.ListShards(ctx, to, id, pg, after, limit)
}

// TestMoveAsksItsZone: a slot that went with its disk is rebuilt by what its zone lists,
// once no write of the epoch before is under way there.
func TestMoveAsksItsZone(t *testing.T) {
	lost := func(r *moveRegion) {
		r.agree(true)
		clear(r.old.stored)
	}
	moving(t, "nobody is left who held it", lost, func(t *testing.T, r *moveRegion) {
		pass(5 * time.Second)
		if moved, movingNow, _, _ := r.count(); moved != movingNow || r.far() != 0 {
			t.Errorf("%d of %d moved, %d lists of the other zone were asked for", moved, movingNow, r.far())
		}
		r.hasAll(t)
	})
	moving(t, "a write of the epoch before is under way", func(r *moveRegion) {
		lost(r)
		r.behind = cluster.DiskID{'a', 1}
	}, func(t *testing.T, r *moveRegion) {
		pass(5 * time.Second)
		if moved, _, _, _ := r.count(); moved != 0 {
			t.Fatalf("%d slots were reported", moved)
		}
		r.mu.Lock()
		r.behind = cluster.DiskID{}
		r.mu.Unlock()
		pass(time.Minute)
		if moved, movingNow, _, _ := r.count(); moved != movingNow || r.far() != 0 {
			t.Errorf("%d of %d moved, %d lists of the other zone were asked for", moved, movingNow, r.far())
		}
	})
	moving(t, "a write of the epoch before is under way to who held another place of the zone", func(r *moveRegion) {
		lost(r)
		at := cluster.Slot{PG: 1}
		for !r.now.Owns(cluster.DiskID{'a', 1}, at.PG, at.Index) {
			at.Index++
		}
		r.now.Former = append(r.now.Former, cluster.Disk{ID: cluster.DiskID{'a', 7}, Node: "a1"})
		r.disks[cluster.DiskID{'a', 7}] = &mendDisk{id: cluster.DiskID{'a', 7}, r: r.mendRegion, stored: map[cluster.ShardKey]cluster.Shard{}, news: make(chan struct{})}
		r.now.Moving = append(r.now.Moving, cluster.Moving{Slot: at, From: []uint16{uint16(len(r.now.Former) - 1)}})
		slices.SortFunc(r.now.Moving, func(a, b cluster.Moving) int { return a.Slot.Compare(b.Slot) })
		r.behind = cluster.DiskID{'a', 7}
	}, func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		for s := range r.moved {
			if s.PG == 1 {
				t.Errorf("%s was reported", s)
			}
		}
		if len(r.moved) == 0 {
			t.Error("no other slot was: the test shows nothing")
		}
	})
	moving(t, "copied and let go", nil, func(t *testing.T, r *moveRegion) {
		pass(5 * time.Second)
		r.agree(false)
		pass(5 * time.Second)
		if _, _, old, _ := r.count(); old != 0 || r.far() != 0 {
			t.Errorf("the old disk keeps %d; %d lists of the other zone were asked for", old, r.far())
		}
	})
	moving(t, "who held it has a loss, and another owner is away", func(r *moveRegion) {
		r.lost[r.old.ID()] = true
		for k := range r.had {
			delete(r.old.stored, k)
		}
		r.dead[cluster.DiskID{'a', 1}] = true
	}, func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		if moved, _, _, _ := r.count(); moved != 0 {
			t.Fatalf("%d slots were reported without knowing what was lost", moved)
		}
		r.mendRegion.mu.Lock()
		clear(r.dead)
		r.mendRegion.mu.Unlock()
		pass(time.Minute)
		if moved, movingNow, _, _ := r.count(); moved != movingNow {
			t.Errorf("%d of %d moved", moved, movingNow)
		}
		r.hasAll(t)
	})
}

func TestGapsOf(t *testing.T) {
	c := &fakeCounts{missing: map[cluster.Slot]bool{{PG: 3, Index: 2}: true, {PG: 4, Index: 1}: true}}
	g, err := gapsOf(t.Context(), c, 4)
	if err != nil || len(g) != 2 || !g[cluster.Slot{PG: 3, Index: 2}] || !g[cluster.Slot{PG: 4, Index: 1}] {
		t.Errorf("%v %v", g, err)
	}
	c.set(func(c *fakeCounts) { c.down = true })
	if g, err := gapsOf(t.Context(), c, 4); !errors.Is(err, metadata.ErrUnavailable) || g != nil {
		t.Errorf("%v %v", g, err)
	}
}

// TestMoveWaitsForBothZones: where a slot's own zone cannot tell, the lists of the other
// are believed only of disks that take no append of the epoch before.
func TestMoveWaitsForBothZones(t *testing.T) {
	late := map[cluster.DiskID]cluster.Shard{}
	var want cluster.Slot
	for name, forsake := range map[string]bool{"who held it is lost": true, "who held it has a loss": false} {
		moving(t, name, func(r *moveRegion) {
			r.lost[r.old.ID()] = true
			if forsake {
				r.agree(true)
			}
			clear(r.old.stored)
			r.behind = cluster.DiskID{'b', 0}
			// Of the first chunk of group 1 the disk had its shard, and another of the zone;
			// those of the other zone are on their way.
			for i := range r.layout.Groups[1] {
				k := cluster.ShardKey{PG: 1, Index: cluster.ShardIndex(i)}
				switch d := r.layout.Disk(1, k.Index).ID; {
				case d == r.new.ID():
					want = cluster.Slot{PG: 1, Index: k.Index}
				case d == cluster.DiskID{'a', 1}:
					delete(r.disks[d].stored, k)
				case d[0] == 'b':
					late[d] = r.disks[d].stored[k]
					delete(r.disks[d].stored, k)
				}
			}
		}, func(t *testing.T, r *moveRegion) {
			pass(5 * time.Second)
			r.mu.Lock()
			moved := r.moved[want]
			r.behind = cluster.DiskID{}
			r.mu.Unlock()
			r.mendRegion.mu.Lock()
			for d, s := range late {
				r.disks[d].stored[s.Key] = s
			}
			r.mendRegion.mu.Unlock()
			if moved {
				t.Errorf("%s was reported", want)
			}
			pass(2 * time.Minute)
			if moved, movingNow, _, _ := r.count(); moved != movingNow {
				t.Errorf("%d of %d moved", moved, movingNow)
			}
			r.hasAll(t)
		})
	}
}
