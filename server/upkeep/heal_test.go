package upkeep

import (
	"bytes"
	"context"
	"errors"
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

// healRegion is a partition with a queue, nodes that rebuild what they are asked for,
// and one healer.
type healRegion struct {
	layout *cluster.Layout

	mu      sync.Mutex
	blobs   map[metadata.BlobID]*metadata.Blob
	state   map[metadata.BlobID]metadata.BlobState // of those that are not held any more
	refused error                                  // of marks
	most    int                                    // of marks that one command does; 0: all
	hands   func(to cluster.NodeID, c LackingChunk) (uint64, error)
	jobs    []string
	deleted []cluster.ShardKey
	down    map[cluster.NodeID]bool
	leads   bool
	changed chan struct{}
	slow    time.Duration // that a page of the queue takes
	pages   int           // that were read
}

func (r *healRegion) MarkShards(_ context.Context, _ replica.GroupID, marks []metadata.ShardMark) ([]metadata.BlobState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused != nil {
		return nil, r.refused
	}
	if r.most > 0 {
		marks = marks[:min(len(marks), r.most)]
	}
	out := make([]metadata.BlobState, len(marks))
	for i, m := range marks {
		if b := r.blobs[m.Blob]; b == nil {
			out[i] = r.state[m.Blob]
		} else if out[i] = metadata.BlobHeld; b.Mark(m, 7) && !b.UnderProtected() {
			delete(r.blobs, m.Blob)
			r.state[m.Blob] = metadata.BlobHeld
		}
	}
	return out, nil
}

func (r *healRegion) UnderLocal(_ replica.GroupID, after []byte, limit int) (out metadata.UnderBlobs, err error) {
	r.mu.Lock()
	slow := r.slow
	r.mu.Unlock()
	time.Sleep(slow)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages++
	for id, b := range r.blobs {
		place := append([]byte{byte(b.Spare()), 1}, id[:]...)
		if bytes.Compare(place, after) > 0 {
			out.Blobs = append(out.Blobs, metadata.UnderBlob{Place: place, Blob: *b})
		}
	}
	slices.SortFunc(out.Blobs, func(a, b metadata.UnderBlob) int { return bytes.Compare(a.Place, b.Place) })
	if out.More = len(out.Blobs) > limit; out.More {
		out.Blobs = out.Blobs[:limit]
	}
	return out, nil
}

func (r *healRegion) SlotsLocal(replica.GroupID) (out []metadata.SlotCount, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.blobs {
		for _, n := range b.Notes {
			for i := range uint8(6) {
				if n.Missing>>i&1 == 1 {
					out = append(out, metadata.SlotCount{Slot: metadata.Slot{PG: n.PG, Index: i}, Missing: 1})
				}
			}
		}
	}
	return out, nil
}

func (r *healRegion) GroupStatsLocal(replica.GroupID) (metadata.Stats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return metadata.Stats{Queued: int64(len(r.blobs))}, nil
}

func (r *healRegion) HealChunk(_ context.Context, to cluster.NodeID, c LackingChunk) (uint64, error) {
	r.mu.Lock()
	r.jobs = append(r.jobs, fmt.Sprintf("%x: %06b of %06b", c.Key.Blob[8], c.Want, c.Missing))
	hands := r.hands
	r.mu.Unlock()
	return hands(to, c)
}

func (r *healRegion) DeleteShards(_ context.Context, to cluster.NodeID, id cluster.DiskID, keys []cluster.ShardKey) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys {
		if d := r.layout.Disk(k.PG, k.Index); d.ID != id || d.Node != to {
			return fmt.Errorf("%s is not on disk %s of %s", k, id, to)
		}
	}
	r.deleted = append(r.deleted, keys...)
	return nil
}

// lack adds a blob to the queue that lacks shards of its only chunk.
func (r *healRegion) lack(n byte, missing uint64) metadata.BlobID {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := blobOf(n)
	r.blobs[id] = &metadata.Blob{ID: id, Bytes: 2000, Profile: metadata.Profile{K: 2, M: 1},
		Notes: []metadata.ChunkNote{{Missing: missing, PG: uint16(n % 8), Zones: []string{"a", "b"}, Marked: 5}}}
	return id
}

