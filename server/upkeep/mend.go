package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/erasure"

	"github.com/prometheus/client_golang/prometheus"
)

// MendDisk is a disk of this node that knows which of its shards are damaged.
type MendDisk interface {
	ID() cluster.DiskID
	Failed() error
	Damaged(limit int) []disk.DamagedShard
	DamageFound() <-chan struct{} // closed at the next find
	// Check verifies a shard; if it is damaged, Damaged lists it from now on.
	Check(ctx context.Context, key cluster.ShardKey) error
	// Mend replaces a damaged shard by the same content. cluster.ErrNotFound: it
	// was deleted meanwhile; cluster.ErrInvalid: the content is another.
	Mend(ctx context.Context, s cluster.Shard) error
}

// ShardReader reads shards of any node, this one included. It does not verify.
type ShardReader interface {
	ReadShard(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error)
}

// DamageReports hears of shards that did not check.
type DamageReports interface {
	Damaged(disk cluster.DiskID, key cluster.ShardKey, err error)
}

// MenderConfig is what a Mender needs. Zero means the default in brackets.
type MenderConfig struct {
	Disks   func() []MendDisk // those in service
	Shards  ShardReader
	Layout  func() *cluster.Layout
	DiskUp  func(cluster.Disk) bool // a hint: such disks are asked first
	Reports DamageReports
	Zone    cluster.Zone // of this node
	Dir     string       // where damage that stays is remembered, one file per disk

	Parallel    int           // shards under repair at a time [2]
	Rate        int64         // bytes read from others in a second [64 MiB]
	Every       time.Duration // between two looks for new disks [1 s]
	ReadTimeout time.Duration // for one shard to arrive [10 s]
	Logger      *slog.Logger
	Registry    prometheus.Registerer
	Now         func() time.Time
}

// Mender heals damaged shards where they lie: it rebuilds each from any k others
// of its chunk, those of its own zone first. The list of them is the disk's: a shard
// that cannot be mended stays on it, is tried again, and is never deleted.
type Mender struct {
	cfg    MenderConfig
	codecs erasure.Codecs
	room   chan struct{} // one token per repair under way
	shards prometheus.Counter
	bytes  *prometheus.CounterVec

	mu    sync.Mutex
	pace  pacer
	stuck map[cluster.DiskID]Stuck
}

// Stuck tells how many damaged shards of a disk could not be mended at the last
// try, and why the first of them could not.
type Stuck struct {
	Shards int    `json:"shards"`
	Why    string `json:"why"`
}

// NewMender makes Dir and registers its metrics; Run does the work.
func NewMender(cfg MenderConfig) (*Mender, error) {
	orElse(&cfg.Parallel, 2)
	orElse(&cfg.Rate, 64<<20)
	orElse(&cfg.Every, time.Second)
	orElse(&cfg.ReadTimeout, 10*time.Second)
	m := &Mender{cfg: cfg, room: make(chan struct{}, cfg.Parallel), pace: pacer{now: cfg.Now}, stuck: map[cluster.DiskID]Stuck{},
		shards: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_mended_shards_total", Help: "Damaged shards of this node that were rebuilt and replaced."}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bivalve_mended_bytes_total", Help: "Bytes of other shards read to mend damaged ones, by the zone that they came from."},
			[]string{"from"})}
	for _, from := range []string{"own", "other"} {
		m.bytes.WithLabelValues(from) // there from the start, at zero
	}
	if cfg.Registry != nil {
		if err := errors.Join(cfg.Registry.Register(m.shards), cfg.Registry.Register(m.bytes)); err != nil {
			return nil, err
		}
	}
	return m, os.MkdirAll(cfg.Dir, 0o700)
}

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run works until ctx ends.
func (m *Mender) Run(ctx context.Context) error {
	perDisk(ctx, m.cfg.Every, m.cfg.Disks, m.watch)
	return nil
}

// Stuck is what the last try at the damaged shards of a disk left.
func (m *Mender) Stuck(id cluster.DiskID) Stuck {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stuck[id]
}

func (m *Mender) setStuck(id cluster.DiskID, s Stuck) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stuck[id] = s
}

