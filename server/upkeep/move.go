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

	"github.com/prometheus/client_golang/prometheus"
)

// MoveDisk is a disk of this node that slots move to and away from.
type MoveDisk interface {
	FillDisk
	Delete(ctx context.Context, keys []cluster.ShardKey) error
}

// ShardAppender stores shards on any node's disks.
type ShardAppender interface {
	AppendShards(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error
}

// MoverConfig is what a Mover needs. Zero means the default in brackets.
type MoverConfig struct {
	Disks  func() []MoveDisk // those in service
	Node   cluster.NodeID
	Layout func() *cluster.Layout // with the slots that are still moving
	// Settled is the epoch that a disk of any node has come to: it accepts no append
	// of an earlier one, and none is under way.
	Settled func(ctx context.Context, d cluster.Disk) (cluster.Epoch, error)
	// Moved reports a slot whose owner has all of its shards. It does not wait.
	Moved  func(e cluster.Epoch, s cluster.Slot)
	Lists  ShardLister
	Append ShardAppender
	Mender *Mender // which copies and rebuilds, at its rate
	Counts ShardCounts
	// Partitions are the ids that blobs may name.
	Partitions int

	Every    time.Duration // between two looks [500 ms]
	Retry    time.Duration // at most, before what could not be done is tried again [30 s]
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
}

// MoveProgress is how far the slots that move to a disk are.
type MoveProgress struct {
	Epoch   cluster.Epoch `json:"epoch"`
	Since   time.Time     `json:"since"`
	Slots   int           `json:"slots"` // that were to move when this began
	Done    int           `json:"slots_done"`
	Copied  int64         `json:"copied"`  // shards
	Rebuilt int64         `json:"rebuilt"` // shards
	Bytes   int64         `json:"bytes"`
	Waiting string        `json:"waiting,omitempty"` // why some slots are not done
}

// Mover makes the layout true on the disks of this node. A slot that is new to a
// disk is filled from those who held it before and, where they fail, from k others;
// once its owner has everything, that is reported, and only when the region has
// agreed to it do those who held it before let go of their shards. All of it is
// found out by comparing lists: a move that was cut short goes on where it was.
type Mover struct {
	cfg    MoverConfig
	locks  groupLocks
	shards *prometheus.CounterVec
	bytes  prometheus.Counter
	freed  prometheus.Counter

	mu       sync.Mutex
	progress map[cluster.DiskID]MoveProgress
	kept     map[cluster.DiskID]map[cluster.PG]int
}

// NewMover registers its metrics; Run does the work.
func NewMover(cfg MoverConfig) (*Mover, error) {
	orElse(&cfg.Every, 500*time.Millisecond)
	orElse(&cfg.Retry, 30*time.Second)
	m := &Mover{cfg: cfg, progress: map[cluster.DiskID]MoveProgress{}, kept: map[cluster.DiskID]map[cluster.PG]int{},
		shards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bivalve_moved_shards_total", Help: "Shards that disks of this node were given by a new layout, by how."}, []string{"how"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_moved_bytes_total", Help: "Bytes of shards that disks of this node were given by a new layout."}),
		freed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_released_shards_total", Help: "Shards that were removed here because another disk has them by the layout."})}
	for _, how := range []string{"copied", "rebuilt"} {
		m.shards.WithLabelValues(how) // there from the start, at zero
	}
	if cfg.Registry != nil {
		if err := errors.Join(cfg.Registry.Register(m.shards), cfg.Registry.Register(m.bytes), cfg.Registry.Register(m.freed)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Run works until ctx ends.
func (m *Mover) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { perDisk(ctx, m.cfg.Every, m.cfg.Disks, m.takeOver) })
	perDisk(ctx, m.cfg.Every, m.cfg.Disks, m.letGo)
	wg.Wait()
	return nil
}

// Progress of a disk; false when nothing has moved to it since this node began.
func (m *Mover) Progress(id cluster.DiskID) (MoveProgress, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.progress[id]
	return p, ok
}

func (m *Mover) report(id cluster.DiskID, change func(*MoveProgress)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.progress[id]
	change(&p)
	m.progress[id] = p
}

// takeOver fills the slots that move to one disk.
func (m *Mover) takeOver(ctx context.Context, d MoveDisk) {
	wait, epoch, done := m.cfg.Every, cluster.Epoch(0), map[cluster.Slot]bool{}
	for ; ctx.Err() == nil; sleep(ctx, wait) {
		layout := m.cfg.Layout()
		if layout == nil || d.Failed() != nil {
			continue
		}
		if layout.Epoch != epoch {
			epoch, wait = layout.Epoch, m.cfg.Every
			clear(done)
		}
		todo := incoming(layout, d.ID(), done)
		if len(todo) == 0 {
			wait = m.cfg.Every
			continue
		}
		m.begin(d.ID(), epoch, len(todo))
		failed := m.fill(ctx, d, layout, todo, done)
		if failed == nil {
			wait = m.cfg.Every
		} else {
			wait = min(2*wait, m.cfg.Retry)
			m.cfg.Logger.Debug("some slots have not moved yet", "disk", d.ID().String(), "epoch", epoch, "err", failed)
		}
	}
}

// incoming lists the slots that move to a disk, but those that are done.
func incoming(l *cluster.Layout, id cluster.DiskID, done map[cluster.Slot]bool) (out []cluster.Slot) {
	for _, mv := range l.Moving {
		if l.Owns(id, mv.Slot.PG, mv.Slot.Index) && !done[mv.Slot] {
			out = append(out, mv.Slot)
		}
	}
	return out
}

func (m *Mover) begin(id cluster.DiskID, e cluster.Epoch, slots int) {
	m.report(id, func(p *MoveProgress) {
		if p.Epoch != e {
			*p = MoveProgress{Epoch: e, Since: m.cfg.Now(), Slots: slots}
			m.cfg.Logger.Info("slots move to a disk", "disk", id.String(), "epoch", e, "slots", slots)
		}
	})
}

// fill goes through the slots once, each by the layout as it is then: who held one may
// have been declared lost meanwhile. It ends early when the epoch is another.
func (m *Mover) fill(ctx context.Context, d MoveDisk, layout *cluster.Layout, todo []cluster.Slot, done map[cluster.Slot]bool) (first error) {
	missing, err := gapsOf(ctx, m.cfg.Counts, m.cfg.Partitions)
	if err != nil {
		m.cfg.Logger.Debug("what is known to be missing could not be asked; slots are compared with both zones", "disk", d.ID().String(), "err", err)
	}
	for _, s := range todo {
		now := m.cfg.Layout()
		if now.Epoch != layout.Epoch || ctx.Err() != nil {
			return first
		}
		err := m.fillSlot(ctx, d, now, s, missing.nearby(now, s))
		m.report(d.ID(), func(p *MoveProgress) {
			if p.Waiting = ""; err != nil {
				p.Waiting = err.Error()
			} else {
				p.Done++
			}
		})
		if err == nil {
			done[s] = true
			m.cfg.Moved(layout.Epoch, s)
		}
		first = cmp.Or(first, err)
	}
	return first
}

// maxPasses bounds how often a slot is compared in a row; more chunks than a pass
// can add are not being moved but written.
const maxPasses = 5

// fillSlot compares a slot until nothing is lacking. It is full when everything is
// there that those who held it before have or, if one of them is lost or none is left,
// everything that k others can make up for. near is what gaps.nearby says of it.
func (m *Mover) fillSlot(ctx context.Context, d MoveDisk, layout *cluster.Layout, s cluster.Slot, near bool) error {
	lock := m.locks.of(d.ID(), s.PG)
	lock.Lock()
	defer lock.Unlock()
	previous := layout.Previous(s.PG, s.Index)
	for _, before := range previous {
		if before.ID == d.ID() {
			continue
		}
		if err := m.settled(ctx, layout, before); err != nil {
			return fmt.Errorf("%s, held before: %w", s, err)
		}
	}
	// Of owners whose lists may grow by what counts on who is lost, or has a loss: those
	// of the own zone or of both are asked before the walk that is to prove it.
	var others error
	alone := len(previous) == 0 || layout.Bereft(s.PG, s.Index)
	asked, wide := alone, !near
	if asked {
		others = m.othersSettled(ctx, layout, s, near)
	}
	for range maxPasses {
		lacked := 0
		c := comparison{lists: m.cfg.Lists, mender: m.cfg.Mender, d: d, layout: layout, slot: s, near: near, filled: func(shards int, bytes int64, copied bool) {
			lacked += shards
			m.count(d.ID(), shards, bytes, copied)
		}}
		o, err := c.run(ctx)
		err = cmp.Or(err, o.filled, o.before)
		if alone || o.loss {
			err = cmp.Or(err, o.others)
			if err == nil && (!asked || o.wide && !wide) {
				asked, wide = true, o.wide
				others = m.othersSettled(ctx, layout, s, !wide)
				lacked++ // this walk proves nothing
			}
		}
		if err = cmp.Or(err, others); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if lacked == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s: still lacked shards in %d passes", s, maxPasses)
}

// settled is nil when a disk accepts no append of an epoch before the layout's, and has
// none under way.
func (m *Mover) settled(ctx context.Context, layout *cluster.Layout, d cluster.Disk) error {
	e, err := m.cfg.Settled(ctx, d)
	if err == nil && e < layout.Epoch {
		err = fmt.Errorf("is still in epoch %d", e)
	}
	if err != nil {
		return fmt.Errorf("disk %s: %w", d.ID, err)
	}
	return nil
}

// othersSettled is settled of the owners whose lists will be walked. A chunk that was
// written in an earlier epoch may count on a shard that went with the disk that held
// this slot: it is found in their lists once they take no more of it.
func (m *Mover) othersSettled(ctx context.Context, layout *cluster.Layout, s cluster.Slot, near bool) (first error) {
	for i := range layout.Groups[s.PG] {
		o := cluster.Slot{PG: s.PG, Index: cluster.ShardIndex(i)}
		if o == s || near && !sameZone(layout, o, s) {
			continue
		}
		for _, d := range layout.Holders(o.PG, o.Index) { // a write may still go to who held it before
			first = cmp.Or(first, m.settled(ctx, layout, d))
		}
	}
	return first
}

func (m *Mover) count(id cluster.DiskID, shards int, bytes int64, copied bool) {
	how := "rebuilt"
	if copied {
		how = "copied"
	}
	m.shards.WithLabelValues(how).Add(float64(shards))
	m.bytes.Add(float64(bytes))
	m.report(id, func(p *MoveProgress) {
		p.Bytes += bytes
		if copied {
			p.Copied += int64(shards)
		} else {
			p.Rebuilt += int64(shards)
		}
	})
}

// groupLocks keep the filling of a group on a disk and the removal of what an
// earlier layout left of it there apart.
type groupLocks struct {
	mu   sync.Mutex
	held map[groupOnDisk]*sync.Mutex
}

type groupOnDisk struct {
	disk cluster.DiskID
	pg   cluster.PG
}

func (l *groupLocks) of(id cluster.DiskID, pg cluster.PG) *sync.Mutex {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[groupOnDisk]*sync.Mutex{}
	}
	k := groupOnDisk{id, pg}
	if l.held[k] == nil {
		l.held[k] = &sync.Mutex{}
	}
	return l.held[k]
}
