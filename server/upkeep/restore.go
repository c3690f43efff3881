package upkeep

import (
	"cmp"
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
	FillDisk
	Loss() *disk.Loss // nil: none
	Restored(*disk.Loss) error
}

// RestorerConfig is what a Restorer needs. Zero means the default in brackets.
type RestorerConfig struct {
	Disks  func() []RestoreDisk // those in service
	Lists  ShardLister
	Mender *Mender // which rebuilds
	Marks  ShardMarks
	Counts ShardCounts
	// Partitions are the ids that blobs may name.
	Partitions int

	Every    time.Duration // between two looks [1 s]
	Retry    time.Duration // at most, before what could not be compared is tried again [30 s]
	Settle   time.Duration // until a write that was under way when a loss was found is over [20 s]
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
	Marked   int64     `json:"marked"`   // shards that the partitions were told are missing
	Restored int64     `json:"restored"` // shards
	Bytes    int64     `json:"restored_bytes"`
	Waiting  string    `json:"waiting,omitempty"` // why some groups are not done
}

// Restorer gives a disk back what it has lost: for each placement group of which
// the disk owns a shard it compares its list with those of the other owners, and
// rebuilds what it lacks. Before that it has the partitions mark what is missing, so
// that the counts are true at once, and the healers help with what is most endangered.
// Of slots that move away from the disk it only marks what is missing; their new owners
// make up for it, and must not believe the disk's list: the loss stays until none moves
// away any more. Nothing is removed.
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
	orElse(&cfg.Settle, 20*time.Second)
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
	var known *disk.Loss
	var found time.Time
	for ctx.Err() == nil {
		loss := d.Loss()
		if loss != known {
			known, found = loss, r.cfg.Now()
		}
		left := r.cfg.Settle - r.cfg.Now().Sub(found)
		switch err := r.restore(ctx, d, loss, left <= 0); {
		case err == nil:
			wait = r.cfg.Every
		case errors.Is(err, errUnsettled):
			wait = r.cfg.Every
			r.report(d.ID(), func(p *RestoreProgress) { p.Waiting = err.Error() })
			sleep(ctx, left)
			continue
		default:
			r.cfg.Logger.Debug("a disk is not restored yet", "disk", d.ID().String(), "err", err)
			wait = min(2*wait, r.cfg.Retry)
		}
		sleep(ctx, wait)
	}
}

// errUnsettled: all is there that others list, but a chunk that was being written when
// the loss was found may have got to them later.
var errUnsettled = errors.New("writes may be under way of which the disk has lost its shard")

