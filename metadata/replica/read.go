package replica

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.etcd.io/raft/v3"
)

const (
	// readRetryTicks: a question may be lost on its way to the leader or back.
	readRetryTicks = 4
	// readGiveUpTicks: then the callers had better ask elsewhere.
	readGiveUpTicks = 24
)

// readWaiter is a caller of ReadIndex.
type readWaiter struct {
	group GroupID
	gone  atomic.Bool
	done  chan error // holds one
}

func (r *readWaiter) finish(err error) {
	select {
	case r.done <- err:
	default:
	}
}

// ReadIndex returns once the local state has everything that was acknowledged
// anywhere before the call. It works on followers and learners. ErrUnavailable
// says that no leader could confirm itself.
func (h *Host) ReadIndex(ctx context.Context, g GroupID) error {
	if h.group(g) == nil {
		return h.missing(g)
	}
	if err := h.standing(); err != nil {
		return fmt.Errorf("group %d: %w", g, err)
	}
	if h.cfg.hooks.localReads || !readBarrier {
		return nil
	}
	r := &readWaiter{group: g, done: make(chan error, 1)}
	if !h.in.addRead(r) {
		return fmt.Errorf("group %d: too many reads wait: %w", g, ErrUnavailable)
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		r.gone.Store(true)
		return wrapContext(ErrUnavailable, ctx)
	case <-h.done:
		return ErrClosed
	}
}

// Query is a linearizable read of the local state.
func (h *Host) Query(ctx context.Context, g GroupID, q []byte) ([]byte, error) {
	// What the barrier says is true of the state that is there now. If that is lost and
	// opened again meanwhile, from an older file, the new one may not answer in its place.
	gr := h.group(g)
	if gr == nil {
		return nil, h.missing(g)
	}
	if err := h.ReadIndex(ctx, g); err != nil {
		return nil, err
	}
	return gr.query(q)
}

// QueryLocal reads the local state as it is, however old that may be.
func (h *Host) QueryLocal(g GroupID, q []byte) ([]byte, error) {
	gr := h.group(g)
	if gr == nil {
		return nil, h.missing(g)
	}
	return gr.query(q)
}

func (g *group) query(q []byte) ([]byte, error) {
	g.ap.open.RLock()
	defer g.ap.open.RUnlock()
	if g.ap.closed {
		return nil, fmt.Errorf("group %d: %w", g.id, ErrUnavailable)
	}
	out, err := g.ap.sm.Query(q)
	if g.ap.lost(err) {
		return nil, fmt.Errorf("group %d: %w: %w", g.id, ErrUnavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("group %d: %w: %w", g.id, ErrQuery, err)
	}
	return out, nil
}

// reads batches the barriers of one group: one question to the leader at a time,
// and whoever arrives meanwhile waits for the next.
type reads struct {
	next  []*readWaiter
	asked []*readWaiter
	// Contexts of the present question and its repetitions. An answer to any of
	// them serves, since all were sent after every waiter had arrived.
	first, last uint64
	age         int
	again       bool
}

func (r *reads) add(w *readWaiter) { r.next = append(r.next, w) }

// issue asks if there is someone to ask for and no question under way.
func (r *reads) issue(g *group) {
	if g.halted != nil {
		r.fail(g.halted)
		return
	}
	if len(r.asked) > 0 {
		if r.again {
			r.again = false
			r.ask(g)
		}
		return
	}
	for _, w := range r.next {
		if !w.gone.Load() {
			r.asked = append(r.asked, w)
		}
	}
	r.next = nil
	if len(r.asked) == 0 {
		return
	}
	r.age, r.again = 0, false
	r.ask(g)
	r.first = r.last
}

func (r *reads) ask(g *group) {
	r.last = g.h.seq.Add(1)
	g.rn.ReadIndex(encodeContext(g.h.cfg.Replica, r.last))
}

// leaderChanged: the question may have died with the old leader.
func (r *reads) leaderChanged() { r.again = len(r.asked) > 0 }

func (r *reads) tick() (dirty bool) {
	if len(r.asked) == 0 {
		return false
	}
	r.age++
	if r.age >= readGiveUpTicks {
		r.finish(fmt.Errorf("no leader confirmed itself: %w", ErrUnavailable))
		return true
	}
	if r.age%readRetryTicks == 0 {
		r.again = true
	}
	return r.again
}

// answered passes the waiters on to the applier, which knows when the state is
// far enough.
func (r *reads) answered(g *group, rs raft.ReadState) {
	seq, ours := decodeContext(rs.RequestCtx, g.h.cfg.Replica)
	// Ids wrap around; a distance does not.
	if !ours || len(r.asked) == 0 || seq-r.first > r.last-r.first {
		return
	}
	g.ap.waitFor(rs.Index, r.asked)
	r.asked = nil
	r.issue(g)
}

func (r *reads) finish(err error) {
	for _, w := range r.asked {
		w.finish(err)
	}
	r.asked = nil
}

func (r *reads) fail(err error) {
	r.finish(err)
	for _, w := range r.next {
		w.finish(err)
	}
	r.next = nil
}
