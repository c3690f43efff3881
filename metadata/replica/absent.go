package replica

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
)

// absent is a group that has a log here but takes no part: to the others it is a
// member that is down. It neither votes nor acknowledges, so its log stays as the
// last message left it.
type absent struct {
	h    *Host
	id   GroupID
	role Role
	why  error
	mark Mark // of the log

	// Only the loop: ticks until the next try, and how many after that.
	rest, pause int

	loose StateMachine // opened, about to join; guarded by h.mu

	busy    atomic.Bool   // a snapshot is coming in, or the state is being opened
	closing atomic.Bool   // the state machine that failed is not closed yet
	closed  chan struct{} // closed after that; nil if there was none
}

const (
	firstPause = 5 * compactTicks / 10 // half a second
	maxPause   = 10 * compactTicks     // ten seconds
)

// leave makes a group absent. Only Open and the loop call it.
func (h *Host) leave(id GroupID, role Role, mark Mark, why error) *absent {
	a := &absent{h: h, id: id, role: role, why: why, mark: mark, pause: firstPause}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away[id] = a
	h.metrics.absent.WithLabelValues(string(role)).Inc()
	log := h.cfg.Logger.Warn
	if role == RoleHeld {
		log = h.cfg.Logger.Error // nothing mends this but an operator
	}
	log("metadata group takes no part on this node", "group", uint32(id), "role", role, "err", why)
	return a
}

// comeBack ends it.
func (h *Host) comeBack(a *absent, g *group) {
	h.mu.Lock()
	delete(h.away, a.id)
	h.metrics.absent.WithLabelValues(string(a.role)).Dec()
	h.mu.Unlock()
	h.addGroup(g)
	h.cfg.Logger.Info("metadata group is back", "group", uint32(a.id), "was", a.role, "applied", g.ap.applied.Load().Index)
}

// Hold keeps a group of which this node has no trace from being made again: what
// it has voted and acknowledged there is not known.
func (h *Host) Hold(id GroupID, why error) error {
	return h.onLoop(func() error {
		if h.group(id) != nil || h.absentGroup(id) != nil {
			return ErrExists
		}
		h.leave(id, RoleHeld, Mark{}, why)
		return nil
	})
}

// HoldAll makes every group absent, for good: what this node has voted and
// acknowledged is not what its log says.
func (h *Host) HoldAll(why error) error {
	return h.onLoop(func() error {
		for _, g := range h.all() {
			h.lose(g, RoleHeld, why)
		}
		for _, a := range h.absentGroups() {
			if a.role != RoleHeld {
				a.turnTo(RoleHeld, why)
			}
		}
		return nil
	})
}

func (h *Host) absentGroup(id GroupID) *absent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.away[id]
}

// absentGroups are sorted by id.
func (h *Host) absentGroups() []*absent {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*absent
	for _, id := range sortedKeys(h.away) {
		out = append(out, h.away[id])
	}
	return out
}

// missing is what a caller learns of a group that does not run here.
func (h *Host) missing(id GroupID) error {
	if a := h.absentGroup(id); a != nil {
		return &AbsentError{Group: id, Role: a.role, Why: a.why}
	}
	return ErrNoGroup
}

// self is the replica; only of a held one is it not always known.
func (a *absent) self() ReplicaID { return a.mark.self(a.h.cfg.Replica) }

func (a *absent) status() GroupStatus {
	return GroupStatus{Group: a.id, Self: a.self(), Role: a.role, Halted: a.why, Epoch: a.mark.Epoch}
}

// lose takes a running group out: its state machine failed, or its log cannot be
// read. To the group it is as if this node had crashed, and what was synced is
// what counts; a lead passes to another by an election.
func (h *Host) lose(g *group, role Role, why error) {
	if h.group(g.id) != g {
		return // lost already
	}
	h.mu.Lock()
	gs := slices.DeleteFunc(slices.Clone(h.all()), func(o *group) bool { return o == g })
	h.groups.Store(&gs)
	h.mu.Unlock()
	a := h.leave(g.id, role, g.st.mark, why)
	gone := &AbsentError{Group: g.id, Role: role, Why: why}
	g.halted = gone // stops what still holds on to the group
	g.failPending(gone)
	g.reads.fail(gone)
	for _, p := range g.props {
		p.finish(nil, gone)
	}
	g.props = nil
	g.ap.end(gone)
	a.closing.Store(true)
	a.closed = make(chan struct{})
	h.background(func() {
		defer close(a.closed)
		// It waits for queries and snapshots under way.
		if err := g.ap.close(); err != nil {
			h.cfg.Logger.Debug("close of a failed state", "group", uint32(g.id), "err", err)
		}
		a.closing.Store(false)
	})
}

// try runs f, which gives raft something to do for this group. raft panics when its
// log fails it, or when it hears of entries that it has acknowledged and no longer
// has, as after the log was replaced by an older copy. Then the group leaves: it
// must not vote on what it has forgotten.
func (g *group) try(f func()) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		why := g.st.err
		if why == nil {
			why = fmt.Errorf("raft: %v: %w", p, ErrCorrupt)
			g.h.cfg.Logger.Debug("raft gave up", "group", uint32(g.id), "stack", string(debug.Stack()))
		}
		if errors.Is(why, ErrCorrupt) {
			g.h.lose(g, RoleHeld, why)
		}
	}()
	f()
}

// background runs f beside the loop. Run waits for it.
func (h *Host) background(f func()) {
	if h.cfg.hooks.background != nil {
		h.cfg.hooks.background(f)
		return
	}
	h.workers.Go(f)
}
