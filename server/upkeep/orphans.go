package upkeep

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"

	"github.com/prometheus/client_golang/prometheus"
)

// OrphanDisk is a disk of this node.
type OrphanDisk interface {
	ID() cluster.DiskID
	Failed() error
	List(ctx context.Context, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error)
	Delete(ctx context.Context, keys []cluster.ShardKey) error
}

// BlobConsent is where a partition says what it knows of blobs. The answer must be one
// that its leader has confirmed with a majority: a copy that lags, or a zone that was
// away, does not know of what was written since.
type BlobConsent interface {
	BlobStates(ctx context.Context, g replica.GroupID, ids []metadata.BlobID) ([]metadata.BlobState, error)
}

// SweeperConfig is what a Sweeper needs. Zero means the default in brackets.
type SweeperConfig struct {
	Disks   func() []OrphanDisk // those in service
	Consent BlobConsent
	// Clock is the time that the region agrees has come, in Unix nanoseconds; it may lag
	// and is never ahead. 0: not known.
	Clock      func() (int64, error)
	Groups     func() int // placement groups; 0: there is no layout yet
	Partitions int

	Age      time.Duration // of the youngest shards that are looked at [24 h]
	Every    time.Duration // from the begin of a pass over a disk to that of the next [24 h]
	Rest     time.Duration // between two questions to the partitions [100 ms]
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
}

// OrphanCount is what a pass over a disk has come to.
type OrphanCount struct {
	Looked  int64 `json:"looked_at"`       // shards that are old enough
	Found   int64 `json:"orphans"`         // of these, of blobs that their partition does not know
	Removed int64 `json:"removed"`         // of these
	Bytes   int64 `json:"removed_bytes"`   // of the removed
	Unasked int64 `json:"without_consent"` // of those looked at: their partition did not answer, and they stay
}

// OrphanProgress is the pass under way, or that waits for its time when Fraction is 1.
type OrphanProgress struct {
	Started  time.Time `json:"started"`
	Fraction float64   `json:"fraction"`
	OrphanCount
	Last  time.Time `json:"last_full_pass,omitzero"` // when one ended in which every partition answered
	Error string    `json:"error,omitempty"`         // why the last one that ended was not such a pass
	// Since the disk was opened.
	RemovedTotal int64 `json:"removed_total"`
	BytesTotal   int64 `json:"removed_bytes_total"`
}

// Sweeper removes orphans: shards that a write left which broke off, or whose commit did
// not happen, or that came to a disk after their blob was deleted. A shard is removed
// only when its blob is so old that it gets no record any more
// (metadata.MaxUncommitted; the age here is twice that), and the partition that the
// blob's id names says after that that it knows no such blob. So nothing that is read,
// being written, moved, healed, shared by copies, or queued as garbage is touched; and
// where a partition does not answer, nothing at all.
type Sweeper struct {
	cfg    SweeperConfig
	shards prometheus.Counter
	bytes  prometheus.Counter

	mu       sync.Mutex
	progress map[cluster.DiskID]OrphanProgress
}

// sweepBatch is how many shards are judged at a time, and removed with one sync.
const sweepBatch = 1000

