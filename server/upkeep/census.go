package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// CensusIndex is what a census asks the partitions. The answers are linearizable.
type CensusIndex interface {
	ShardMarks
	Blobs(ctx context.Context, g replica.GroupID, after []byte, limit int) (metadata.BlobRows, error)
	BlobStates(ctx context.Context, g replica.GroupID, ids []metadata.BlobID) ([]metadata.BlobState, error)
	GroupStats(ctx context.Context, g replica.GroupID) (metadata.Stats, error)
	Slots(ctx context.Context, g replica.GroupID) ([]metadata.SlotCount, error)
}

// CensusConfig is what a Census needs. Zero means the default in brackets.
type CensusConfig struct {
	Index      CensusIndex
	Lists      ShardLister
	Layout     func(context.Context) (*cluster.Layout, error) // as it is agreed when it is called
	DiskUp     func(cluster.Disk) bool
	Partitions int
	Total      func(context.Context) int64 // shards on all disks, by their own account: how much there is to do

	Window   int           // chunks that are compared at a time [65,536]
	Parallel int           // placement groups that are listed at a time [8]
	Age      time.Duration // from which on shards that nobody knows are orphans, not of a write under way [24 h]
	Logger   *slog.Logger
	Now      func() time.Time
}

// CensusReport is what a census has found so far. What it says of missing shards was
// seen twice, and the record that wants them was read before and after.
type CensusReport struct {
	Number   int       `json:"number"` // of the census, on its node
	Fix      bool      `json:"fix"`    // what is missing is marked, so that it is healed
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Error    string    `json:"error,omitempty"` // why it ended early

	Partitions int     `json:"partitions"`
	Done       int     `json:"partitions_done"`
	Total      int64   `json:"shards_to_see"` // about
	Rate       float64 `json:"shards_per_second"`
	Left       float64 `json:"seconds_left,omitempty"`

	Objects int64 `json:"objects"` // versions and uploaded parts with bytes on disks
	Blobs   int64 `json:"blobs"`
	Chunks  int64 `json:"chunks"`
	Shards  int64 `json:"shards"` // that all of them have when whole
	Found   int64 `json:"found"`  // of these, on their disks
	Noted   int64 `json:"noted"`  // not there, and the counters say so
	Missing int64 `json:"missing"`
	There   int64 `json:"there_again"` // there, though the counters say that they are missing
	NotSeen int64 `json:"not_seen"`    // on disks that could not be heard
	Fixed   int64 `json:"fixed"`       // of the missing, marked

	Unreadable int64 `json:"unreadable_chunks"` // with fewer than k shards found and none unseen

	// What lies on the disks beside that, in shards.
	Garbage   int64 `json:"garbage"`   // of deleted blobs, queued to be removed
	Young     int64 `json:"in_flight"` // of no record, and too young to tell
	Orphans   int64 `json:"orphans"`   // of no record
	Misplaced int64 `json:"misplaced"` // of a held blob, in a placement group where its chunk is not

	Unheard  []string         `json:"unheard,omitempty"`  // disks
	Differ   []CounterDiffers `json:"differ,omitempty"`   // counters that are not what the records say
	Busy     []int            `json:"busy,omitempty"`     // partitions that changed too often to compare their counters
	Examples []MissingShard   `json:"examples,omitempty"` // of the missing, the first ones
}

// Agrees tells whether the counters are exactly what the census has found.
func (r *CensusReport) Agrees() bool {
	return !r.Finished.IsZero() && r.Error == "" && r.Missing == 0 && r.There == 0 && r.NotSeen == 0 && len(r.Differ) == 0 && len(r.Busy) == 0
}

// CounterDiffers is a counter of a partition that is wrong.
type CounterDiffers struct {
	Partition int    `json:"partition"`
	What      string `json:"what"`
	Counter   int64  `json:"counter"`
	Counted   int64  `json:"counted"`
}

// MissingShard is a shard that should be on a disk.
type MissingShard struct {
	Key   string         `json:"key,omitempty"` // of an object that wants it; "" for an uploaded part
	Disk  cluster.DiskID `json:"disk"`
	Shard string         `json:"shard"`
}

// censusExamples is how many missing shards a report names.
const censusExamples = 20

// ErrCensusUnderWay: another census is, which was asked for with another word about
// what to do with the missing.
var ErrCensusUnderWay = errors.New("a census is under way that was not asked for in the same way")

