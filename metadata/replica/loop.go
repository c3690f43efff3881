package replica

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Points at which the tests end a host's life.
const (
	pointBeforeSave     = "before-save"
	pointAfterSave      = "after-save" // saved, nothing sent
	pointBeforeFlush    = "before-flush"
	pointAfterFlush     = "after-flush"
	pointBeforeInstall  = "before-install"
	pointAfterInstall   = "after-install" // state machine replaced, log not yet reset
	pointBeforeCompact  = "before-compact"
	pointSnapshotQueued = "snapshot-queued"
)

// ready is one group's work of a turn.
type ready struct {
	g      *group
	rd     raft.Ready
	update Update
}

// turn is one pass: drain what arrived, save for all groups at once, send, and
// hand over what is committed. It reports whether there is more to do at once.
func (h *Host) turn() (more bool, err error) {
	h.turnNo++
	h.metrics.turns.Inc()
	if h.waiting() {
		return false, nil
	}
	work, sync := h.stall.work, h.stall.sync
	if work == nil {
		h.drain(h.in.take())
		work, sync = h.collect()
	}
	if len(work) == 0 {
		return false, h.storageError()
	}
	if err := h.save(work, sync); err != nil {
		return false, h.saveFailed(work, sync, err)
	}
	h.goOn()
	h.send(work)
	for i := range work {
		w := &work[i]
		w.g.try(func() { h.finish(w) })
	}
	return true, h.storageError()
}

// drain gives raft everything that arrived.
func (h *Host) drain(in batch) {
	for range in.ticks {
		for _, g := range h.all() {
			g.try(g.tick)
		}
		for _, a := range h.absentGroups() {
			a.tick()
		}
	}
	for _, m := range in.msgs {
		h.step(m)
	}
	for _, f := range in.calls {
		f()
	}
	for _, p := range in.props {
		if g := h.group(p.group); g == nil {
			p.finish(nil, h.missing(p.group))
		} else {
			g.props = append(g.props, p)
			g.dirty = true
		}
	}
	for _, r := range in.reads {
		if g := h.group(r.group); g == nil {
			r.finish(h.missing(r.group))
		} else {
			g.reads.add(r)
			g.dirty = true
		}
	}
	for _, g := range h.all() {
		if g.dirty {
			g.try(func() {
				g.propose()
				g.reads.issue(g)
			})
		}
	}
}

// step gives raft one message from the network.
func (h *Host) step(m groupMessage) {
	g := h.group(m.group)
	if g == nil {
		if a := h.absentGroup(m.group); a != nil {
			a.heard(m)
		}
	}
	if g == nil || g.halted != nil || epochsCount && m.epoch != g.st.mark.Epoch || ReplicaID(m.msg.GetTo()) != g.self {
		h.metrics.dropped.WithLabelValues("stray").Inc()
		return
	}
	if isWish(m.msg) {
		g.grant(m.msg)
		return
	}
	g.dirty = true
	g.try(func() {
		// The only errors are about messages that no longer concern us, such as an
		// answer from a member that was removed meanwhile.
		if err := g.rn.Step(m.msg); err != nil {
			h.metrics.dropped.WithLabelValues("stray").Inc()
		}
		switch m.msg.GetType() { // what only a leader says; who has ceased to be one asks for votes
		case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
			if ReplicaID(m.msg.GetFrom()) == g.lead {
				g.leadHeard = g.ticks
			}
		}
	})
}