func (r *healRegion) with(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// seen are the jobs since the last call, and how many blobs are left.
func (r *healRegion) seen() (jobs []string, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	jobs, r.jobs = r.jobs, nil
	return jobs, len(r.blobs)
}

func all(_ cluster.NodeID, c LackingChunk) (uint64, error) { return c.Want, nil }

func healerAlone(t *testing.T, name string, body func(t *testing.T, r *healRegion)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := &healRegion{layout: newMendRegion(t, cluster.Profile{K: 2, M: 1}).layout, blobs: map[metadata.BlobID]*metadata.Blob{},
				state: map[metadata.BlobID]metadata.BlobState{}, hands: all, down: map[cluster.NodeID]bool{}, leads: true, changed: make(chan struct{})}
			h, err := NewHealer(HealerConfig{Queue: r, Hands: r, Layout: func() *cluster.Layout { return r.layout }, Partitions: 1, Parallel: 1,
				DiskUp:  func(d cluster.Disk) bool { r.mu.Lock(); defer r.mu.Unlock(); return !r.down[d.Node] },
				Changed: func() <-chan struct{} { return r.changed },
				Leads:   func(replica.GroupID) bool { r.mu.Lock(); defer r.mu.Unlock(); return r.leads },
				Logger:  quiet, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			run(t, h.Run)
			body(t, r)
		})
	})
}

func TestHealer(t *testing.T) {
	healerAlone(t, "the most endangered first, each zone by itself", func(t *testing.T, r *healRegion) {
		r.with(func() { r.leads = false })
		r.lack(1, 0b000001)
		r.lack(2, 0b110001)
		r.lack(3, 0b000011)
		pass(3 * time.Second)
		if jobs, left := r.seen(); len(jobs) != 0 || left != 3 {
			t.Fatalf("healed without leading: %q", jobs)
		}
		r.with(func() { r.leads = true })
		pass(3 * time.Second)
		want := []string{"2: 000001 of 110001", "2: 110000 of 110001", "3: 000011 of 000011", "1: 000001 of 000001"}
		if jobs, left := r.seen(); !slices.Equal(jobs, want) || left != 0 {
			t.Errorf("%q, want %q; %d left", jobs, want, left)
		}
		pass(time.Minute)
		if jobs, _ := r.seen(); len(jobs) != 0 {
			t.Errorf("healed again: %q", jobs)
		}
	})
	healerAlone(t, "what is not healed stays, and waits longer each time", func(t *testing.T, r *healRegion) {
		r.with(func() { r.hands = func(cluster.NodeID, LackingChunk) (uint64, error) { return 0, cluster.ErrNotFound } })
		r.lack(1, 0b11)
		pass(10 * time.Minute)
		jobs, left := r.seen()
		if len(jobs) < 5 || len(jobs) > 15 || left != 1 {
			t.Errorf("%d tries, %d left", len(jobs), left)
		}
		r.with(func() { // one of the two
			r.hands = func(_ cluster.NodeID, c LackingChunk) (uint64, error) {
				return 0b01, errors.New("no room for the other")
			}
		})
		pass(3 * time.Minute)
		r.with(func() { r.hands = all })
		r.seen()
		pass(5 * time.Minute)
		if jobs, left := r.seen(); len(jobs) != 1 || jobs[0] != "1: 000010 of 000010" || left != 0 {
			t.Errorf("%q, %d left", jobs, left)
		}
	})
	healerAlone(t, "more than was asked for is not believed", func(t *testing.T, r *healRegion) {
		r.lack(1, 0b001001) // a job for each zone
		r.with(func() {
			r.hands = func(_ cluster.NodeID, c LackingChunk) (uint64, error) {
				if c.Want == 0b001 {
					return 0b111111, nil
				}
				return 0, cluster.ErrUnreachable
			}
		})
		pass(3 * time.Second)
		if r.blobs[blobOf(1)].Notes[0].Missing != 0b001000 {
			t.Errorf("%+v", r.blobs[blobOf(1)])
		}
	})
	healerAlone(t, "what is too much for one command is taken off by several", func(t *testing.T, r *healRegion) {
		r.with(func() { r.most = 2 })
		for n := range byte(5) {
			r.lack(n+1, 0b000001)
		}
		pass(3 * time.Second)
		if jobs, left := r.seen(); len(jobs) != 5 || left != 0 {
			t.Errorf("%q, %d left", jobs, left)
		}
	})
	healerAlone(t, "disks that are away are waited for", func(t *testing.T, r *healRegion) {
		r.lack(1, 0b001)
		node := r.layout.Disk(1, 0).Node
		r.with(func() { r.down[node] = true })
		pass(10 * time.Minute)
		if jobs, _ := r.seen(); len(jobs) != 0 {
			t.Fatalf("%q", jobs)
		}
		r.lack(1, 0b011) // of one of which the disk is there
		pass(2 * time.Second)
		if jobs, left := r.seen(); len(jobs) != 1 || jobs[0] != "1: 000010 of 000011" || left != 1 {
			t.Fatalf("%q, %d left", jobs, left)
		}
		r.with(func() { r.down[node] = false })
		pass(2 * time.Second)
		if jobs, left := r.seen(); len(jobs) != 1 || jobs[0] != "1: 000001 of 000001" || left != 0 {
			t.Errorf("%q, %d left", jobs, left)
		}
	})
	healerAlone(t, "what was found missing again meanwhile is not cleared", func(t *testing.T, r *healRegion) {
		id := r.lack(1, 0b01)
		first := true
		r.with(func() {
			r.hands = func(_ cluster.NodeID, c LackingChunk) (uint64, error) {
				r.with(func() {
					if first {
						r.blobs[id].Mark(metadata.ShardMark{Blob: id, PG: 1, Zones: []string{"a", "b"}, Set: 0b01}, 6)
					}
				})
				return c.Want, nil
			}
		})
		pass(500 * time.Millisecond)
		if _, left := r.seen(); left != 1 {
			t.Fatal("a mark that is newer was cleared")
		}
		r.with(func() { first = false })
		pass(10 * time.Second)
		if _, left := r.seen(); left != 0 {
			t.Error("it is not healed in the end")
		}
	})
}

