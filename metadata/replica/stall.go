package replica

import (
	"errors"
	"fmt"
)

// A full disk is no reason to give a log up: a Save that found no room has written
// nothing, so the turn stands still before it and tries it again. Nothing is sent
// meanwhile, so the groups see a member that is down and elect others; callers on
// this node are sent away at once.

// stall is a turn that waits for room.
type stall struct {
	work []ready // taken from raft, not saved
	sync bool
	rest int // ticks until the next try
}

// retrySave is in ticks: a commit that fails costs a scan of the log file.
const retrySave = 20

// standStill keeps the work of a turn that could not be saved.
func (h *Host) standStill(work []ready, sync bool, err error) {
	h.stall = stall{work: work, sync: sync, rest: retrySave}
	if h.stalled.Load() == nil {
		h.cfg.Logger.Error("the raft log finds no room; metadata stands still on this node", "err", err)
	}
	err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	h.stalled.Store(&err)
	h.refuse(err)
}

// waiting tells whether a turn that stands still must go on waiting.
func (h *Host) waiting() bool {
	if h.stall.work == nil {
		return false
	}
	h.refuse(h.standing())
	h.stall.rest -= h.in.takeTicks()
	return h.stall.rest > 0
}

// goOn ends it.
func (h *Host) goOn() {
	h.stall = stall{}
	if h.stalled.Swap(nil) != nil {
		h.cfg.Logger.Info("the raft log has room again")
	}
}

// standing is why callers are sent away, nil if they are not.
func (h *Host) standing() error {
	if err := h.stalled.Load(); err != nil {
		return *err
	}
	return nil
}

// refuse answers callers whom raft has not seen yet.
func (h *Host) refuse(err error) {
	props, reads := h.in.takeCallers()
	for _, p := range props {
		p.finish(nil, err)
	}
	for _, r := range reads {
		r.finish(err)
	}
}

// saveFailed sorts an error of Save. Nil means that the loop goes on.
func (h *Host) saveFailed(work []ready, sync bool, err error) error {
	switch {
	case errors.Is(err, ErrNoSpace):
		h.standStill(work, sync, err)
	case errors.Is(err, ErrCorrupt):
		h.goOn()
		for _, g := range h.all() {
			h.lose(g, RoleHeld, err)
		}
	default:
		return err
	}
	return nil
}