// mendBatch is how many shards are taken from a disk's list at a time; a shard
// that could not be mended is tried again after mendRetry, and ever later up to
// mendRetryMost.
const (
	mendBatch     = 256
	mendRetry     = time.Second
	mendRetryMost = time.Minute
)

// wait is one shard that could not be mended.
type wait struct {
	until time.Time
	after time.Duration
	why   error
}

// watch mends what is damaged on one disk, at once when something is found.
func (m *Mender) watch(ctx context.Context, d MendDisk) {
	defer m.setStuck(d.ID(), Stuck{})
	kept := m.recall(ctx, d)
	waiting := map[cluster.ShardKey]wait{}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		found := d.DamageFound()
		again.Stop()
		next := m.round(ctx, d, waiting)
		if later := kept.keep(false); later > 0 && (next == 0 || later < next) {
			next = later
		}
		if next > 0 {
			again.Reset(next)
		}
		select {
		case <-ctx.Done():
			kept.keep(true)
			return
		case <-found:
		case <-again.C:
		}
	}
}

// round tries every damaged shard that is due and tells when the next will be; 0:
// none waits.
func (m *Mender) round(ctx context.Context, d MendDisk, waiting map[cluster.ShardKey]wait) time.Duration {
	mended, before := 0, len(waiting)
	for due := m.due(d, waiting); len(due) > 0 && ctx.Err() == nil; due = m.due(d, waiting) {
		for _, s := range due {
			err := m.mendOne(ctx, d, s)
			if ctx.Err() != nil {
				return 0
			}
			// The wait of what is done ends when its disk lists it no more, at once.
			w := waiting[s.Key]
			w.after = min(mendRetryMost, max(mendRetry, 2*w.after))
			w.until, w.why = m.cfg.Now().Add(w.after), err
			waiting[s.Key] = w
			switch {
			case err == nil:
				mended++
			case !errors.Is(err, cluster.ErrNotFound): // deleted meanwhile: it stays deleted
				m.cfg.Logger.Debug("a damaged shard stays", "disk", d.ID().String(), "shard", s.Key.String(), "err", err)
			}
		}
	}
	stuck := m.report(d, waiting)
	if mended > 0 {
		m.cfg.Logger.Info("damaged shards were mended", "disk", d.ID().String(), "shards", mended, "left", stuck.Shards)
	}
	if stuck.Shards > before {
		m.cfg.Logger.Warn("damaged shards cannot be mended now", "disk", d.ID().String(), "shards", stuck.Shards, "err", stuck.Why)
	}
	var next time.Duration
	for _, w := range waiting {
		if left := max(time.Millisecond, w.until.Sub(m.cfg.Now())); next == 0 || left < next {
			next = left
		}
	}
	return next
}

// due lists damaged shards that are not waiting, and forgets the waits of those
// that are damaged no more.
func (m *Mender) due(d MendDisk, waiting map[cluster.ShardKey]wait) []disk.DamagedShard {
	list := d.Damaged(len(waiting) + mendBatch)
	listed := make(map[cluster.ShardKey]bool, len(list))
	due := list[:0]
	for _, s := range list {
		listed[s.Key] = true
		if !m.cfg.Now().Before(waiting[s.Key].until) {
			due = append(due, s)
		}
	}
	for k := range waiting {
		if !listed[k] {
			delete(waiting, k)
		}
	}
	return due
}

func (m *Mender) report(d MendDisk, waiting map[cluster.ShardKey]wait) Stuck {
	stuck := Stuck{Shards: len(waiting)}
	for _, s := range d.Damaged(len(waiting)) { // the oldest first
		if w := waiting[s.Key]; w.why != nil {
			stuck.Why = w.why.Error()
			break
		}
	}
	m.setStuck(d.ID(), stuck)
	return stuck
}

// mendOne mends one shard when there is room for another repair.
func (m *Mender) mendOne(ctx context.Context, d MendDisk, s disk.DamagedShard) error {
	if err := d.Failed(); err != nil {
		return fmt.Errorf("cannot be mended in place: %w", err)
	}
	select {
	case m.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.room }()
	return m.mend(ctx, d, s)
}
