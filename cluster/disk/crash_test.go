package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"bivalve/cluster"
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
	count := 120
	if testing.Short() || raceEnabled {
		count = 12
	}
	return 0, number("BIVALVE_CRASH_SEEDS", count)
}

// Power is cut, the process killed, a sync failed at a random change of the file
// system, with appends, deletes, compaction and checkpoints under way; what was
// acknowledged is there after it, what was deleted stays deleted, what was under
// way is old or new, and nothing is damaged. Then again, on what is left. Every
// fourth seed has several writers at once, and may need some tries to fail again;
// the others do the same each time.
func TestCrash(t *testing.T) {
	from, to := crashSeeds(t)
	if seed, err := firstViolation(t.Context(), from, to, crashOptions{}); err != nil {
		t.Fatalf("BIVALVE_CRASH_SEED=%d: %v", seed, err)
	}
}

// firstViolation runs the seeds on all processors until one fails.
func firstViolation(ctx context.Context, from, to int, o crashOptions) (seed int, err error) {
	var next atomic.Int64
	next.Store(int64(from))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				mu.Lock()
				failed := err != nil
				mu.Unlock()
				if n >= to || failed {
					return
				}
				if _, rerr := crashRun(ctx, uint64(n), o); rerr != nil {
					mu.Lock()
					if err == nil || n < seed {
						seed, err = n, rerr
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return seed, err
}

// A seed of one writer makes the same calls each time.
func TestCrashReplays(t *testing.T) {
	for _, seed := range []uint64{0, 1, 2, 4, 5, 6} {
		first, err := crashRun(t.Context(), seed, crashOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := crashRun(t.Context(), seed, crashOptions{}); err != nil || again != first {
			t.Errorf("BIVALVE_CRASH_SEED=%d: trace %x, then %x, %v", seed, first, again, err)
		}
	}
}

// crashOptions spoil a run, to see that it would notice.
type crashOptions struct {
	// lie chooses calls that report success and do nothing.
	lie func(op vfs.Op, name string) bool
}

// crashRounds is how often a run opens the disk; the last round ends in peace.
const crashRounds = 5

// crash is one run.
type crash struct {
	rng   *rand.Rand
	mem   *vfs.MemFS
	power *power
	cfg   Config
	index *crashTable
	model *model
	many  bool // several writers at once
	round int
	step  int
}

func crashRun(ctx context.Context, seed uint64, o crashOptions) (trace uint64, err error) {
	rng := rand.New(rand.NewPCG(seed, 7))
	mem := vfs.NewMemFS(1<<30, rng.IntN(2) == 0)
	c := &crash{rng: rng, mem: mem, model: newModel(), many: seed%4 == 3}
	c.power = &power{mem: mem, rng: rand.New(rand.NewPCG(seed, 8)), how: closed}
	c.index = &crashTable{power: c.power}
	c.cfg = Config{
		Dir: "/disk", FS: vfs.Inject(mem, c.power.hook), Cluster: [16]byte{1, 2, 3}, ReserveBytes: -1, ID: cluster.DiskID{9, 9},
		SegmentBytes: minSegmentBytes << rng.IntN(3),
	}
	if _, err := Format(c.cfg); err != nil {
		return 0, err
	}
	c.power.lie = o.lie // a disk that is no disk would tell nothing
	keepIndex := rng.IntN(3) != 0
	for c.round = range crashRounds {
		if !keepIndex || rng.IntN(8) == 0 {
			c.index = &crashTable{power: c.power}
		}
		c.plan()
		if err := c.oneRound(ctx); err != nil {
			return c.power.trace, fmt.Errorf("round %d: %w", c.round, err)
		}
	}
	// Once more from the segments alone.
	c.power.how, c.power.lie, c.index = closed, nil, &crashTable{power: c.power}
	if err := c.oneRound(ctx); err != nil {
		return c.power.trace, fmt.Errorf("without the index: %w", err)
	}
	return c.power.trace, nil
}

// plan chooses how the round will end.
func (c *crash) plan() {
	p := c.power
	p.over, p.apply = false, c.rng.IntN(2) == 0
	p.how = []ending{powerCut, powerCut, powerCut, killed, failedSync, closed}[c.rng.IntN(6)]
	if c.round == crashRounds-1 {
		p.how = closed
	}
	p.left = 1 + c.rng.IntN(200)
	if c.rng.IntN(3) == 0 {
		p.left = 1 + c.rng.IntN(10) // in the midst of Open, or soon after
	}
}

// oneRound opens the disk, checks it, works until the end comes, and crashes.
func (c *crash) oneRound(ctx context.Context) error {
	a := &alarms{}
	c.cfg.Logger, c.cfg.table = slog.New(a), c.index
	err := c.life(ctx)
	if err != nil && !ours(err) {
		return err
	}
	how := c.power.how
	err = a.err(func(line string) bool { return how != closed && strings.HasPrefix(line, "disk is fenced") })
	if err != nil {
		return err
	}
	if how == killed || how == failedSync {
		c.mem.Kill()
	} else {
		c.mem.Crash(c.rng, []float64{0, 0.25, 0.5, 0.75, 1}[c.rng.IntN(5)])
	}
	return nil
}

func (c *crash) life(ctx context.Context) error {
	d, err := Open(c.cfg)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	err = c.model.check(ctx, d)
	if err == nil && c.round < crashRounds {
		err = c.work(ctx, d)
	}
	if cerr := d.Close(); cerr != nil && !ours(cerr) && !errors.Is(cerr, cluster.ErrDiskFailed) {
		return errors.Join(err, fmt.Errorf("close: %w", cerr))
	}
	return err
}
