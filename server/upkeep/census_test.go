package upkeep

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// censusRegion is disks with blobs of one chunk each, and the partition that holds
// them.
type censusRegion struct {
	*mendRegion
	t *testing.T

	mu      sync.Mutex
	rows    map[cluster.BlobID]metadata.BlobRow
	changes uint64
	fudge   int64             // of what a counter says
	asked   func(what string) // before each answer; mu is not held
}

func newCensusRegion(t *testing.T) *censusRegion {
	r := &censusRegion{mendRegion: newMendRegion(t, cluster.Profile{K: 2, M: 1}), t: t,
		rows: map[cluster.BlobID]metadata.BlobRow{}, asked: func(string) {}}
	for n := range 40 {
		r.put(cluster.NewBlobID(1, 1000+int64(n), [8]byte{byte(n)}), 0)
	}
	return r
}

// put writes a blob and its record; noted is what the record says is missing.
func (r *censusRegion) put(id cluster.BlobID, noted uint64) {
	b := metadata.Blob{ID: metadata.BlobID(id), Bytes: 2000, Profile: metadata.Profile{K: 2, M: 1}}
	pg := groupOf(r.layout, &b, metadata.ChunkNote{})
	r.writeBlob(r.t, pg, id, 1000)
	if noted != 0 {
		b.Notes = []metadata.ChunkNote{{Missing: noted, PG: uint16(pg), Zones: []string{"a", "b"}}}
		b.Assess()
	}
	st, _ := metadata.StandingOf([]metadata.Part{{Blob: &b}})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[id] = metadata.BlobRow{Blob: b, Owners: []metadata.OwnerInfo{{Owner: metadata.BlobOwner{Key: "k"}, Bytes: 2000, Standing: &st}}}
}

// shardOf is shard i of the n-th blob.
func (r *censusRegion) shardOf(n int, i cluster.ShardIndex) (cluster.Disk, cluster.ShardKey) {
	id := r.ids()[n]
	row := r.rows[id]
	pg := groupOf(r.layout, &row.Blob, metadata.ChunkNote{})
	return r.layout.Disk(pg, i), cluster.ShardKey{PG: pg, Blob: id, Index: i}
}

// lose removes it from its disk and returns it.
func (r *censusRegion) lose(n int, i cluster.ShardIndex) (cluster.Disk, cluster.Shard) {
	d, k := r.shardOf(n, i)
	r.mendRegion.mu.Lock()
	defer r.mendRegion.mu.Unlock()
	s, ok := r.disks[d.ID].stored[k]
	if !ok {
		r.t.Fatalf("%s is not there", k)
	}
	delete(r.disks[d.ID].stored, k)
	return d, s
}

func (r *censusRegion) ids() []cluster.BlobID {
	var out []cluster.BlobID
	for id := range r.rows {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b cluster.BlobID) int { return bytes.Compare(a[:], b[:]) })
	return out
}

func (r *censusRegion) Blobs(_ context.Context, _ replica.GroupID, after []byte, limit int) (out metadata.BlobRows, err error) {
	r.asked("blobs")
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.ids() {
		if bytes.Compare(id[:], after) <= 0 {
			continue
		}
		if len(out.Rows) == min(limit, 7) {
			out.More = true
			break
		}
		out.Rows = append(out.Rows, r.rows[id])
	}
	return out, nil
}

func (r *censusRegion) BlobStates(_ context.Context, _ replica.GroupID, ids []metadata.BlobID) ([]metadata.BlobState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]metadata.BlobState, len(ids))
	for i, id := range ids {
		if row, known := r.rows[cluster.BlobID(id)]; known && len(row.Owners) > 0 {
			out[i] = metadata.BlobHeld
		} else if known {
			out[i] = metadata.BlobGarbage
		}
	}
	return out, nil
}

func (r *censusRegion) sum() (sum recount) {
	for _, row := range r.rows {
		sum.add(row)
	}
	return sum
}