// Census walks through all records and all lists of all disks, and compares them with
// each other and with the counters. One is under way at a time. Its end is that of Run.
type Census struct {
	cfg   CensusConfig
	begin chan struct{}

	mu     sync.Mutex
	report *CensusReport // of the last one that was asked for
}

// NewCensus is ready to Run.
func NewCensus(cfg CensusConfig) *Census {
	orElse(&cfg.Window, 1<<16)
	orElse(&cfg.Parallel, 8)
	orElse(&cfg.Age, 24*time.Hour)
	return &Census{cfg: cfg, begin: make(chan struct{}, 1)}
}

// Start begins a census, or tells how far the one under way is.
func (c *Census) Start(fix bool) (CensusReport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.report; r == nil || !r.Finished.IsZero() {
		number := 1
		if r != nil {
			number = r.Number + 1
		}
		c.report = &CensusReport{Number: number, Fix: fix, Started: c.cfg.Now().UTC(), Partitions: c.cfg.Partitions}
		c.begin <- struct{}{} // never waits: the token of the last census is taken
	}
	if c.report.Fix != fix {
		return CensusReport{}, ErrCensusUnderWay
	}
	return c.snapshot(), nil
}

// Report is that of the last census that was asked for; false: there was none.
func (c *Census) Report() (CensusReport, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.report == nil {
		return CensusReport{}, false
	}
	return c.snapshot(), true
}

func (c *Census) snapshot() CensusReport {
	r := *c.report
	r.Unheard, r.Differ = append([]string(nil), r.Unheard...), append([]CounterDiffers(nil), r.Differ...)
	r.Busy, r.Examples = append([]int(nil), r.Busy...), append([]MissingShard(nil), r.Examples...)
	now := r.Finished
	if now.IsZero() {
		now = c.cfg.Now()
	}
	if took := now.Sub(r.Started).Seconds(); took > 0 {
		r.Rate = float64(r.Shards) / took
	}
	if r.Finished.IsZero() && r.Rate > 0 {
		r.Left = float64(max(0, r.Total-r.Shards)) / r.Rate
	}
	return r
}

func (c *Census) change(f func(*CensusReport)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.report)
}

// Run carries out what Start asks for, until ctx ends.
func (c *Census) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.begin:
		}
		err := c.take(ctx)
		c.change(func(r *CensusReport) {
			r.Finished = c.cfg.Now().UTC()
			if err != nil {
				r.Error = err.Error()
			}
		})
		r, _ := c.Report()
		c.cfg.Logger.Info("census", "shards", r.Shards, "missing", r.Missing, "not_seen", r.NotSeen, "agrees", r.Agrees(), "err", err)
	}
}

func (c *Census) take(ctx context.Context) error {
	total := c.cfg.Total(ctx)
	c.change(func(r *CensusReport) { r.Total = total })
	c.mu.Lock()
	fix := c.report.Fix
	c.mu.Unlock()
	for g := replica.GroupID(1); int(g) <= c.cfg.Partitions; g++ {
		if err := c.counters(ctx, g); err != nil {
			return err
		}
		if err := c.partition(ctx, g, fix); err != nil {
			return err
		}
		c.change(func(r *CensusReport) { r.Done++ })
	}
	return ctx.Err()
}

// take adds what a window has found.
func (r *CensusReport) take(w *CensusReport) {
	for _, x := range []struct {
		sum *int64
		add int64
	}{
		{&r.Blobs, w.Blobs}, {&r.Chunks, w.Chunks}, {&r.Shards, w.Shards}, {&r.Found, w.Found}, {&r.Noted, w.Noted},
		{&r.Missing, w.Missing}, {&r.There, w.There}, {&r.NotSeen, w.NotSeen}, {&r.Fixed, w.Fixed}, {&r.Unreadable, w.Unreadable},
		{&r.Garbage, w.Garbage}, {&r.Young, w.Young}, {&r.Orphans, w.Orphans}, {&r.Misplaced, w.Misplaced},
	} {
		*x.sum += x.add
	}
	r.Unheard = append(r.Unheard, w.Unheard...)
	slices.Sort(r.Unheard)
	r.Unheard = slices.Compact(r.Unheard)
	r.Examples = append(r.Examples, w.Examples...)
	r.Examples = r.Examples[:min(len(r.Examples), censusExamples)]
}
