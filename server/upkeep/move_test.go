package upkeep

import (
	"bytes"
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/placement"
	"bivalve/erasure"
)

// moveRegion is a region in which a new disk takes the slots of another one; a
// mover runs on the node of both.
type moveRegion struct {
	*mendRegion
	old, new lossy
	had      map[cluster.ShardKey]cluster.Shard

	mu      sync.Mutex
	now     *cluster.Layout // as the mover sees it
	epoch   cluster.Epoch   // that the old disk has come to
	moved   map[cluster.Slot]bool
	appends int
	behind  cluster.DiskID // a disk that is an epoch behind
	deadFor time.Duration  // for which a call to the old disk waits in vain
}

func (d lossy) Delete(_ context.Context, keys []cluster.ShardKey) error {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	for _, k := range keys {
		delete(d.stored, k)
	}
	return nil
}

func (r *moveRegion) layoutNow() *cluster.Layout {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// agree makes what was reported as moved so, or forsakes the old disk.
func (r *moveRegion) agree(forsake bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Moved(func(s cluster.Slot) bool { return r.moved[s] })
	if forsake {
		r.now = r.now.Forsake(func(d cluster.Disk) bool { return d.ID == r.old.ID() })
	}
}

func (r *moveRegion) count() (moved, moving, old, new int) {
	r.mendRegion.mu.Lock()
	old, new = len(r.old.stored), len(r.new.stored)
	r.mendRegion.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.moved), len(r.now.Moving), old, new
}

func (r *moveRegion) AppendShards(ctx context.Context, _ cluster.NodeID, e cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error {
	r.mu.Lock()
	r.appends++
	now := r.now
	r.mu.Unlock()
	if e != now.Epoch || !now.Owns(disks[0], shards[0].Key.PG, shards[0].Key.Index) {
		return []error{cluster.ErrWrongEpoch}
	}
	return []error{lossy{r.disks[disks[0]], nil}.Append(ctx, shards)}
}

func moving(t *testing.T, name string, prepare func(r *moveRegion), body func(t *testing.T, r *moveRegion)) {
	movingAs(t, name, cluster.Profile{K: 2, M: 1}, prepare, body)
}

func movingAs(t *testing.T, name string, p cluster.Profile, prepare func(r *moveRegion), body func(t *testing.T, r *moveRegion)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := &moveRegion{mendRegion: newMendRegion(t, p), moved: map[cluster.Slot]bool{}}
			for pg := range r.layout.Groups {
				for n := range 3 {
					r.writeBlob(t, cluster.PG(pg), cluster.BlobID{byte(n)}, 1000+n)
				}
			}
			by := cluster.Disk{ID: cluster.DiskID{'a', 9}, Node: "a0", Weight: 1}
			next, err := placement.Swap(r.layout, r.home[0], by, func(cluster.DiskID) bool { return false })
			if err != nil {
				t.Fatal(err)
			}
			r.disks[by.ID] = &mendDisk{id: by.ID, r: r.mendRegion, stored: map[cluster.ShardKey]cluster.Shard{}, news: make(chan struct{})}
			r.old, r.new = lossy{r.disks[r.home[0]], nil}, lossy{r.disks[by.ID], nil}
			r.had = maps.Clone(r.old.stored)
			r.layout, r.now, r.epoch = next, next, next.Epoch
			if prepare != nil {
				prepare(r)
			}
			m, err := NewMover(MoverConfig{Disks: func() []MoveDisk { return []MoveDisk{r.old, r.new} }, Node: "a0", Layout: r.layoutNow,
				Settled: func(_ context.Context, d cluster.Disk) (cluster.Epoch, error) {
					r.mendRegion.mu.Lock()
					dead := r.dead[d.ID]
					r.mendRegion.mu.Unlock()
					r.mu.Lock()
					defer r.mu.Unlock()
					if d.ID == r.behind {
						return r.now.Epoch - 1, nil
					}
					if d.ID != r.old.ID() {
						return r.now.Epoch, nil
					}
					if dead {
						r.mu.Unlock()
						time.Sleep(r.deadFor)
						r.mu.Lock()
						return 0, cluster.ErrUnreachable
					}
					return r.epoch, nil
				},
				Moved: func(e cluster.Epoch, s cluster.Slot) {
					r.mu.Lock()
					defer r.mu.Unlock()
					if e != r.now.Epoch {
						t.Errorf("%s was reported for epoch %d", s, e)
					}
					r.moved[s] = true
				},
				Lists: r, Append: r, Mender: r.mender, Counts: &r.counts, Partitions: 4, Logger: quiet, Registry: r.metric, Now: time.Now,
			})
			if err != nil {
				t.Fatal(err)
			}
			run(t, m.Run)
			body(t, r)
		})
	})
}