// NewSweeper registers its metrics; Run does the work.
func NewSweeper(cfg SweeperConfig) (*Sweeper, error) {
	orElse(&cfg.Age, 2*metadata.MaxUncommitted)
	orElse(&cfg.Every, 24*time.Hour)
	orElse(&cfg.Rest, 100*time.Millisecond)
	s := &Sweeper{cfg: cfg, progress: map[cluster.DiskID]OrphanProgress{},
		shards: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_orphans_removed_total", Help: "Shards of no object that were removed from disks of this node."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_orphans_removed_bytes_total", Help: "Bytes of these shards."})}
	if cfg.Registry != nil {
		for _, c := range []prometheus.Collector{s.shards, s.bytes} {
			if err := cfg.Registry.Register(c); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Run works until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	perDisk(ctx, min(time.Second, s.cfg.Every), s.cfg.Disks, s.watch)
	return nil
}

// Progress of a disk; false before its first pass.
func (s *Sweeper) Progress(id cluster.DiskID) (OrphanProgress, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.progress[id]
	return p, ok
}

func (s *Sweeper) report(id cluster.DiskID, change func(*OrphanProgress)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.progress[id]
	change(&p)
	s.progress[id] = p
}

// watch goes over one disk again and again. After a start it lets other work go first;
// a pass that lacked answers is made again sooner.
func (s *Sweeper) watch(ctx context.Context, d OrphanDisk) {
	wait := s.cfg.Every / 24
	for sleep(ctx, wait) {
		wait = s.cfg.Every
		if d.Failed() != nil {
			continue
		}
		began := s.cfg.Now()
		s.report(d.ID(), func(p *OrphanProgress) {
			*p = OrphanProgress{Started: began.UTC(), Last: p.Last, Error: p.Error, RemovedTotal: p.RemovedTotal, BytesTotal: p.BytesTotal}
		})
		err := s.pass(ctx, d)
		if ctx.Err() != nil {
			return
		}
		s.report(d.ID(), func(p *OrphanProgress) {
			if p.Fraction, p.Error = 1, ""; err != nil {
				p.Error = err.Error()
			} else {
				p.Last = s.cfg.Now().UTC()
			}
		})
		if err != nil {
			s.cfg.Logger.Debug("some shards could not be looked at for orphans", "disk", d.ID().String(), "err", err)
			wait = s.cfg.Every / 24
		}
		if p, _ := s.Progress(d.ID()); p.Removed > 0 {
			s.cfg.Logger.Info("orphans were removed", "disk", d.ID().String(), "shards", p.Removed, "bytes", p.Bytes)
		}
		wait = max(s.cfg.Rest, wait-s.cfg.Now().Sub(began))
	}
}

// pass goes over all shards of a disk once. The error is of the first that could not be
// judged; others go on.
func (s *Sweeper) pass(ctx context.Context, d OrphanDisk) error {
	agreed, err := s.cfg.Clock()
	if err != nil || agreed == 0 {
		return cmp.Or(err, fmt.Errorf("the region has not agreed on its clock yet"))
	}
	now := time.Unix(0, agreed)
	var first error
	var batch []cluster.ShardInfo
	judge := func() {
		first = cmp.Or(first, s.judge(ctx, d, batch))
		batch = batch[:0]
		sleep(ctx, s.cfg.Rest)
	}
	groups := s.cfg.Groups()
	for pg := 0; pg < groups && ctx.Err() == nil; pg++ {
		for after, more := (*cluster.ShardKey)(nil), true; more && ctx.Err() == nil; {
			page, err := d.List(ctx, cluster.PG(pg), after, listPage)
			if err != nil {
				return cmp.Or(first, err)
			}
			for _, row := range page {
				if ripe(row.Key.Blob, now, s.cfg.Age) {
					batch = append(batch, row)
				}
				if len(batch) == sweepBatch {
					judge()
				}
			}
			if more = len(page) == listPage; more {
				after = &page[len(page)-1].Key
			}
		}
		s.report(d.ID(), func(p *OrphanProgress) { p.Fraction = float64(pg+1) / float64(groups) })
	}
	if len(batch) > 0 {
		judge()
	}
	return first
}

// judge asks the partitions about shards and removes those of which they know nothing.
func (s *Sweeper) judge(ctx context.Context, d OrphanDisk, batch []cluster.ShardInfo) error {
	byPartition := map[replica.GroupID]map[metadata.BlobID]metadata.BlobState{}
	for _, row := range batch {
		g := replica.GroupID(row.Key.Blob.Partition())
		if byPartition[g] == nil {
			byPartition[g] = map[metadata.BlobID]metadata.BlobState{}
		}
		byPartition[g][metadata.BlobID(row.Key.Blob)] = metadata.BlobHeld
	}
	var first error
	for g, states := range byPartition {
		if err := s.ask(ctx, g, states); err != nil {
			first = cmp.Or(first, err)
			delete(byPartition, g)
		}
	}
	var keys []cluster.ShardKey
	var bytes, unasked int64
	for _, row := range batch {
		states, asked := byPartition[replica.GroupID(row.Key.Blob.Partition())]
		switch {
		case !asked:
			unasked++
		case states[metadata.BlobID(row.Key.Blob)] == metadata.BlobUnknown:
			keys, bytes = append(keys, row.Key), bytes+int64(row.Bytes)
		}
	}
	s.report(d.ID(), func(p *OrphanProgress) {
		p.Looked, p.Found, p.Unasked = p.Looked+int64(len(batch)), p.Found+int64(len(keys)), p.Unasked+unasked
	})
	if len(keys) == 0 {
		return first
	}
	if err := d.Delete(ctx, keys); err != nil {
		return cmp.Or(first, err)
	}
	s.shards.Add(float64(len(keys)))
	s.bytes.Add(float64(bytes))
	s.report(d.ID(), func(p *OrphanProgress) {
		p.Removed, p.Bytes = p.Removed+int64(len(keys)), p.Bytes+bytes
		p.RemovedTotal, p.BytesTotal = p.RemovedTotal+int64(len(keys)), p.BytesTotal+bytes
	})
	return first
}

// ask fills in what a partition knows of the blobs. An id that names no partition of
// the region has nobody who could consent.
func (s *Sweeper) ask(ctx context.Context, g replica.GroupID, states map[metadata.BlobID]metadata.BlobState) error {
	if g < 1 || int(g) > s.cfg.Partitions {
		return fmt.Errorf("%w: shards of blobs of partition %d, there are %d", cluster.ErrInvalid, g, s.cfg.Partitions)
	}
	ids := make([]metadata.BlobID, 0, len(states))
	for id := range states {
		ids = append(ids, id)
	}
	got, err := consent(ctx, s.cfg.Consent, g, ids)
	if err != nil {
		return fmt.Errorf("partition %d: %w", g, err)
	}
	if len(got) != len(ids) {
		return fmt.Errorf("%w: %d answers for %d blobs", metadata.ErrMalformed, len(got), len(ids))
	}
	for i, id := range ids {
		states[id] = got[i]
	}
	return nil
}
