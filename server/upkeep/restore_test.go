package upkeep

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// lossy is the home disk after a loss.
type lossy struct {
	*mendDisk
	loss *atomic.Pointer[disk.Loss]
}

func (d lossy) Loss() *disk.Loss { return d.loss.Load() }

func (d lossy) Restored(l *disk.Loss) error {
	d.loss.CompareAndSwap(l, nil)
	return nil
}

func (d lossy) Stat(k cluster.ShardKey) (cluster.ShardInfo, error) {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	s, ok := d.stored[k]
	if !ok {
		return cluster.ShardInfo{}, cluster.ErrNotFound
	}
	return cluster.ShardInfo{Key: k, Profile: s.Profile, Bytes: len(s.Payload)}, nil
}

func (d lossy) Append(_ context.Context, shards []cluster.Shard) error {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	for _, s := range shards {
		if old, ok := d.stored[s.Key]; ok && !bytes.Equal(old.Payload, s.Payload) {
			return cluster.ErrInvalid
		}
		s.Payload = slices.Clone(s.Payload)
		d.stored[s.Key] = s
	}
	return nil
}

// marked is partitions that hold the blobs of held, and know which shards are missing.
type marked struct {
	mu      sync.Mutex
	held    map[cluster.BlobID]metadata.BlobState
	bits    map[cluster.ShardKey]uint64 // by the key of shard 0
	told    int                         // marks
	most    int                         // that one command does; 0: all
	refused error
}

func (m *marked) MarkShards(_ context.Context, g replica.GroupID, marks []metadata.ShardMark) ([]metadata.BlobState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused != nil {
		return nil, m.refused
	}
	if m.most > 0 {
		marks = marks[:min(len(marks), m.most)]
	}
	m.told += len(marks)
	out := make([]metadata.BlobState, len(marks))
	for i, k := range marks {
		b := cluster.BlobID(k.Blob)
		if out[i] = m.held[b]; int(g) != int(b.Partition()) {
			return nil, fmt.Errorf("blob %s in partition %d", b, g)
		}
		if out[i] == metadata.BlobHeld {
			m.bits[cluster.ShardKey{PG: cluster.PG(k.PG), Blob: b, Chunk: k.Chunk}] |= k.Set
		}
	}
	return out, nil
}

func (m *marked) MarkNews(_ context.Context, _ replica.GroupID, marks []metadata.ShardMark) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]bool, len(marks))
	for i, k := range marks {
		b := cluster.BlobID(k.Blob)
		out[i] = m.held[b] == metadata.BlobHeld && k.Set&^m.bits[cluster.ShardKey{PG: cluster.PG(k.PG), Blob: b, Chunk: k.Chunk}] != 0
	}
	return out, m.refused
}

func (r *mendRegion) ListShards(_ context.Context, to cluster.NodeID, id cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listed[id]++
	if r.dead[id] {
		return cluster.ShardPage{}, fmt.Errorf("%w: %s", cluster.ErrUnreachable, to)
	}
	var out []cluster.ShardInfo
	for k, s := range r.disks[id].stored {
		if k.PG == pg && (after == nil || compareChunks(k, *after) > 0) {
			out = append(out, cluster.ShardInfo{Key: k, Profile: s.Profile, Generation: s.Generation, Bytes: len(s.Payload)})
		}
	}
	slices.SortFunc(out, func(a, b cluster.ShardInfo) int { return compareChunks(a.Key, b.Key) })
	return cluster.ShardPage{Rows: out[:min(len(out), limit)], Whole: !r.lost[id]}, nil
}