// collect takes the Ready of each dirty group. A group whose applier is behind
// by its whole queue pauses: it neither acknowledges nor leads until there is
// room, and the applier rings when there is.
func (h *Host) collect() (work []ready, sync bool) {
	for _, g := range h.all() {
		if !g.dirty || g.halted != nil || g.st.err != nil {
			continue
		}
		if g.ap.full() {
			h.metrics.paused.Inc()
			continue
		}
		var rd raft.Ready
		g.try(func() {
			if g.dirty = g.rn.HasReady(); g.dirty {
				rd = g.rn.Ready()
			}
		})
		if !g.dirty || g.halted != nil {
			continue
		}
		u := Update{Group: g.id, Entries: rd.Entries}
		if !raft.IsEmptyHardState(rd.HardState) {
			u.HardState = rd.HardState
		}
		// MustSync knows of entries and votes only. A snapshot resets the log, and
		// the acknowledgement in this same Ready vouches for that.
		sync = sync || rd.MustSync
		if !raft.IsEmptySnap(rd.Snapshot) {
			m := rd.Snapshot.GetMetadata()
			u.Reset = g.st.mark.at(m.GetIndex(), m.GetTerm())
			sync = true
		}
		work = append(work, ready{g: g, rd: rd, update: u})
	}
	return work, sync
}

// save is the one log transaction of a turn.
func (h *Host) save(work []ready, sync bool) error {
	updates := make([]Update, 0, len(work))
	entries := 0
	for _, w := range work {
		if err := h.cfg.hooks.at(pointBeforeSave, w.g.id); err != nil {
			return err
		}
		if r := w.update.Reset; r != nil {
			if d := w.g.ap.durable.Load().Index; d < r.Index {
				return fmt.Errorf("group %d: log would be reset to %d with the state only at %d", w.g.id, r.Index, d)
			}
		}
		if w.update.HardState != nil || w.update.Reset != nil || len(w.update.Entries) > 0 {
			updates = append(updates, w.update)
			entries += len(w.update.Entries)
		}
	}
	if len(updates) > 0 {
		began := h.saves.begin()
		if err := h.cfg.Log.Save(updates, sync && !h.cfg.hooks.noSync); err != nil {
			return fmt.Errorf("save raft log: %w", err)
		}
		h.saves.end(sync)
		if sync {
			h.metrics.saveSeconds.Observe(time.Since(began).Seconds())
			h.metrics.saveEntries.Observe(float64(entries))
		}
	}
	for _, w := range work {
		w.g.st.saved(w.update)
		if err := h.cfg.hooks.at(pointAfterSave, w.g.id); err != nil {
			return err
		}
	}
	return nil
}

// finish hands over what a saved Ready has for the state machine and the readers.
func (h *Host) finish(w *ready) {
	g := w.g
	if r := w.update.Reset; r != nil {
		// The state is installed already; entries that it covers never come.
		g.handed = max(g.handed, r.Index)
		g.conf = w.rd.Snapshot.GetMetadata().GetConfState()
	}
	for _, rs := range w.rd.ReadStates {
		g.reads.answered(g, rs)
	}
	if err := g.hand(w.rd.CommittedEntries); err != nil {
		g.halt(err)
		return
	}
	g.rn.Advance(w.rd)
	for _, to := range h.out.failed(g.id) {
		g.rn.ReportUnreachable(uint64(to))
	}
	g.follow()
}

// storageError looks for failures to read a log, which raft does not report. One
// that is damaged concerns its group alone.
func (h *Host) storageError() error {
	var errs []error
	for _, g := range h.all() {
		switch {
		case g.st.err == nil:
		case errors.Is(g.st.err, ErrCorrupt):
			h.lose(g, RoleHeld, g.st.err)
		default:
			errs = append(errs, g.st.err)
		}
	}
	return errors.Join(errs...)
}

// send packs the messages of a turn, one payload for each peer if they fit.
// Snapshots go their own way.
func (h *Host) send(work []ready) {
	h.out.begin()
	for _, w := range work {
		for _, m := range w.rd.Messages {
			switch {
			case m.GetType() == raftpb.MsgSnap:
				w.g.sendSnapshot(m)
			case w.g.spare(m):
				h.metrics.spared.Inc()
			default:
				h.out.add(w.g, m)
			}
		}
	}
	h.out.flush()
}

// onLoop runs f between turns: on the loop if it runs, here if it does not.
func (h *Host) onLoop(f func() error) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	running := h.running
	h.mu.Unlock()
	if !running {
		return f()
	}
	done := make(chan error, 1)
	h.in.call(func() { done <- f() })
	select {
	case err := <-done:
		return err
	case <-h.done:
		return ErrClosed
	}
}