// TestLongQueue: a queue of what a zone that is away lacks is not read all the time for
// something else that cannot be healed; what can be is healed at once at the head, and
// soon behind it.
func TestLongQueue(t *testing.T) {
	const pages = 10
	healerAlone(t, "", func(t *testing.T, r *healRegion) {
		away := func(n int) metadata.BlobID {
			return metadata.BlobID(cluster.NewBlobID(1, 1, [8]byte{1, byte(n >> 8), byte(n)}))
		}
		lacks := func(id metadata.BlobID, missing uint64) {
			r.blobs[id] = &metadata.Blob{ID: id, Bytes: 2000, Profile: metadata.Profile{K: 2, M: 1},
				Notes: []metadata.ChunkNote{{Missing: missing, PG: 0, Zones: []string{"a", "b"}, Marked: 5}}}
		}
		r.with(func() {
			for _, n := range []string{"b0", "b1", "b2"} {
				r.down[cluster.NodeID(n)] = true
			}
			for n := range pages * healPage {
				lacks(away(n), 0b111000)
			}
			full := away(pages * healPage)
			lacks(full, 0b000001)
			r.hands = func(_ cluster.NodeID, c LackingChunk) (uint64, error) {
				if c.Key.Blob == cluster.BlobID(full) {
					return 0, cluster.ErrDiskFull
				}
				return c.Want, nil
			}
			r.slow = 50 * time.Millisecond // half a second for all
		})
		pass(time.Minute)
		r.with(func() {
			if n, most := r.pages, 60*healHead+12*(pages+1); n > most {
				t.Errorf("%d pages were read in a minute, want %d at most", n, most)
			}
			r.jobs = nil
			lacks(away(1<<15), 0b001111)            // the head
			lacks(away(pages*healPage+1), 0b000001) // the end
		})
		pass(3 * time.Second)
		r.with(func() {
			if r.blobs[away(1<<15)].Notes[0].Missing != 0b001000 {
				t.Errorf("not healed at once: %06b", r.blobs[away(1<<15)].Notes[0].Missing)
			}
		})
		pass(10 * time.Second)
		r.with(func() {
			if r.blobs[away(pages*healPage+1)] != nil {
				t.Error("what is at the end of the queue is not healed")
			}
		})
	})
}

// TestHealAgainstDelete: what was rebuilt of a blob that was deleted meanwhile does not
// stay, unless its removal is under way; and without an answer nothing is removed.
func TestHealAgainstDelete(t *testing.T) {
	for state, want := range map[metadata.BlobState]int{metadata.BlobUnknown: 2, metadata.BlobGarbage: 0} {
		healerAlone(t, fmt.Sprint("state ", state), func(t *testing.T, r *healRegion) {
			id := r.lack(1, 0b110)
			r.with(func() {
				r.hands = func(_ cluster.NodeID, c LackingChunk) (uint64, error) {
					r.with(func() { delete(r.blobs, id); r.state[id] = state })
					return c.Want, nil
				}
			})
			pass(3 * time.Second)
			if len(r.deleted) != want {
				t.Errorf("%v were deleted", r.deleted)
			}
			for _, k := range r.deleted {
				if k.Blob != cluster.BlobID(id) || k.Index != 1 && k.Index != 2 {
					t.Errorf("%s was deleted", k)
				}
			}
		})
	}
	healerAlone(t, "no answer", func(t *testing.T, r *healRegion) {
		r.lack(1, 0b110)
		r.with(func() { r.refused = metadata.ErrUnknownOutcome })
		pass(10 * time.Second)
		if _, left := r.seen(); len(r.deleted) != 0 || left != 1 {
			t.Errorf("%v were deleted, %d left", r.deleted, left)
		}
	})
}