// restoring is a region of which every group holds chunks, and a home disk that
// has lost all but a few of its shards.
func restoring(t *testing.T, p cluster.Profile) (*mendRegion, lossy, map[cluster.ShardKey]cluster.Shard, *Restorer) {
	t.Helper()
	r := newMendRegion(t, p)
	for pg := range r.layout.Groups {
		for n := range 3 {
			r.writeBlob(t, cluster.PG(pg), cluster.BlobID{byte(n)}, 1000+n)
		}
	}
	home := r.disks[r.home[0]]
	had := maps.Clone(home.stored)
	for k := range home.stored {
		if k.PG != 0 {
			delete(home.stored, k)
		}
	}
	if len(had) < 6 || len(home.stored) == len(had) {
		t.Fatalf("%d shards, %d left: the test shows nothing", len(had), len(home.stored))
	}
	d := lossy{home, &atomic.Pointer[disk.Loss]{}}
	d.loss.Store(&disk.Loss{Reason: "lost", Since: time.Now()})
	re, err := NewRestorer(RestorerConfig{Disks: func() []RestoreDisk { return []RestoreDisk{d} }, Lists: r, Mender: r.mender,
		Marks: r.marks, Counts: &r.counts, Partitions: 4, Logger: quiet, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return r, d, had, re
}

// writeBlob is write for a blob of a name.
func (r *mendRegion) writeBlob(t *testing.T, pg cluster.PG, blob cluster.BlobID, size int) {
	t.Helper()
	geo := erasure.Geometry{K: int(r.layout.Profile.K), M: int(r.layout.Profile.M)}
	codec, err := erasure.NewCodec(geo)
	if err != nil {
		t.Fatal(err)
	}
	shards := make([][]byte, geo.Shards())
	for i := range shards {
		shards[i] = bytes.Repeat([]byte{byte(i), byte(pg), blob[0]}, size)[:size]
	}
	if err := codec.Encode(shards); err != nil {
		t.Fatal(err)
	}
	for i, payload := range shards {
		s := cluster.Shard{Key: cluster.ShardKey{PG: pg, Blob: blob, Index: cluster.ShardIndex(i)},
			Profile: r.layout.Profile, Sums: erasure.Sums(nil, payload), Payload: payload}
		r.disks[r.layout.Disk(pg, s.Key.Index).ID].stored[s.Key] = s
	}
}

func TestRestore(t *testing.T) {
	for _, p := range []cluster.Profile{{K: 1}, {K: 2}, {K: 2, M: 1}} {
		synctest.Test(t, func(t *testing.T) {
			r, d, had, re := restoring(t, p)
			// A shard of which only one other is left is a rest of what was deleted.
			rest := cluster.ShardKey{PG: 1, Blob: cluster.BlobID{77}}
			if p.K > 1 {
				for i := range 2 * p.PerZone() {
					if rest.Index = cluster.ShardIndex(i); r.layout.Disk(1, rest.Index).ID != r.home[0] {
						break
					}
				}
				r.disks[r.layout.Disk(1, rest.Index).ID].stored[rest] = cluster.Shard{Key: rest, Profile: p, Payload: []byte{1}}
			}
			// With one owner away, what the others know is restored, and the loss stays.
			away := cluster.DiskID{'b', 0}
			if p.M > 0 {
				away = cluster.DiskID{'a', 1} // else the zone needs no word of the other
			}
			r.dead[away] = true
			run(t, re.Run)
			pass(3 * time.Second)
			if d.Loss() == nil {
				t.Fatal("done without having heard every owner")
			}
			if p, ok := re.Progress(d.ID()); !ok || p.Waiting == "" || p.Groups == 0 || p.Done == p.Groups {
				t.Fatalf("%v %+v", ok, p)
			}
			r.mu.Lock()
			clear(r.dead)
			r.mu.Unlock()
			pass(time.Minute)
			if d.Loss() != nil {
				p, _ := re.Progress(d.ID())
				t.Fatalf("not done: %+v", p)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(d.stored) != len(had) {
				t.Errorf("%d shards, had %d", len(d.stored), len(had))
			}
			for k, s := range had {
				if got := d.stored[k]; !bytes.Equal(got.Payload, s.Payload) || !slices.Equal(got.Sums, s.Sums) || got.Profile != p {
					t.Errorf("%s: %d bytes", k, len(got.Payload))
				}
			}
		})
	}
}

// A damaged source is not trusted: another takes its place, or the shard waits.
func TestRestoreTrustsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d, had, re := restoring(t, cluster.Profile{K: 2})
		var bad cluster.ShardKey
		for k := range had {
			if k.PG != 0 {
				bad = k
				break
			}
		}
		flipped := 0
		for i := range cluster.ShardIndex(4) {
			if k := bad; i != bad.Index && flipped < 2 {
				k.Index = i
				r.flip(k)
				flipped++
			}
		}
		run(t, re.Run)
		pass(time.Minute)
		r.mu.Lock()
		_, there := d.stored[bad]
		n := len(d.stored)
		r.mu.Unlock()
		if d.Loss() == nil || there || n != len(had)-1 {
			t.Fatalf("loss %v, there %v, %d of %d shards", d.Loss(), there, n, len(had))
		}
	})
}

// incomplete is lossy whose lists are whole once its note has gone.
type incomplete struct{ lossy }

func (d incomplete) Restored(l *disk.Loss) error {
	if d.loss.CompareAndSwap(l, nil) {
		d.r.mu.Lock()
		delete(d.r.lost, d.ID())
		d.r.mu.Unlock()
	}
	return nil
}

