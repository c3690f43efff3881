package upkeep

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"bivalve/cluster"
)

// AbsenceConfig is what an AbsenceWatch needs. Zero means the default in brackets.
type AbsenceConfig struct {
	Marks      ShardMarks
	Lists      ShardLister
	Layout     func() *cluster.Layout
	DiskUp     func(cluster.Disk) bool
	ZoneDown   func(cluster.Zone) bool
	Leader     RootLeader
	Partitions int

	After  time.Duration // a disk away for so long counts as lost [15 min]
	Every  time.Duration // between two looks [1 s]
	Retry  time.Duration // before groups are tried again that could not be heard [1 min]
	Logger *slog.Logger
	Now    func() time.Time
}

// AbsenceWatch counts what a disk that stays away takes with it: after a delay, so
// that a node which merely restarts marks nothing, what the other owners of its
// placement groups hold is marked as missing on it. What is marked is healed when the
// layout gives its place to another disk, or when the disk is back. The disks of a
// zone that is down as a whole are left out: what the zone takes with it is counted as
// it is, and it comes back with all that it had.
type AbsenceWatch struct {
	cfg AbsenceConfig

	mu   sync.Mutex
	away map[cluster.DiskID]*absence
}

// absence is one disk that is away.
type absence struct {
	since  time.Time
	marked bool
	next   time.Time // of the next try
}

// NewAbsenceWatch is ready to Run.
func NewAbsenceWatch(cfg AbsenceConfig) *AbsenceWatch {
	orElse(&cfg.After, 15*time.Minute)
	orElse(&cfg.Every, time.Second)
	orElse(&cfg.Retry, time.Minute)
	return &AbsenceWatch{cfg: cfg, away: map[cluster.DiskID]*absence{}}
}

// Run watches until ctx ends, while this node leads the root group.
func (w *AbsenceWatch) Run(ctx context.Context) error {
	t := time.NewTicker(w.cfg.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		l := w.cfg.Layout()
		if l == nil || !w.cfg.Leader() {
			w.mu.Lock()
			clear(w.away)
			w.mu.Unlock()
			continue
		}
		for _, d := range w.due(l) {
			w.mark(ctx, l, d)
		}
	}
}

// due notes who is away since when, and tells which disks are to be marked now.
func (w *AbsenceWatch) due(l *cluster.Layout) []cluster.Disk {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.cfg.Now()
	zones := zonesOf(l)
	var out []cluster.Disk
	for _, d := range l.Disks {
		if w.cfg.DiskUp(d) || w.cfg.ZoneDown(zones[d.ID]) {
			delete(w.away, d.ID)
			continue
		}
		a := w.away[d.ID]
		if a == nil {
			a = &absence{since: now}
			w.away[d.ID] = a
		}
		if !a.marked && now.Sub(a.since) >= w.cfg.After && !now.Before(a.next) {
			out = append(out, d)
		}
	}
	return out
}

// zonesOf tells the zone of each disk that owns a place.
func zonesOf(l *cluster.Layout) map[cluster.DiskID]cluster.Zone {
	out := map[cluster.DiskID]cluster.Zone{}
	for pg := range l.Groups {
		for i := range l.Groups[pg] {
			pg, i := cluster.PG(pg), cluster.ShardIndex(i)
			out[l.Disk(pg, i).ID] = l.ZoneOf(pg, i)
		}
	}
	return out
}

// mark tells the partitions what the disk takes with it.
func (w *AbsenceWatch) mark(ctx context.Context, l *cluster.Layout, d cluster.Disk) {
	w.cfg.Logger.Warn("a disk stays away; its shards count as missing", "disk", d.ID.String(), "node", d.Node)
	var shards int
	var first error
	marks := &sparing{ShardMarks: w.cfg.Marks, now: w.cfg.Now}
	stop := func() bool { return ctx.Err() != nil || w.cfg.DiskUp(d) || !w.cfg.Leader() }
	for pg := range l.Groups {
		for i := range l.Groups[pg] {
			slot := cluster.Slot{PG: cluster.PG(pg), Index: cluster.ShardIndex(i)}
			// What moves to the disk lies where it was before, unless one who had it is lost.
			whole := len(l.Previous(slot.PG, slot.Index)) > 0 && !l.Bereft(slot.PG, slot.Index)
			if l.Disk(slot.PG, slot.Index).ID != d.ID || whole || stop() {
				continue
			}
			lists := listsOf(w.cfg.Lists, l, slot, d.ID)
			n, err := markSlot(ctx, marks, w.cfg.Partitions, append(lists.before, lists.others()...), l, slot, func(cluster.ShardKey) (bool, error) {
				return !stop(), nil
			})
			shards += n
			first = cmp.Or(first, err)
		}
	}
	if stop() {
		return // it is back: what was marked is found there and taken off again
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.away[d.ID]; a != nil {
		a.marked, a.next = first == nil, w.cfg.Now().Add(w.cfg.Retry)
	}
	if first != nil {
		w.cfg.Logger.Debug("what a disk takes with it is not all marked yet", "disk", d.ID.String(), "err", first)
		return
	}
	w.cfg.Logger.Info("the shards of a disk that stays away are marked", "disk", d.ID.String(), "shards", shards)
}