// hasAll fails unless the new disk has exactly what the old one had.
func (r *moveRegion) hasAll(t *testing.T) {
	t.Helper()
	r.mendRegion.mu.Lock()
	defer r.mendRegion.mu.Unlock()
	if len(r.new.stored) != len(r.had) {
		t.Errorf("%d shards, want %d", len(r.new.stored), len(r.had))
	}
	for k, s := range r.had {
		got := r.new.stored[k]
		if _, ok := erasure.Verify(got.Payload, got.Sums); !ok || !bytes.Equal(got.Payload, s.Payload) {
			t.Errorf("%s is not what it was", k)
		}
	}
}

func TestMove(t *testing.T) {
	moving(t, "copied, agreed, let go", nil, func(t *testing.T, r *moveRegion) {
		pass(5 * time.Second)
		moved, movingNow, old, _ := r.count()
		if moved != movingNow || moved == 0 || old != len(r.had) {
			t.Fatalf("%d of %d moved; the old disk has %d of %d shards before anything is agreed", moved, movingNow, old, len(r.had))
		}
		r.hasAll(t)
		if n := r.counter(t, "bivalve_moved_shards_total", "rebuilt"); n != 0 {
			t.Errorf("%v were rebuilt though there was a copy", n)
		}
		r.agree(false)
		pass(5 * time.Second)
		if _, _, old, _ := r.count(); old != 0 {
			t.Errorf("the old disk keeps %d shards", old)
		}
		r.hasAll(t)
	})
	moving(t, "an append of the epoch before is waited for", func(r *moveRegion) { r.epoch-- }, func(t *testing.T, r *moveRegion) {
		pass(5 * time.Second)
		if moved, _, _, _ := r.count(); moved != 0 {
			t.Fatalf("%d slots were reported", moved)
		}
		r.mu.Lock()
		r.epoch++
		r.mu.Unlock()
		pass(time.Minute)
		if moved, movingNow, _, _ := r.count(); moved != movingNow {
			t.Errorf("%d of %d moved", moved, movingNow)
		}
	})
	moving(t, "a source that is away keeps its slots", func(r *moveRegion) { r.dead[r.old.ID()] = true }, func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		if moved, _, _, _ := r.count(); moved != 0 {
			t.Fatalf("%d slots were reported without it", moved)
		}
		r.agree(true) // it is declared lost
		pass(time.Minute)
		if moved, movingNow, _, _ := r.count(); moved != movingNow {
			t.Errorf("%d of %d moved", moved, movingNow)
		}
		r.hasAll(t)
	})
	var bad cluster.ShardKey
	moving(t, "a damaged copy is rebuilt", func(r *moveRegion) {
		for k, s := range r.had {
			bad, s.Payload = k, bytes.Clone(s.Payload)
			s.Payload[3] ^= 1
			r.old.stored[k] = s
			break
		}
	}, func(t *testing.T, r *moveRegion) {
		pass(5 * time.Second)
		r.hasAll(t)
		if n := r.counter(t, "bivalve_moved_shards_total", "rebuilt"); n != 1 {
			t.Errorf("%v were rebuilt", n)
		}
	})
	moving(t, "what cannot be had holds the slot", func(r *moveRegion) {
		n := 0
		for i := range cluster.ShardIndex(6) { // of one chunk, all but one shard
			k := cluster.ShardKey{PG: 0, Index: i}
			if d := r.disks[r.layout.Disk(0, i).ID]; d != r.new.mendDisk && n < 4 {
				n++
				delete(d.stored, k)
			} else if d == r.new.mendDisk {
				bad = k
				s := r.old.stored[k]
				s.Payload = bytes.Clone(s.Payload)
				s.Payload[0] ^= 1
				r.old.stored[k] = s
			}
		}
	}, func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		moved, movingNow, _, _ := r.count()
		if moved != movingNow-1 || r.moved[cluster.Slot{PG: bad.PG, Index: bad.Index}] {
			t.Errorf("%d of %d moved", moved, movingNow)
		}
	})
}

