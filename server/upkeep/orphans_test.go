package upkeep

import (
	"bytes"
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

	"github.com/prometheus/client_golang/prometheus"
)

// sweepDisk is a disk with shards of one group, the partitions that know some of their
// blobs, and the region's clock.
type sweepDisk struct {
	mu     sync.Mutex
	stored map[cluster.ShardKey]int // -> bytes
	states map[metadata.BlobID]metadata.BlobState
	down   map[replica.GroupID]error
	short  bool // answers lack their last
	broken error
	asked  int
	clock  func() (int64, error)
}

func (d *sweepDisk) ID() cluster.DiskID { return cluster.DiskID{1} }
func (d *sweepDisk) Failed() error      { return nil }

func (d *sweepDisk) List(_ context.Context, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []cluster.ShardInfo
	for k, n := range d.stored {
		if k.PG == pg && (after == nil || compareChunks(k, *after) > 0) {
			out = append(out, cluster.ShardInfo{Key: k, Bytes: n})
		}
	}
	slices.SortFunc(out, func(a, b cluster.ShardInfo) int { return compareChunks(a.Key, b.Key) })
	return out[:min(len(out), limit)], nil
}

func (d *sweepDisk) Delete(_ context.Context, keys []cluster.ShardKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	for _, k := range keys {
		delete(d.stored, k)
	}
	return nil
}

func (d *sweepDisk) BlobStates(_ context.Context, g replica.GroupID, ids []metadata.BlobID) ([]metadata.BlobState, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked++; d.down[g] != nil {
		return nil, d.down[g]
	}
	out := make([]metadata.BlobState, len(ids))
	for i, id := range ids {
		if cluster.BlobID(id).Partition() != uint16(g) {
			return nil, errors.New("it is not mine")
		}
		out[i] = d.states[id]
	}
	if d.short {
		out = out[:len(out)-1]
	}
	return out, nil
}

// write stores a shard of a new blob of a partition, minted so long ago.
func (d *sweepDisk) write(partition uint16, ago time.Duration, state metadata.BlobState) cluster.ShardKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.stored)
	id := cluster.NewBlobID(partition, time.Now().Add(-ago).UnixMilli(), [8]byte{byte(n), byte(n >> 8), byte(state)})
	k := cluster.ShardKey{PG: cluster.PG(n % 3), Blob: id}
	d.stored[k] = 10
	if state != metadata.BlobUnknown {
		d.states[metadata.BlobID(id)] = state
	}
	return k
}

func (d *sweepDisk) has(k cluster.ShardKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stored[k] > 0
}

func (d *sweepDisk) with(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func sweeping(t *testing.T, name string, body func(t *testing.T, d *sweepDisk, s *Sweeper)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := &sweepDisk{stored: map[cluster.ShardKey]int{}, states: map[metadata.BlobID]metadata.BlobState{}, down: map[replica.GroupID]error{},
				clock: func() (int64, error) { return time.Now().UnixNano(), nil }}
			s, err := NewSweeper(SweeperConfig{Disks: func() []OrphanDisk { return []OrphanDisk{d} }, Consent: d,
				Clock:  func() (int64, error) { d.mu.Lock(); defer d.mu.Unlock(); return d.clock() },
				Groups: func() int { return 3 }, Partitions: 2, Logger: quiet, Registry: prometheus.NewRegistry(), Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			run(t, s.Run)
			body(t, d, s)
		})
	})
}