// TestRestoreDrained: a disk that has a loss when its slots move away keeps the note of
// it until none does any more, so that nobody believes its lists.
func TestRestoreDrained(t *testing.T) {
	for _, p := range []cluster.Profile{{K: 1}, {K: 2}, {K: 2, M: 1}} {
		for name, partly := range map[string]bool{"swapped out": false, "partly drained": true} {
			var d incomplete
			var mine map[cluster.ShardKey]cluster.Shard // of the slots that it keeps
			movingAs(t, fmt.Sprintf("%s %v", name, p), p, func(r *moveRegion) {
				mine = map[cluster.ShardKey]cluster.Shard{}
				if partly {
					keepHalf(r, mine)
				}
				r.lost[r.old.ID()] = true
				clear(r.old.stored)
				// The other zone is away for now, and with m = 1 a disk of the own one.
				for id := range r.disks {
					if id[0] == 'b' || p.M > 0 && id == (cluster.DiskID{'a', 1}) {
						r.dead[id] = true
					}
				}
				for n := range 3 {
					r.marks.held[cluster.BlobID{byte(n)}] = metadata.BlobHeld
				}
				d = incomplete{lossy{r.old.mendDisk, &atomic.Pointer[disk.Loss]{}}}
				d.loss.Store(&disk.Loss{Reason: "lost", Since: time.Now()})
			}, func(t *testing.T, r *moveRegion) {
				r.mender.cfg.Layout = r.layoutNow
				re, err := NewRestorer(RestorerConfig{Disks: func() []RestoreDisk { return []RestoreDisk{d} }, Lists: r, Mender: r.mender,
					Marks: r.marks, Counts: &r.counts, Partitions: 4, Logger: quiet, Now: time.Now})
				if err != nil {
					t.Fatal(err)
				}
				re.cfg.Partitions = 1 << 10 // the blobs' ids name some of those
				run(t, re.Run)
				pass(2 * time.Minute)
				if moved, of, _, _ := r.count(); d.Loss() == nil || moved != 0 {
					t.Fatalf("loss %v; %d of %d slots are reported as moved", d.Loss(), moved, of)
				}
				r.marks.mu.Lock()
				marked, want := len(r.marks.bits), 0
				r.marks.mu.Unlock()
				for _, had := range []map[cluster.ShardKey]cluster.Shard{r.had, mine} {
					for k := range had {
						if k.Blob.Partition() > 0 { // else nobody knows the blob
							want++
						}
					}
				}
				if p.K > 1 && (marked != want || want == 0) {
					t.Errorf("%d shards are counted as missing, want %d", marked, want)
				}
				r.mendRegion.mu.Lock()
				clear(r.dead)
				r.mendRegion.mu.Unlock()
				pass(2 * time.Minute)
				moved, of, _, _ := r.count()
				if moved != of || d.Loss() == nil {
					t.Errorf("%d of %d slots moved; loss %v before that is agreed", moved, of, d.Loss())
				}
				r.hasAll(t)
				told := func() int {
					r.marks.mu.Lock()
					defer r.marks.mu.Unlock()
					return r.marks.told
				}
				before := told()
				pass(5 * time.Minute)
				if n := told() - before; n != 0 {
					t.Errorf("%d shards were marked again that their owners have", n)
				}
				r.agree(false)
				pass(time.Minute)
				if d.Loss() != nil || len(r.old.stored) != len(mine) {
					t.Errorf("loss %v; %d of %d shards", d.Loss(), len(r.old.stored), len(mine))
				}
			})
		}
	}
}

// keepHalf leaves the old disk every other of its slots, and gives their shards to mine.
func keepHalf(r *moveRegion, mine map[cluster.ShardKey]cluster.Shard) {
	next := *r.now
	next.Groups = slices.Clone(next.Groups)
	next.Disks = append(slices.Clone(next.Disks), cluster.Disk{ID: r.old.ID(), Node: "a0", Weight: 1})
	n := 0
	next.Moving = slices.DeleteFunc(slices.Clone(next.Moving), func(mv cluster.Moving) bool {
		if n++; n%2 == 0 {
			return false
		}
		next.Groups[mv.Slot.PG] = slices.Clone(next.Groups[mv.Slot.PG])
		next.Groups[mv.Slot.PG][mv.Slot.Index] = uint16(len(next.Disks) - 1)
		for k, s := range r.had {
			if k.PG == mv.Slot.PG && k.Index == mv.Slot.Index {
				mine[k] = s
				delete(r.had, k)
			}
		}
		return true
	})
	r.layout, r.now = &next, &next
}

// TestRestoreMarksOnlyWhatIsLacking: what the new owner of a slot has is not missing
// because who held it before has lost it.
func TestRestoreMarksOnlyWhatIsLacking(t *testing.T) {
	moving(t, "the new owner has all", func(r *moveRegion) {
		maps.Copy(r.new.stored, r.had)
		clear(r.old.stored)
		r.lost[r.old.ID()] = true
	}, func(t *testing.T, r *moveRegion) {
		d := incomplete{lossy{r.old.mendDisk, &atomic.Pointer[disk.Loss]{}}}
		d.loss.Store(&disk.Loss{Reason: "lost", Since: time.Now()})
		r.mender.cfg.Layout = r.layoutNow
		re, err := NewRestorer(RestorerConfig{Disks: func() []RestoreDisk { return []RestoreDisk{d} }, Lists: r, Mender: r.mender,
			Marks: r.marks, Counts: &r.counts, Partitions: 1 << 10, Logger: quiet, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		run(t, re.Run)
		pass(time.Minute)
		r.marks.mu.Lock()
		defer r.marks.mu.Unlock()
		if r.marks.told != 0 {
			t.Errorf("%d shards were marked", r.marks.told)
		}
	})
}
