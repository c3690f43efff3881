package replica

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// applyBatchBytes bounds one ApplyBatch, so that waiters at its front do not wait
// for all of a long queue.
const applyBatchBytes = 4 << 20

// applyItem is one step of an applier: an entry, or a task that runs alone
// between the entries before and behind it.
type applyItem struct {
	entry Entry
	conf  []byte // the membership from this entry on, if it changed
	who   *proposal
	task  func() error
	drop  func(error) // the task will not run
}

// refuse answers whoever waits for the item.
func (it *applyItem) refuse(err error) {
	if it.who != nil {
		it.who.finish(nil, unknownBecause(err))
	}
	if it.drop != nil {
		it.drop(err)
	}
}

func (it *applyItem) bytes() int { return len(it.entry.Data) + 64 }

// applier owns a group's state machine. Run drives it from one goroutine; the
// simulation steps it by hand.
type applier struct {
	g  *group
	sm StateMachine

	// open keeps Close away from queries under way.
	open   sync.RWMutex
	closed bool

	applied, durable atomic.Pointer[Applied]
	unflushed        int  // bytes applied since the last flush
	gone             bool // the state machine is lost; only step uses it
	wake             chan struct{}
	quit             chan struct{} // closed by end

	mu         sync.Mutex
	ended      error // nothing is applied any more
	queue      []applyItem
	queueBytes int
	flush      bool
	waits      []applyWait
}

// applyWait holds readers that need the state at index.
type applyWait struct {
	index   uint64
	waiters []*readWaiter
}

func newApplier(g *group, sm StateMachine, a Applied) *applier {
	ap := &applier{g: g, sm: sm, wake: make(chan struct{}, 1), quit: make(chan struct{})}
	d := sm.Durable()
	ap.applied.Store(&a)
	ap.durable.Store(&d)
	return ap
}

// add queues items. The bound is kept by full, which the loop asks before it
// takes more from raft; one Ready holds at most 8 MiB of entries.
func (ap *applier) add(items ...applyItem) {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	if ap.ended != nil {
		for i := range items {
			items[i].refuse(ap.ended)
		}
		return
	}
	ap.queue = append(ap.queue, items...)
	for i := range items {
		ap.queueBytes += items[i].bytes()
	}
	ap.ring()
}

func (ap *applier) ring() {
	select {
	case ap.wake <- struct{}{}:
	default:
	}
}

func (ap *applier) full() bool {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	return ap.queueBytes > ap.g.h.cfg.ApplyQueueBytes
}

// wantFlush asks for a flush once the queue is worked off.
func (ap *applier) wantFlush() {
	if ap.applied.Load().Index <= ap.durable.Load().Index {
		return
	}
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.flush = true
	ap.ring()
}

// waitFor answers the waiters when the state has reached index.
func (ap *applier) waitFor(index uint64, waiters []*readWaiter) {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.waits = append(ap.waits, applyWait{index, waiters})
	ap.answerReaders()
	if ap.ended != nil {
		ap.refuseReaders(ap.ended)
	}
}

func (ap *applier) refuseReaders(err error) {
	for _, w := range ap.waits {
		for _, r := range w.waiters {
			r.finish(err)
		}
	}
	ap.waits = nil
}

// end stops the applier and answers whoever waits.
func (ap *applier) end(err error) {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	if ap.ended != nil {
		return
	}
	ap.ended = err
	close(ap.quit)
	for i := range ap.queue {
		ap.queue[i].refuse(err)
	}
	ap.refuseReaders(err)
	ap.queue, ap.queueBytes, ap.flush = nil, 0, false
}

// lost tells whether err means that the state machine is of no use any more. If
// so, or if that is known already, the group leaves; err then concerns nobody else.
func (ap *applier) lost(err error) bool {
	if err == nil {
		return false
	}
	ap.mu.Lock()
	ended := ap.ended != nil
	ap.mu.Unlock()
	if ended {
		return true
	}
	role := RoleRebuilding
	switch {
	case errors.Is(err, ErrNoSpace):
		role = RoleNoSpace
	case !errors.Is(err, ErrDamaged):
		return false
	}
	ap.g.h.in.call(func() { ap.g.h.lose(ap.g, role, err) })
	return true
}

// answerReaders needs mu. It compares under mu, so a reader is never missed by
// the applier that moves on meanwhile.
func (ap *applier) answerReaders() {
	at := ap.applied.Load().Index
	left := ap.waits[:0]
	for _, w := range ap.waits {
		if w.index > at {
			left = append(left, w)
			continue
		}
		for _, r := range w.waiters {
			r.finish(nil)
		}
	}
	ap.waits = left
}

func (ap *applier) moved(a Applied) {
	ap.applied.Store(&a)
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.answerReaders()
}

func (ap *applier) close() error {
	ap.open.Lock()
	defer ap.open.Unlock()
	ap.closed = true
	return ap.sm.Close()
}

func (ap *applier) run(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-ap.quit:
			return nil
		case <-ap.wake:
		}
		for more := true; more; {
			var err error
			if more, err = ap.step(); err != nil {
				return err
			}
			select {
			case <-stop:
				return nil
			default:
			}
		}
	}
}

