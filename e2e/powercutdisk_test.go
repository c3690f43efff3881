//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/cluster/disk/disktest"
)

const (
	cutRounds  = 5 // BIVALVE_E2E_CUTS sets it
	cutWriters = 4
	cutKeys    = 60 // of each writer
)

// TestPowerCut cuts the power of the file system below one disk again and again
// while shards are appended, replaced, deleted and compacted: what was
// acknowledged is there, what was deleted stays deleted, nothing is damaged.
func TestPowerCut(t *testing.T) {
	needLoops(t)
	rounds := cutRounds
	if s := os.Getenv("BIVALVE_E2E_CUTS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	tmp := t.TempDir()
	l := &loopDisk{img: filepath.Join(tmp, "img"), dir: filepath.Join(tmp, "mnt")}
	t.Cleanup(func() {
		if err := l.umount(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(l.make(1024, 4096), l.mount()); err != nil {
		t.Fatal(err)
	}
	cutForgets(t, l)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed) // the race with the cut is not replayed by it
	c := &cutter{l: l, rng: rand.New(rand.NewPCG(seed, 1)), states: map[cluster.ShardKey][]*cluster.Shard{},
		cfg: disk.Config{Dir: l.dir, Cluster: [16]byte{1, 2, 3}, SegmentBytes: 8 << 20, ReserveBytes: 32 << 20}}
	if _, err := disk.Format(c.cfg); err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		d, err := disk.Open(c.cfg)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if err := c.check(t.Context(), d); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		acked := c.round(t, d)
		l.cutAndMount(t, func() { _ = d.Close() }) // its file system is gone
		t.Logf("round %d: %d appends and deletes were acknowledged", i, acked)
	}
	d, err := disk.Open(c.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.check(t.Context(), d), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// cutForgets makes sure that the cut is one: what nobody synced is gone after it,
// what was synced is not.
func cutForgets(t *testing.T, l *loopDisk) {
	t.Helper()
	kept, lost := filepath.Join(l.dir, "kept"), filepath.Join(l.dir, "lost")
	f, err := os.Create(kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close(), os.WriteFile(lost, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := l.powerCut(); err != nil {
		unavailable(t, "cutting the power of a file system", err)
	}
	l.cutAndMount(t, func() {})
	if _, err := os.Stat(lost); err == nil {
		unavailable(t, "cutting the power of a file system", errors.New("it forgets nothing"))
	}
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
}

// cutAndMount mounts again what was cut.
func (d *loopDisk) cutAndMount(t *testing.T, closeAll func()) {
	t.Helper()
	closeAll()
	if err := d.umount(); err != nil {
		t.Fatal(err)
	}
	d.gone(t)
	if err := d.mount(); err != nil {
		t.Fatal(err)
	}
}

// cutter knows what the disk may hold: for each key the states that may be found,
// nil for absent; the first was acknowledged, the others were under way.
type cutter struct {
	l   *loopDisk
	cfg disk.Config
	rng *rand.Rand

	mu     sync.Mutex
	states map[cluster.ShardKey][]*cluster.Shard
	gen    uint32
}

func (c *cutter) begin(k cluster.ShardKey, s *cluster.Shard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.states[k] == nil {
		c.states[k] = []*cluster.Shard{nil}
	}
	c.states[k] = append(c.states[k], s)
}

func (c *cutter) done(k cluster.ShardKey, s *cluster.Shard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states[k] = []*cluster.Shard{s}
}

// round writes until the power fails, and returns how much was acknowledged.
func (c *cutter) round(t *testing.T, d *disk.Disk) int64 {
	var acked, full atomic.Int64
	var cut atomic.Bool
	enough := make(chan struct{})
	var once sync.Once
	limit := int64(200 + c.rng.IntN(2000))
	ctx, cancel := context.WithCancel(t.Context())
	var background, writers sync.WaitGroup
	background.Go(func() { _ = d.Run(ctx) }) // it returns nil
	for w := range cutWriters {
		rng := rand.New(rand.NewPCG(c.rng.Uint64(), uint64(w)))
		writers.Go(func() {
			for {
				err := c.one(ctx, d, rng, cluster.PG(w))
				switch {
				case err == nil:
					if acked.Add(1) >= limit {
						once.Do(func() { close(enough) })
					}
				case errors.Is(err, cluster.ErrDiskFull):
					// The rounds before ended before all room was given back; Run is at it.
					full.Add(1)
					time.Sleep(10 * time.Millisecond)
				default:
					if !cut.Load() {
						t.Errorf("before the cut: %v", err)
						once.Do(func() { close(enough) })
					}
					return
				}
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Errorf("only %d writes in a minute, %d found the disk full: %+v", acked.Load(), full.Load(), d.Usage())
	}
	cut.Store(true)
	if err := c.l.powerCut(); err != nil {
		t.Error(err)
		cancel()
	}
	writers.Wait() // the first write that fails ends each
	cancel()
	background.Wait()
	return acked.Load()
}

// one appends or deletes shards of one writer.
func (c *cutter) one(ctx context.Context, d *disk.Disk, rng *rand.Rand, pg cluster.PG) error {
	if rng.IntN(4) == 0 {
		k := disktest.Key(pg, rng.IntN(cutKeys))
		c.begin(k, nil)
		err := d.Delete(ctx, []cluster.ShardKey{k})
		if err == nil {
			c.done(k, nil)
		}
		return err
	}
	var shards []cluster.Shard
	for first, n := rng.IntN(cutKeys), 1+rng.IntN(4); len(shards) < n; {
		size := 1 + rng.IntN(8000)
		if rng.IntN(8) == 0 {
			size = disk.LargeBytes + rng.IntN(disk.LargeBytes)
		}
		s := disktest.Shard(disktest.Key(pg, (first+len(shards))%cutKeys), size, rng.Uint64())
		c.mu.Lock()
		c.gen++
		s.Generation = c.gen
		c.mu.Unlock()
		shards = append(shards, s)
	}
	for i := range shards {
		c.begin(shards[i].Key, &shards[i])
	}
	err := d.Append(ctx, shards)
	if err == nil {
		for i := range shards {
			c.done(shards[i].Key, &shards[i])
		}
	}
	return err
}

// check reads every key, and takes over what it finds.
func (c *cutter) check(ctx context.Context, d *disk.Disk) error {
	there := 0
	for k, states := range c.states {
		got, err := disktest.ReadWhole(ctx, d, k)
		if err != nil && !errors.Is(err, cluster.ErrNotFound) {
			return err
		}
		i := 0
		for ; i < len(states); i++ {
			if s := states[i]; s == nil && err != nil || s != nil && err == nil && bytes.Equal(s.Payload, got) {
				break
			}
		}
		if i == len(states) {
			return fmt.Errorf("%s: %d bytes (%v) are none of %d states; the acknowledged one is absent: %v", k, len(got), err, len(states), states[0] == nil)
		}
		if states[i] != nil {
			there++
		}
		c.states[k] = states[i : i+1]
	}
	listed := 0
	for pg := range cluster.PG(cutWriters) {
		rows, err := d.List(ctx, pg, nil, disk.MaxListLimit)
		if err != nil {
			return err
		}
		listed += len(rows)
	}
	if u := d.Usage(); listed != there || u.Shards != int64(there) || u.Damaged > 0 {
		return fmt.Errorf("%d shards can be read, %d are listed, usage says %d and %d damaged", there, listed, u.Shards, u.Damaged)
	}
	return nil
}