func TestOrphans(t *testing.T) {
	const day = 24 * time.Hour
	sweeping(t, "what its partition does not know is removed, nothing else", func(t *testing.T, d *sweepDisk, s *Sweeper) {
		var gone, stay []cluster.ShardKey
		for range 1100 { // more than one page, and than one batch
			gone = append(gone, d.write(1, day, metadata.BlobUnknown), d.write(2, 300*day, metadata.BlobUnknown))
			stay = append(stay, d.write(1, day, metadata.BlobHeld), d.write(2, 2*day, metadata.BlobGarbage))
		}
		pass(90 * time.Minute)
		for _, k := range gone {
			if d.has(k) {
				t.Fatalf("%s is still there", k)
			}
		}
		for _, k := range stay {
			if !d.has(k) {
				t.Fatalf("%s was swept", k)
			}
		}
		p, _ := s.Progress(d.ID())
		if p.Looked != 4400 || p.Found != 2200 || p.Removed != 2200 || p.Bytes != 22_000 || p.Unasked != 0 || p.Error != "" || p.Last.IsZero() || p.Fraction != 1 {
			t.Errorf("%+v", p)
		}
		pass(day)
		if p, _ := s.Progress(d.ID()); p.Looked != 2200 || p.Removed != 0 || p.RemovedTotal != 2200 {
			t.Errorf("the next pass: %+v", p)
		}
	})
	sweeping(t, "a write in progress", func(t *testing.T, d *sweepDisk, s *Sweeper) {
		k := d.write(1, 0, metadata.BlobUnknown)
		broken := d.write(1, 0, metadata.BlobUnknown)
		pass(metadata.MaxUncommitted) // the last moment at which its record can come
		if !d.has(k) || !d.has(broken) {
			t.Fatal("a write in progress was swept")
		}
		d.with(func() { d.states[metadata.BlobID(k.Blob)] = metadata.BlobHeld })
		pass(2 * day)
		if !d.has(k) || d.has(broken) {
			t.Errorf("%v %v", d.has(k), d.has(broken))
		}
	})
	sweeping(t, "a partition that does not answer", func(t *testing.T, d *sweepDisk, s *Sweeper) {
		unknown, held, other := d.write(1, 9*day, metadata.BlobUnknown), d.write(1, 9*day, metadata.BlobHeld), d.write(2, 9*day, metadata.BlobUnknown)
		d.with(func() { d.down[1] = metadata.ErrUnavailable })
		pass(90 * time.Minute)
		if !d.has(held) || !d.has(unknown) || d.has(other) {
			t.Fatalf("swept without consent: %v %v %v", d.has(held), d.has(unknown), d.has(other))
		}
		if p, _ := s.Progress(d.ID()); p.Unasked != 2 || p.Removed != 1 || p.Error == "" || !p.Last.IsZero() {
			t.Errorf("%+v", p)
		}
		d.with(func() { delete(d.down, 1) })
		pass(90 * time.Minute) // much sooner than in a day
		if p, _ := s.Progress(d.ID()); d.has(unknown) || !d.has(held) || p.Last.IsZero() || p.Error != "" {
			t.Errorf("%v %v %+v", d.has(unknown), d.has(held), p)
		}
	})
	sweeping(t, "answers and ids that nothing can be made of", func(t *testing.T, d *sweepDisk, s *Sweeper) {
		a, b, strange := d.write(1, 9*day, metadata.BlobUnknown), d.write(1, 9*day, metadata.BlobHeld), d.write(7, 9*day, metadata.BlobUnknown)
		d.with(func() { d.short = true })
		pass(90 * time.Minute)
		if p, _ := s.Progress(d.ID()); !d.has(a) || !d.has(b) || !d.has(strange) || p.Removed != 0 || p.Unasked != 3 || p.Error == "" {
			t.Errorf("%+v", p)
		}
	})
	sweeping(t, "a clock that is not the region's", func(t *testing.T, d *sweepDisk, s *Sweeper) {
		k := d.write(1, 9*day, metadata.BlobUnknown)
		for _, clock := range []func() (int64, error){
			func() (int64, error) { return 0, nil },
			func() (int64, error) { return 0, errors.New("no root group") },
			func() (int64, error) { return time.Now().Add(-20 * day).UnixNano(), nil }, // this node is ahead
		} {
			d.with(func() { d.clock = clock })
			pass(2 * day)
			if !d.has(k) || d.asked != 0 {
				t.Fatalf("%v, asked %d times", d.has(k), d.asked)
			}
		}
	})
	sweeping(t, "a disk that does not delete", func(t *testing.T, d *sweepDisk, s *Sweeper) {
		k := d.write(1, 9*day, metadata.BlobUnknown)
		d.with(func() { d.broken = cluster.ErrDiskFailed })
		pass(90 * time.Minute)
		if p, _ := s.Progress(d.ID()); !d.has(k) || p.Found != 1 || p.Removed != 0 || p.Error == "" || !p.Last.IsZero() {
			t.Errorf("%+v", p)
		}
	})
}

// TestRipe: to the millisecond.
func TestRipe(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	id := cluster.NewBlobID(1, now.Add(-time.Hour).UnixMilli(), [8]byte{})
	if !ripe(id, now, time.Hour) || ripe(id, now, time.Hour+1) || !bytes.Equal(id[:2], []byte{0, 1}) {
		t.Error("an age is wrong")
	}
}