// step applies one batch, or runs one task or a flush. Once the state machine is
// lost it does nothing until the loop has ended it.
func (ap *applier) step() (more bool, err error) {
	if ap.gone {
		return false, nil
	}
	if more, err = ap.work(); ap.lost(err) {
		ap.gone = true
		return false, nil
	}
	return more, err
}

func (ap *applier) work() (more bool, err error) {
	batch, task, flush := ap.take()
	switch {
	case task != nil:
		return true, task()
	case len(batch) > 0:
		if err := ap.apply(batch); err != nil {
			for i := range batch {
				batch[i].refuse(err) // those not answered yet
			}
			return false, ap.halt(err)
		}
		if ap.unflushed >= ap.g.h.cfg.FlushBytes {
			return true, ap.doFlush()
		}
		return true, nil
	case flush:
		return false, ap.doFlush()
	}
	return false, nil
}

func (ap *applier) take() (batch []applyItem, task func() error, flush bool) {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	was := ap.queueBytes
	n, size := 0, 0
	for n < len(ap.queue) && size < applyBatchBytes {
		if ap.queue[n].task != nil {
			if n == 0 {
				task, n = ap.queue[0].task, 1
				size = ap.queue[0].bytes()
			}
			break
		}
		size += ap.queue[n].bytes()
		n++
	}
	if n == 0 {
		flush, ap.flush = ap.flush, false
		return nil, nil, flush
	}
	batch = ap.queue[:n:n]
	ap.queue = ap.queue[n:]
	ap.queueBytes -= size
	if limit := ap.g.h.cfg.ApplyQueueBytes; was > limit && ap.queueBytes <= limit {
		ap.g.h.in.ring()
	}
	return batch, task, false
}

func (ap *applier) apply(batch []applyItem) error {
	at := ap.applied.Load()
	entries := make([]Entry, 0, len(batch))
	first := 0
	var conf []byte
	for i := range batch {
		it := &batch[i]
		if it.entry.Index <= at.Index {
			// A snapshot brought the state beyond it; the result is not known.
			if it.who != nil {
				it.who.finish(nil, ErrUnknown)
			}
			first = i + 1
			continue
		}
		if want := at.Index + uint64(len(entries)) + 1; it.entry.Index != want {
			return fmt.Errorf("entry %d comes where %d belongs", it.entry.Index, want)
		}
		if it.conf != nil {
			conf = it.conf
		}
		entries = append(entries, it.entry)
		ap.unflushed += it.bytes()
	}
	if len(entries) == 0 {
		return nil
	}
	results, err := ap.sm.ApplyBatch(entries, conf)
	if err == nil && len(results) != len(entries) {
		err = fmt.Errorf("%d results for %d entries", len(results), len(entries))
	}
	if err != nil {
		return fmt.Errorf("apply entries %d to %d: %w", entries[0].Index, entries[len(entries)-1].Index, err)
	}
	last := entries[len(entries)-1]
	now := Applied{Index: last.Index, Term: last.Term, ConfState: at.ConfState}
	if conf != nil {
		now.ConfState = conf
	}
	ap.moved(now)
	for i := range results {
		if who := batch[first+i].who; who != nil {
			who.finish(results[i], nil)
		}
	}
	ap.g.h.metrics.applied.Add(float64(len(entries)))
	return nil
}

// halt stops the group alone, unless the state machine is lost: then another will
// do. An entry that it cannot apply no other replica can either.
func (ap *applier) halt(err error) error {
	err = fmt.Errorf("group %d: %w", ap.g.id, err)
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNoSpace) {
		return err
	}
	ap.g.h.in.call(func() { ap.g.halt(err) })
	ap.mu.Lock()
	defer ap.mu.Unlock()
	for i := range ap.queue {
		ap.queue[i].refuse(err)
	}
	ap.refuseReaders(err)
	ap.queue, ap.queueBytes = nil, 0
	return nil
}

func (ap *applier) doFlush() error {
	if err := ap.g.h.cfg.hooks.at(pointBeforeFlush, ap.g.id); err != nil {
		return err
	}
	d, err := ap.sm.Flush()
	if err != nil {
		return fmt.Errorf("group %d: flush state machine: %w", ap.g.id, err)
	}
	ap.unflushed = 0
	ap.durable.Store(&d)
	ap.g.h.metrics.flushes.Inc()
	return ap.g.h.cfg.hooks.at(pointAfterFlush, ap.g.id)
}

// snapshotPoint names where a snapshot would be if it were taken now. The one
// that is sent may be newer.
func (ap *applier) snapshotPoint() *raftpb.Snapshot {
	d := ap.durable.Load()
	if d.Index == 0 {
		return nil
	}
	return snapshotAt(*d)
}

func snapshotAt(a Applied) *raftpb.Snapshot {
	cs, err := unmarshalConf(a.ConfState)
	if err != nil {
		return nil // as good as none; openGroup refuses such a state anyway
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(a.Index), Term: proto.Uint64(a.Term), ConfState: cs,
	}}
}