// TestMoveOnward: a slot that went on to a third disk before the second had all of it, and
// whose first one is lost, is not full with what the second has.
func TestMoveOnward(t *testing.T) {
	onward := func(r *moveRegion) {
		second := r.new
		for k, s := range r.had {
			if k.Blob != (cluster.BlobID{1}) {
				second.stored[k] = s
			}
		}
		by := cluster.Disk{ID: cluster.DiskID{'a', 8}, Node: "a0", Weight: 1}
		next, err := placement.Swap(r.layout, second.ID(), by, func(id cluster.DiskID) bool { return id == r.old.ID() })
		if err != nil {
			panic(err)
		}
		r.disks[by.ID] = &mendDisk{id: by.ID, r: r.mendRegion, stored: map[cluster.ShardKey]cluster.Shard{}, news: make(chan struct{})}
		r.new = lossy{r.disks[by.ID], nil}
		r.layout, r.now, r.epoch = next, next, next.Epoch
		r.dead[r.old.ID()] = true
	}
	moving(t, "only one of those who can tell the rest is heard", func(r *moveRegion) {
		onward(r)
		for id := range r.disks {
			r.dead[id] = r.dead[id] || id[0] == 'b' || id == cluster.DiskID{'a', 2}
		}
	}, func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		if moved, _, _, _ := r.count(); moved != 0 {
			t.Errorf("%d slots were reported that lack shards", moved)
		}
		r.mendRegion.mu.Lock()
		clear(r.dead)
		r.dead[r.old.ID()] = true
		r.mendRegion.mu.Unlock()
		pass(2 * time.Minute)
		if moved, movingNow, _, _ := r.count(); moved != movingNow {
			t.Errorf("%d of %d moved", moved, movingNow)
		}
		r.hasAll(t)
	})
	moving(t, "a write of the epoch before is under way to another owner", func(r *moveRegion) {
		onward(r)
		r.behind = cluster.DiskID{'a', 1}
	}, func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		if moved, _, _, _ := r.count(); moved != 0 {
			t.Errorf("%d slots were reported", moved)
		}
	})
}

// TestMoveForsakenMidway: who held the slots is declared lost while the first of them
// waits for it: the others do not wait in turn.
func TestMoveForsakenMidway(t *testing.T) {
	moving(t, "", func(r *moveRegion) { r.dead[r.old.ID()], r.deadFor = true, 5*time.Second }, func(t *testing.T, r *moveRegion) {
		pass(time.Second)
		r.agree(true)
		pass(15 * time.Second)
		if moved, movingNow, _, _ := r.count(); moved != movingNow || moved < 4 {
			t.Errorf("%d of %d moved", moved, movingNow)
		}
	})
}

// TestLetGo: nothing is removed but what a holder of the slot lists.
func TestLetGo(t *testing.T) {
	// agreed is a region in which all was agreed to have moved, though the new disk
	// lacks one shard.
	agreed := func(lack *cluster.ShardKey, others int) func(*moveRegion) {
		return func(r *moveRegion) {
			for k, s := range r.had {
				r.new.stored[k] = s
				*lack = k
			}
			delete(r.new.stored, *lack)
			left := 0
			for i := range cluster.ShardIndex(6) {
				k := *lack
				if k.Index = i; i == lack.Index {
					continue
				}
				if left++; left > others {
					delete(r.disks[r.layout.Disk(k.PG, i).ID].stored, k)
				}
			}
			r.now = r.now.Moved(func(cluster.Slot) bool { return true })
		}
	}
	var lack cluster.ShardKey
	moving(t, "what the owner lacks is given to it first", agreed(&lack, 2), func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		if _, _, old, _ := r.count(); old != 0 || r.appends != 1 {
			t.Errorf("the old disk keeps %d; %d appends", old, r.appends)
		}
		r.hasAll(t)
	})
	moving(t, "what too few know stays", agreed(&lack, 1), func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		r.mendRegion.mu.Lock()
		defer r.mendRegion.mu.Unlock()
		if _, kept := r.old.stored[lack]; !kept || len(r.old.stored) != 1 || r.appends != 0 {
			t.Errorf("the old disk keeps %d shards, that one %v; %d appends", len(r.old.stored), kept, r.appends)
		}
	})
	moving(t, "an owner that cannot be heard", func(r *moveRegion) { agreed(&lack, 2)(r); r.dead[r.new.ID()] = true }, func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		if _, _, old, _ := r.count(); old != len(r.had) {
			t.Errorf("%d of %d shards are left", old, len(r.had))
		}
	})
	moving(t, "an append of the epoch before is under way", func(r *moveRegion) { agreed(&lack, 2)(r); r.epoch-- }, func(t *testing.T, r *moveRegion) {
		pass(time.Minute)
		if _, _, old, _ := r.count(); old != len(r.had) {
			t.Errorf("%d of %d shards are left", old, len(r.had))
		}
	})
	moving(t, "the owner has other bytes", func(r *moveRegion) {
		agreed(&lack, 2)(r)
		s := r.had[lack]
		s.Payload = append(bytes.Clone(s.Payload), 1)
		r.new.stored[lack] = s
	}, func(t *testing.T, r *moveRegion) {
		pass(5 * time.Second)
		r.mendRegion.mu.Lock()
		defer r.mendRegion.mu.Unlock()
		if _, kept := r.old.stored[lack]; !kept {
			t.Errorf("%s was removed though its owner has another", lack)
		}
	})
}