func (r *censusRegion) GroupStats(context.Context, replica.GroupID) (metadata.Stats, error) {
	r.asked("stats")
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sum().stats
	s.Changes, s.UnderBytes = r.changes, s.UnderBytes+r.fudge
	return s, nil
}

func (r *censusRegion) Slots(context.Context, replica.GroupID) (out []metadata.SlotCount, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, c := range r.sum().slots {
		c.Slot = at
		out = append(out, c)
	}
	return out, nil
}

func (r *censusRegion) MarkShards(ctx context.Context, g replica.GroupID, marks []metadata.ShardMark) ([]metadata.BlobState, error) {
	for _, m := range marks {
		r.marks.held[cluster.BlobID(m.Blob)] = metadata.BlobHeld
	}
	return r.marks.MarkShards(ctx, g, marks)
}

func (r *censusRegion) ListShards(ctx context.Context, to cluster.NodeID, id cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error) {
	r.asked(fmt.Sprintf("list %s %d", id, pg))
	return r.mendRegion.ListShards(ctx, to, id, pg, after, limit)
}

// census takes one of r.
func (r *censusRegion) census(fix bool, change func(*CensusConfig)) CensusReport {
	cfg := CensusConfig{Index: r, Lists: r, Layout: func(context.Context) (*cluster.Layout, error) { return r.layout, nil },
		DiskUp: func(d cluster.Disk) bool { return true }, Partitions: 1, Parallel: 1, Total: func(context.Context) int64 { return 240 }, Logger: quiet, Now: time.Now}
	if change != nil {
		change(&cfg)
	}
	c := NewCensus(cfg)
	run(r.t, c.Run)
	if _, err := c.Start(fix); err != nil {
		r.t.Fatal(err)
	}
	for {
		synctest.Wait()
		if got, _ := c.Report(); !got.Finished.IsZero() {
			return got
		}
		pass(time.Second)
	}
}