// restore goes through all groups of the disk. It is done when all who can tell what
// the disk should have were heard, and every shard that k others hold is there again.
// settled tells that no write is under way any more that counts on what was lost.
func (r *Restorer) restore(ctx context.Context, d RestoreDisk, loss *disk.Loss, settled bool) error {
	if loss == nil || d.Failed() != nil {
		return nil
	}
	layout := r.cfg.Mender.cfg.Layout()
	if layout == nil {
		return fmt.Errorf("%w: the region has no layout yet", cluster.ErrUnreachable)
	}
	missing, err := gapsOf(ctx, r.cfg.Counts, r.cfg.Partitions)
	if err != nil {
		r.cfg.Logger.Debug("what is known to be missing could not be asked; a disk is compared with both zones", "disk", d.ID().String(), "err", err)
	}
	filled := func(shards int, bytes int64, _ bool) {
		r.shards.Add(float64(shards))
		r.report(d.ID(), func(p *RestoreProgress) { p.Restored += int64(shards); p.Bytes += bytes })
	}
	mine, parting := slotsOf(layout, comparison{lists: r.cfg.Lists, mender: r.cfg.Mender, d: d, layout: layout, filled: filled}, missing)
	r.cfg.Logger.Info("restoring a disk", "disk", d.ID().String(), "groups", len(mine), "reason", loss.Reason)
	r.report(d.ID(), func(p *RestoreProgress) {
		*p = RestoreProgress{Reason: loss.Reason, Since: loss.Since, Groups: len(mine), Restored: p.Restored, Bytes: p.Bytes}
	})
	first := r.mark(ctx, layout, d, append(mine[:len(mine):len(mine)], parting...))
	for _, c := range mine {
		o, err := c.run(ctx)
		err = cmp.Or(err, o.filled, o.before, o.others)
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
	switch {
	case first != nil:
		return first
	case r.cfg.Mender.cfg.Layout().Epoch != layout.Epoch:
		return errors.New("the layout has changed: those who were heard may have let go of some shards")
	case !settled:
		return errUnsettled
	}
	if err := r.parted(ctx, d, loss, layout.Epoch); err != nil {
		return err
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

// slotsOf makes one comparison like c for each slot that its disk owns, and for each that
// moves away from it.
func slotsOf(layout *cluster.Layout, c comparison, missing gaps) (mine, parting []comparison) {
	for pg := range layout.Groups {
		for i := range layout.Groups[pg] {
			c.slot = cluster.Slot{PG: cluster.PG(pg), Index: cluster.ShardIndex(i)}
			c.near = missing.nearby(layout, c.slot)
			switch {
			case layout.Owns(c.d.ID(), c.slot.PG, c.slot.Index):
				mine = append(mine, c)
			case layout.Holds(c.d.ID(), c.slot.PG, c.slot.Index):
				parting = append(parting, c)
			}
		}
	}
	return mine, parting
}

// parted waits until no slot moves away from the disk any more. Those that it owns were
// found whole in this epoch, and stay so.
func (r *Restorer) parted(ctx context.Context, d RestoreDisk, loss *disk.Loss, e cluster.Epoch) error {
	for ; ; sleep(ctx, r.cfg.Every) {
		layout := r.cfg.Mender.cfg.Layout()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case layout.Epoch != e || d.Loss() != loss || d.Failed() != nil:
			return errors.New("the layout or the disk has changed meanwhile")
		}
		n := 0
		for _, mv := range layout.Moving {
			if !layout.Owns(d.ID(), mv.Slot.PG, mv.Slot.Index) && layout.Holds(d.ID(), mv.Slot.PG, mv.Slot.Index) {
				n++
			}
		}
		if n == 0 {
			return nil
		}
		r.report(d.ID(), func(p *RestoreProgress) { p.Waiting = fmt.Sprintf("%d slots are still moving away from it", n) })
	}
}

// mark tells the partitions what the disk lacks.
func (r *Restorer) mark(ctx context.Context, l *cluster.Layout, d RestoreDisk, mine []comparison) error {
	var first error
	marks := &sparing{ShardMarks: r.cfg.Marks, now: r.cfg.Now}
	for _, c := range mine {
		n, err := r.markSlot(ctx, marks, l, d, c)
		if ctx.Err() != nil || d.Failed() != nil {
			return cmp.Or(err, ctx.Err(), d.Failed())
		}
		r.report(d.ID(), func(p *RestoreProgress) { p.Marked += int64(n) })
		first = cmp.Or(first, err)
	}
	return first
}

// markSlot marks what the disk lacks of one slot, and no other holder of the slot has, by
// the lists of its own zone, and by those of both if these cannot tell.
func (r *Restorer) markSlot(ctx context.Context, marks ShardMarks, l *cluster.Layout, d RestoreDisk, c comparison) (held int, err error) {
	lacks := func(k cluster.ShardKey) (bool, error) {
		_, err := d.Stat(k)
		if errors.Is(err, cluster.ErrNotFound) {
			return true, nil
		}
		return false, err
	}
	if c.near {
		g := listsOf(r.cfg.Lists, l, c.slot, d.ID())
		if held, err = markSlot(ctx, marks, r.cfg.Partitions, append(g.before, g.own...), l, c.slot, lacks); sure(g.own) || ctx.Err() != nil {
			return held, err
		}
	}
	g := listsOf(r.cfg.Lists, l, c.slot, d.ID())
	return markSlot(ctx, marks, r.cfg.Partitions, append(g.before, g.others()...), l, c.slot, lacks)
}
