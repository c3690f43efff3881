package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"

	"github.com/prometheus/client_golang/prometheus"
)

// RestoreDisk is a disk of this node that may have lost shards without knowing
// which.
type RestoreDisk interface {
	ID() cluster.DiskID
	Failed() error
	Loss() *disk.Loss // nil: none
	Restored(*disk.Loss) error
	Stat(cluster.ShardKey) (cluster.ShardInfo, error)
	Append(ctx context.Context, shards []cluster.Shard) error
}

// ShardLister lists the shards of any node's disks in key order.
type ShardLister interface {
	ListShards(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error)
}

// RestorerConfig is what a Restorer needs. Zero means the default in brackets.
type RestorerConfig struct {
	Disks  func() []RestoreDisk // those in service
	Lists  ShardLister
	Mender *Mender // which rebuilds

	Every    time.Duration // between two looks [1 s]
	Retry    time.Duration // at most, before what could not be compared is tried again [30 s]
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
}

// RestoreProgress is how far the comparison of a disk with the others is.
type RestoreProgress struct {
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"` // of the loss
	Groups   int       `json:"groups"`
	Done     int       `json:"groups_done"`
	Restored int64     `json:"restored"` // shards
	Bytes    int64     `json:"restored_bytes"`
	Waiting  string    `json:"waiting,omitempty"` // why some groups are not done
}

// Restorer gives a disk back what it has lost: for each placement group of which
// the disk owns a shard it compares its list with those of the other owners, and
// rebuilds what it lacks. No metadata is asked; nothing is removed.
type Restorer struct {
	cfg    RestorerConfig
	shards prometheus.Counter

	mu       sync.Mutex
	progress map[cluster.DiskID]RestoreProgress
}

// NewRestorer registers its metrics; Run does the work.
func NewRestorer(cfg RestorerConfig) (*Restorer, error) {
	orElse(&cfg.Every, time.Second)
	orElse(&cfg.Retry, 30*time.Second)
	r := &Restorer{cfg: cfg, progress: map[cluster.DiskID]RestoreProgress{}, shards: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "bivalve_restored_shards_total", Help: "Shards that a disk of this node had lost and that were rebuilt."})}
	if cfg.Registry != nil {
		if err := cfg.Registry.Register(r.shards); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Run works until ctx ends.
func (r *Restorer) Run(ctx context.Context) error {
	perDisk(ctx, r.cfg.Every, r.cfg.Disks, r.watch)
	return nil
}

// Progress of a disk; false when it has lost nothing.
func (r *Restorer) Progress(id cluster.DiskID) (RestoreProgress, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.progress[id]
	return p, ok
}

func (r *Restorer) report(id cluster.DiskID, change func(*RestoreProgress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.progress[id]
	change(&p)
	r.progress[id] = p
}

// watch restores one disk whenever it has a loss.
func (r *Restorer) watch(ctx context.Context, d RestoreDisk) {
	defer func() {
		r.mu.Lock()
		delete(r.progress, d.ID())
		r.mu.Unlock()
	}()
	wait := r.cfg.Every
	for ctx.Err() == nil {
		loss := d.Loss()
		if loss == nil || d.Failed() != nil {
			wait = r.cfg.Every
		} else if err := r.restore(ctx, d, loss); err != nil {
			r.cfg.Logger.Debug("a disk is not restored yet", "disk", d.ID().String(), "err", err)
			wait = min(2*wait, r.cfg.Retry)
		}
		sleep(ctx, wait)
	}
}

// restore goes through all groups of the disk. It is done when every other owner
// of every group was heard and every shard that k others hold is there again.
func (r *Restorer) restore(ctx context.Context, d RestoreDisk, loss *disk.Loss) error {
	layout := r.cfg.Mender.cfg.Layout()
	if layout == nil {
		return fmt.Errorf("%w: the region has no layout yet", cluster.ErrUnreachable)
	}
	var mine []comparison
	for pg := range layout.Groups {
		for i := range layout.Groups[pg] {
			if layout.Disk(cluster.PG(pg), cluster.ShardIndex(i)).ID == d.ID() {
				mine = append(mine, comparison{r: r, d: d, layout: layout, pg: cluster.PG(pg), index: cluster.ShardIndex(i)})
			}
		}
	}
	r.cfg.Logger.Info("restoring a disk", "disk", d.ID().String(), "groups", len(mine), "reason", loss.Reason)
	r.report(d.ID(), func(p *RestoreProgress) {
		*p = RestoreProgress{Reason: loss.Reason, Since: loss.Since, Groups: len(mine), Restored: p.Restored, Bytes: p.Bytes}
	})
	var first error
	for _, c := range mine {
		err := c.run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.report(d.ID(), func(p *RestoreProgress) {
			if err == nil {
				p.Done++
			} else {
				p.Waiting = err.Error()
			}
		})
		if err != nil && first == nil {
			first = err
		}
		if errors.Is(err, cluster.ErrDiskFailed) && d.Failed() != nil {
			return err
		}
	}
	if first != nil {
		return first
	}
	if err := d.Restored(loss); err != nil {
		return err
	}
	p, _ := r.Progress(d.ID())
	r.cfg.Logger.Info("disk restored", "disk", d.ID().String(), "shards", p.Restored, "bytes", p.Bytes)
	r.mu.Lock()
	delete(r.progress, d.ID())
	r.mu.Unlock()
	return nil
}
