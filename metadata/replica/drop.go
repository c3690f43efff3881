package replica

import (
	"errors"
	"fmt"
)

// Drop removes a replica that its group has voted out, with its log and its state,
// for good: its id is never used again, so nobody will ask what it had promised. The
// caller must know it from the group: from an entry that is applied, or from a leader
// that has confirmed itself. self is the replica that is meant; another one that is
// here stays, and the answer is ErrNoGroup. One that is held may not know its id.
//
// The state goes first: after a crash between the two steps the log still tells
// which replica it was, and it is dropped again.
func (h *Host) Drop(id GroupID, self ReplicaID, why error) error {
	var a *absent
	err := h.onLoop(func() error {
		if g := h.group(id); g != nil && g.self == self {
			h.lose(g, RoleVotedOut, fmt.Errorf("replica %d: %w", self, why))
		}
		a = h.absentGroup(id)
		switch {
		case a == nil || a.self() != self:
			return ErrNoGroup
		case !a.busy.CompareAndSwap(false, true):
			return fmt.Errorf("group %d: a state is coming in: %w", id, ErrUnavailable)
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer a.busy.Store(false)
	if a.closed != nil {
		<-a.closed
	}
	if err := h.cfg.DropStateMachine(id); err != nil {
		return fmt.Errorf("group %d: drop the state: %w", id, err)
	}
	return h.onLoop(func() error {
		if h.absentGroup(id) != a {
			return ErrNoGroup
		}
		if err := h.cfg.Log.Drop(id); err != nil {
			return fmt.Errorf("group %d: drop the log: %w", id, err)
		}
		h.mu.Lock()
		delete(h.away, id)
		h.mu.Unlock()
		h.metrics.absent.WithLabelValues(string(a.role)).Dec()
		h.cfg.Logger.Info("metadata replica dropped", "group", uint32(id), "replica", uint64(self), "why", why)
		return nil
	})
}

// ReplaceLog goes on with another, empty log store, when no group can run on the
// present one: it is damaged or lost, or set back to an older copy. What was here is
// held as before, since nothing is known of its promises; only new replicas can be
// made on the new store. begin closes nothing and is called after the old store is
// closed.
func (h *Host) ReplaceLog(begin func() (LogStore, error)) error {
	return h.onLoop(func() error {
		if len(h.all()) > 0 {
			return fmt.Errorf("a group runs on the log: %w", ErrExists)
		}
		for _, a := range h.absentGroups() {
			if a.role != RoleHeld || a.busy.Load() {
				return fmt.Errorf("group %d waits for its state: %w", a.id, ErrExists)
			}
		}
		if err := h.cfg.Log.Close(); err != nil {
			h.cfg.Logger.Warn("the old raft log did not close well", "err", err)
		}
		next, err := begin()
		if err == nil {
			if err = next.Claim(h.cfg.Replica); err != nil {
				err = errors.Join(err, next.Close())
			}
		}
		if err != nil {
			h.cfg.Log = NoLog(fmt.Errorf("a new raft log could not be made: %w", err))
			return err
		}
		h.cfg.Log = next
		return nil
	})
}
