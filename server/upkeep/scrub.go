package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"

	"github.com/prometheus/client_golang/prometheus"
)

// ScrubDisk is a disk of this node whose shards can be verified.
type ScrubDisk interface {
	ID() cluster.DiskID
	Usage() disk.Usage
	// Scrub verifies up to limit shards of pg that follow after; it remembers what
	// is damaged. pace is called before each read.
	Scrub(ctx context.Context, pg cluster.PG, after *cluster.ShardKey, limit int, pace func(ctx context.Context, bytes int64) error) (disk.ScrubPage, error)
}

// ScrubberConfig is what a Scrubber needs. Zero means the default in brackets.
type ScrubberConfig struct {
	Disks  func() []ScrubDisk // those in service
	Groups func() int         // placement groups of the region; 0: not known yet
	Dir    string             // where the passes are remembered, one file per disk
	Period time.Duration      // in which every shard is verified once [30 days]
	Rate   int64              // bytes read of one disk in a second, at most [64 MiB]
	Every  time.Duration      // between two looks for new disks [1 s]

	Logger   *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
}

// Scrubber verifies every shard of every local disk once in a period. A pass is
// spread evenly over it, and is resumed where it was after a restart. It makes way
// for clients by a simple rule: before each read it rests for as long as the one
// before took, so that it never has more than half of a disk; and when a page of
// reads took more than twice as long as at the disk's best of late, somebody else is
// at work, and it rests as many times longer as it was slower, up to ten times.
type Scrubber struct {
	cfg     ScrubberConfig
	bytes   prometheus.Counter
	damaged prometheus.Counter

	mu      sync.Mutex
	walkers map[cluster.DiskID]*walker
	opened  map[cluster.DiskID]bool // disks that were walked since New
}

// NewScrubber makes Dir and registers the metrics; Run does the work.
func NewScrubber(cfg ScrubberConfig) (*Scrubber, error) {
	orElse(&cfg.Period, 30*24*time.Hour)
	orElse(&cfg.Rate, 64<<20)
	orElse(&cfg.Every, time.Second)
	s := &Scrubber{cfg: cfg, walkers: map[cluster.DiskID]*walker{}, opened: map[cluster.DiskID]bool{},
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_scrub_bytes_total", Help: "Bytes of shards that the scrub has verified."}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_scrub_damaged_total", Help: "Damaged shards that the scrub has come upon."})}
	if cfg.Registry != nil {
		if err := errors.Join(cfg.Registry.Register(s.bytes), cfg.Registry.Register(s.damaged)); err != nil {
			return nil, err
		}
	}
	return s, os.MkdirAll(cfg.Dir, 0o700)
}

// spread is how long a pass takes when nothing hurries it: somewhat less than the
// period, since the next pass may come upon a shard a little later than this one.
func (s *Scrubber) spread() time.Duration { return s.cfg.Period / 10 * 9 }

// Run works until ctx ends.
func (s *Scrubber) Run(ctx context.Context) error {
	perDisk(ctx, s.cfg.Every, s.cfg.Disks, func(ctx context.Context, d ScrubDisk) {
		w := newWalker(s, d)
		s.mu.Lock()
		if s.opened[d.ID()] {
			// It was lost and is back. A damaged index may have hidden shards from
			// what was walked so far.
			w.state.rewind()
		}
		s.walkers[d.ID()], s.opened[d.ID()] = w, true
		s.mu.Unlock()
		w.run(ctx)
		s.mu.Lock()
		if s.walkers[d.ID()] == w {
			delete(s.walkers, d.ID())
		}
		s.mu.Unlock()
	})
	return nil
}

// ScrubStarted tells which pass of a disk was asked for.
type ScrubStarted struct {
	Disk cluster.DiskID `json:"disk"`
	Pass uint64         `json:"pass"`
}

// StartNow begins a pass of every local disk at the full rate; one that was asked
// for before and is not over goes on.
func (s *Scrubber) StartNow() []ScrubStarted {
	out := []ScrubStarted{}
	for _, w := range s.list() {
		if pass, ok := w.startNow(); ok {
			out = append(out, ScrubStarted{Disk: w.disk.ID(), Pass: pass})
		}
	}
	return out
}

// Progress tells how far the scrub of a disk is; false when it does not run.
func (s *Scrubber) Progress(id cluster.DiskID) (ScrubProgress, bool) {
	s.mu.Lock()
	w := s.walkers[id]
	s.mu.Unlock()
	if w == nil {
		return ScrubProgress{}, false
	}
	return w.progress(), true
}

func (s *Scrubber) list() []*walker {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*walker, 0, len(s.walkers))
	for _, w := range s.walkers {
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b *walker) int {
		x, y := a.disk.ID(), b.disk.ID()
		return slices.Compare(x[:], y[:])
	})
	return out
}