func TestCensus(t *testing.T) {
	whole := func(t *testing.T, r *censusRegion, got CensusReport) {
		t.Helper()
		if got.Error != "" || got.Missing+got.There+got.NotSeen != 0 || !got.Agrees() {
			t.Errorf("%+v", got)
		}
	}
	one := func(name string, body func(t *testing.T, r *censusRegion)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { body(t, newCensusRegion(t)) }) })
	}
	one("every shard is seen, in windows of any size", func(t *testing.T, r *censusRegion) {
		for _, window := range []int{1, 3, 13, 1 << 16} {
			got := r.census(false, func(c *CensusConfig) { c.Window, c.Parallel = window, 8 })
			if whole(t, r, got); got.Shards != 240 || got.Found != 240 || got.Blobs != 40 || got.Objects != 40 || got.Orphans+got.Young+got.Misplaced != 0 {
				t.Errorf("window %d: %+v", window, got)
			}
		}
	})
	one("a lost shard is found and marked", func(t *testing.T, r *censusRegion) {
		_, s := r.lose(3, 2)
		got := r.census(true, nil)
		if got.Missing != 1 || got.Fixed != 1 || got.Found != 239 || len(got.Examples) != 1 || got.Examples[0].Shard != s.Key.String() || got.Agrees() {
			t.Errorf("%+v", got)
		}
		k := s.Key
		k.Index = 0
		if r.marks.bits[k] != 1<<2 {
			t.Errorf("marked %b", r.marks.bits[k])
		}
	})
	one("what is deleted meanwhile is not missing", func(t *testing.T, r *censusRegion) {
		_, k := r.shardOf(5, 0)
		gone := false
		r.asked = func(what string) {
			if what != "blobs" && what != "stats" && !gone { // the lists are asked for: the records are read
				gone = true
				for i := range cluster.ShardIndex(6) {
					r.lose(5, i)
				}
				r.mu.Lock()
				delete(r.rows, k.Blob)
				r.mu.Unlock()
			}
		}
		if whole(t, r, r.census(false, nil)); !gone {
			t.Error("nothing was deleted: the test shows nothing")
		}
	})
	one("what moves is not missing", func(t *testing.T, r *censusRegion) {
		d, s := r.lose(5, 0)
		seen := 0
		r.asked = func(what string) {
			if what == fmt.Sprintf("list %s %d", d.ID, s.Key.PG) {
				if seen++; seen == 2 { // it has come to where it belongs
					r.mendRegion.mu.Lock()
					r.disks[d.ID].stored[s.Key] = s
					r.mendRegion.mu.Unlock()
				}
			}
		}
		if whole(t, r, r.census(false, nil)); seen != 2 {
			t.Errorf("the list was asked for %d times", seen)
		}
	})
	one("what is marked meanwhile is not missing", func(t *testing.T, r *censusRegion) {
		r.lose(5, 0)
		id, blobs := r.ids()[5], 0
		r.asked = func(what string) {
			if what == "blobs" {
				blobs++
			} else if blobs == 12 { // all pages were read twice
				blobs = -1 << 30
				r.put(id, 1)
				r.lose(5, 0)
			}
		}
		if whole(t, r, r.census(false, nil)); blobs >= 0 {
			t.Error("nothing was marked: the test shows nothing")
		}
	})
	one("a disk that is not heard loses nothing", func(t *testing.T, r *censusRegion) {
		r.dead[cluster.DiskID{'b', 1}] = true
		if got := r.census(true, nil); got.Missing != 0 || got.Fixed != 0 || got.NotSeen == 0 || got.NotSeen+got.Found != 240 || len(got.Unheard) != 1 || got.Agrees() {
			t.Errorf("%+v", got)
		}
	})
	one("notes that are true and notes that are not", func(t *testing.T, r *censusRegion) {
		r.put(r.ids()[1], 1<<4)
		if got := r.census(false, nil); got.There != 1 || got.Agrees() {
			t.Errorf("%+v", got)
		}
		r.lose(1, 4)
		if got := r.census(false, nil); got.Noted != 1 || got.Missing != 0 || !got.Agrees() {
			t.Errorf("%+v", got)
		}
	})
	one("wrong counters, and ones that never rest", func(t *testing.T, r *censusRegion) {
		r.fudge = 3
		if got := r.census(false, nil); len(got.Differ) != 1 || got.Differ[0].Counter != 3 || got.Differ[0].Counted != 0 || got.Agrees() {
			t.Errorf("%+v", got)
		}
		r.fudge = 0
		r.asked = func(what string) {
			if what == "stats" {
				r.changes++
			}
		}
		if got := r.census(false, nil); len(got.Busy) != 1 || len(got.Differ) != 0 || got.Agrees() {
			t.Errorf("%+v", got)
		}
	})
	one("shards of no record, and in the wrong place", func(t *testing.T, r *censusRegion) {
		r.writeBlob(t, 3, cluster.NewBlobID(1, 1, [8]byte{1}), 100)
		r.writeBlob(t, 3, cluster.NewBlobID(1, time.Now().UnixMilli(), [8]byte{1}), 100)
		_, k := r.shardOf(7, 0)
		r.writeBlob(t, (k.PG+1)%8, k.Blob, 1000)
		got := r.census(false, nil)
		if whole(t, r, got); got.Orphans != 6 || got.Young != 6 || got.Misplaced != 6 {
			t.Errorf("%+v", got)
		}
	})
	one("a layout that changes under it", func(t *testing.T, r *censusRegion) {
		r.lose(5, 0) // so that it is looked at again
		calls := 0
		got := r.census(true, func(c *CensusConfig) {
			c.Layout = func(context.Context) (*cluster.Layout, error) {
				l := *r.layout
				calls++
				l.Epoch += cluster.Epoch(calls)
				return &l, nil
			}
		})
		if got.Error == "" || got.Missing != 0 || got.Fixed != 0 {
			t.Errorf("%+v", got)
		}
	})
}
