package replica

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// How a lost state comes back. The log, the term, the vote and what was
// acknowledged are in the log store, and are left alone: only what the entries
// amount to is gone, and every member has that. So the group stays away until a
// peer has sent its state, and then starts as it does after a crash (joinParts).
// Being at entry A, the fetched state is
//
//   - refused, if A is before the first entry of the log: the entries between
//     could not be applied;
//   - what the entries behind A are applied to, if A is within the log;
//   - behind the log's end, or contradicts entries that were never committed: then
//     the log starts anew at A, as after any snapshot from a leader. All that is
//     committed up to A is in the state, and what this replica acknowledged beyond
//     that cannot be committed any more.
//
// The peer is whoever sends this replica a message: a leader does all the time, and
// without one, those who would become it.

// heard asks the sender of a raft message for its state, now and then. The wish is
// a snapshot message without a snapshot, and its index is what the state must have
// reached; it may be lost, and an answer to it is a snapshot like any other.
func (a *absent) heard(m groupMessage) {
	if ReplicaID(m.msg.GetTo()) != a.self() || a.role != RoleRebuilding || m.epoch != a.mark.Epoch || a.rest > 0 || a.busy.Load() || a.closing.Load() {
		return
	}
	a.rest, a.pause = a.pause, min(2*a.pause, maxPause)
	payload, err := appendMessage(nil, a.id, a.mark.Epoch, &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(uint64(a.self())), To: m.msg.From,
		Index: proto.Uint64(a.mark.Index),
	})
	if err != nil {
		a.h.cfg.Logger.Error("cannot encode a wish", "group", uint32(a.id), "err", err)
		return
	}
	a.h.cfg.Logger.Info("metadata group asks for its state", "group", uint32(a.id), "from", m.msg.GetFrom())
	a.h.cfg.Transport.SendRaft(ReplicaID(m.msg.GetFrom()), payload)
}

func isWish(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgSnap && m.GetSnapshot() == nil }

// grant sends the state to a member that has lost its own.
func (g *group) grant(wish *raftpb.Message) {
	point := g.ap.snapshotPoint()
	if point == nil || g.ap.applied.Load().Index < wish.GetIndex() {
		return // it asks again, perhaps another
	}
	g.sendSnapshot(&raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(uint64(g.self)), To: wish.From,
		Term: proto.Uint64(g.term), Snapshot: point,
	})
}

// tick is the clock of an absent group.
func (a *absent) tick() {
	if a.rest > 0 {
		a.rest--
		return
	}
	if a.role == RoleNoSpace && !a.closing.Load() && a.busy.CompareAndSwap(false, true) {
		a.rest, a.pause = a.pause, min(2*a.pause, maxPause)
		a.h.background(a.reopen)
	}
}

// reopen tries whether the state that is durable can be gone on from.
func (a *absent) reopen() {
	sm, err := a.opened(a.h.cfg.NewStateMachine(a.id))
	a.h.in.call(func() {
		a.busy.Store(false)
		if err == nil {
			err = a.join(sm)
		}
		if errors.Is(err, ErrDamaged) {
			a.turnTo(RoleRebuilding, err)
		}
	})
}

func (a *absent) turnTo(role Role, why error) {
	a.h.mu.Lock()
	delete(a.h.away, a.id)
	a.h.metrics.absent.WithLabelValues(string(a.role)).Dec()
	a.h.mu.Unlock()
	a.h.leave(a.id, role, a.mark, why)
}

// take receives a snapshot for an absent group.
func (a *absent) take(ctx context.Context, m groupMessage, r io.Reader) error {
	if ReplicaID(m.msg.GetTo()) != a.self() || a.role != RoleRebuilding || m.epoch != a.mark.Epoch || a.closing.Load() || !a.busy.CompareAndSwap(false, true) {
		return a.h.missing(a.id)
	}
	defer a.busy.Store(false)
	path, err := a.h.receive(ctx, r)
	if err != nil {
		return fmt.Errorf("group %d: receive snapshot: %w", a.id, err)
	}
	if !a.h.enter() {
		return errors.Join(ErrClosed, removeIfThere(path))
	}
	defer a.h.guests.Done()
	sm, err := a.restore(path)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	a.h.in.call(func() { done <- a.join(sm) })
	select {
	case err := <-done:
		return err
	case <-a.h.done:
		return ErrClosed // and Close closes what was opened
	}
}

// restore opens the state that came, beside the loop.
func (a *absent) restore(path string) (StateMachine, error) {
	sm, err := a.opened(a.h.cfg.RestoreStateMachine(a.id, path))
	if err != nil {
		err = fmt.Errorf("group %d: restore: %w", a.id, err)
		a.h.cfg.Logger.Warn("a state that was sent could not be used", "group", uint32(a.id), "err", err)
	}
	return sm, errors.Join(err, removeIfThere(path))
}

// join starts the group on its log and a sound state. It runs on the loop.
func (a *absent) join(sm StateMachine) error {
	a.h.mu.Lock()
	a.loose = nil // the group's, or closed below
	a.h.mu.Unlock()
	if a.h.absentGroup(a.id) != a {
		return errors.Join(ErrExists, sm.Close())
	}
	g, err := a.h.joinParts(a.id, sm)
	if err != nil {
		err = errors.Join(fmt.Errorf("group %d: %w", a.id, err), sm.Close())
		a.h.cfg.Logger.Warn("a state does not fit the log", "group", uint32(a.id), "err", err)
		return err
	}
	a.h.comeBack(a, g)
	return nil
}

// enter counts a caller from outside that opens files: Close waits for it.
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.guests.Add(1)
	return true
}

// opened remembers a state machine that has not joined yet, for Close.
func (a *absent) opened(sm StateMachine, err error) (StateMachine, error) {
	if err == nil {
		a.h.mu.Lock()
		a.loose = sm
		a.h.mu.Unlock()
	}
	return sm, err
}
