package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// crashSeeds is how many runs TestCrash makes; BIVALVE_CRASH_SEEDS sets it, and
// BIVALVE_CRASH_SEED picks the only one.
func crashSeeds(t *testing.T) (from, to int) {
	number := func(name string, or int) int {
		s := os.Getenv(name)
		if s == "" {
			return or
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if one := number("BIVALVE_CRASH_SEED", -1); one >= 0 {
		return one, one + 1
	}
	count := 200
	if testing.Short() || raceEnabled {
		count = 30
	}
	return 0, number("BIVALVE_CRASH_SEEDS", count)
}

// model is what the store may hold: for each key the states that an observer may
// find, nil for absent. One state: it is known.
type model struct {
	mu     sync.Mutex
	states map[cluster.ShardKey][]*cluster.Shard
}

func (m *model) begin(k cluster.ShardKey, next *cluster.Shard) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.states[k]) == 0 {
		m.states[k] = []*cluster.Shard{nil}
	}
	m.states[k] = append(m.states[k], next)
}

func (m *model) done(k cluster.ShardKey, now *cluster.Shard) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[k] = []*cluster.Shard{now}
}

// check compares the disk with the model, and takes over what it finds.
func (m *model) check(t *testing.T, d *Disk) error {
	listed := map[cluster.ShardKey]bool{}
	for pg := range cluster.PG(3) {
		rows, err := d.List(t.Context(), pg, nil, MaxListLimit)
		if err != nil {
			return err
		}
		for _, r := range rows {
			listed[r.Key] = true
		}
	}
	for k, states := range m.states {
		got, err := disktest.ReadWhole(t.Context(), d, k)
		if err != nil && !errors.Is(err, cluster.ErrNotFound) {
			return fmt.Errorf("%s: %w", k, err)
		}
		i := slices.IndexFunc(states, func(s *cluster.Shard) bool {
			return s == nil && err != nil || s != nil && err == nil && bytes.Equal(s.Payload, got)
		})
		if i < 0 {
			return fmt.Errorf("%s: found %d bytes (%v), which is none of %d possible states; known absent %v",
				k, len(got), err, len(states), states[0] == nil)
		}
		if listed[k] != (err == nil) {
			return fmt.Errorf("%s: listed %v, read %v", k, listed[k], err)
		}
		delete(listed, k)
		m.states[k] = []*cluster.Shard{states[i]}
	}
	if len(listed) > 0 {
		return fmt.Errorf("%d shards nobody wrote", len(listed))
	}
	return nil
}

// Power is cut at a random call to the file system, with several writers at
// work; what was acknowledged is there after it, what was deleted stays deleted,
// what was under way is old or new, and nothing is damaged. Then again, on what
// is left.
func TestCrash(t *testing.T) {
	from, to := crashSeeds(t)
	for seed := from; seed < to; seed++ {
		if err := crashRun(t, uint64(seed)); err != nil {
			t.Fatalf("BIVALVE_CRASH_SEED=%d: %v", seed, err)
		}
	}
}

var errPower = fmt.Errorf("power cut: %w", syscall.EIO)

func crashRun(t *testing.T, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 7))
	mem := vfs.NewMemFS(1<<30, seed%2 == 0)
	cfg := testConfig(t, mem)
	cfg.SegmentBytes = 256 << 10
	withIndex := seed%3 != 0
	index := &memTable{}
	mustFormat(t, cfg)
	m := &model{states: map[cluster.ShardKey][]*cluster.Shard{}}
	for round := range 4 {
		var calls atomic.Int64
		cut := int64(20 + rng.IntN(250))
		if round == 3 {
			cut = 1 << 40
		}
		cfg.FS = vfs.Inject(mem, func(op vfs.Op, _ string) (bool, error) {
			if calls.Add(1) > cut && op != vfs.OpSpace {
				return false, errPower
			}
			return true, nil
		})
		if cfg.table = nil; withIndex {
			cfg.table = index // what a checkpoint wrote is durable, as with bbolt
		}
		d, err := Open(cfg)
		if err != nil && !errors.Is(err, errPower) {
			return fmt.Errorf("round %d: open: %w", round, err)
		}
		if err == nil {
			err = m.check(t, d)
			if err != nil && !errors.Is(err, errPower) {
				return fmt.Errorf("round %d: %w", round, err)
			}
			if err == nil {
				crashWork(t, d, m, rng, round)
			}
			if round == 3 {
				if err := m.check(t, d); err != nil {
					return fmt.Errorf("at the end: %w", err)
				}
			}
			if err := d.Close(); err != nil && !errors.Is(err, errPower) && !errors.Is(err, cluster.ErrDiskFailed) {
				return fmt.Errorf("round %d: close: %w", round, err)
			}
		}
		mem.Crash(rng, []float64{0, 0.25, 0.5, 0.75, 1}[rng.IntN(5)])
	}
	// Once more from the segments alone.
	cfg.FS, cfg.table = mem, nil
	d, err := Open(cfg)
	if err != nil {
		return err
	}
	return errors.Join(m.check(t, d), d.Close())
}

// crashWork writes until the power goes, or for a while.
func crashWork(t *testing.T, d *Disk, m *model, rng *rand.Rand, round int) {
	for step := range 25 {
		var wg sync.WaitGroup
		for writer := range 3 {
			r := rand.New(rand.NewPCG(rng.Uint64(), 1))
			wg.Go(func() { crashStep(t, d, m, r, writer, round*100+step) })
		}
		wg.Wait()
		if d.Failed() != nil {
			return
		}
		if rng.IntN(6) == 0 {
			// It fails when the power goes, as everything does.
			if err := d.upkeep(t.Context(), true); err != nil && !errors.Is(err, errPower) {
				t.Errorf("upkeep: %v", err)
			}
		}
	}
}

// crashStep does one thing to the keys of one writer.
func crashStep(t *testing.T, d *Disk, m *model, r *rand.Rand, writer, step int) {
	key := func() cluster.ShardKey { return disktest.Key(cluster.PG(writer), r.IntN(12)) }
	if r.IntN(3) == 0 {
		k := key()
		m.begin(k, nil)
		if d.Delete(t.Context(), []cluster.ShardKey{k}) == nil {
			m.done(k, nil)
		}
		return
	}
	var shards []cluster.Shard
	for range 1 + r.IntN(3) {
		size := 1 + r.IntN(3000)
		if r.IntN(3) == 0 {
			size = LargeBytes + r.IntN(LargeBytes)
		}
		s := disktest.Shard(key(), size, r.Uint64())
		s.Generation = uint32(step)
		if slices.ContainsFunc(shards, func(o cluster.Shard) bool { return o.Key == s.Key }) {
			continue
		}
		shards = append(shards, s)
		m.begin(s.Key, &s)
	}
	if d.Append(t.Context(), shards) == nil {
		for i := range shards {
			m.done(shards[i].Key, &shards[i])
		}
	}
}
