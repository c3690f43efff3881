package replica

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// proposal is a caller that waits for an entry of its own.
type proposal struct {
	group GroupID
	seq   uint64
	data  []byte // the entry, with its id in front; nil for a membership change
	conf  *ConfChange
	state atomic.Int32
	done  chan outcome // holds one
}

type outcome struct {
	result []byte
	err    error
}

// States of a proposal: before acceptance the caller can still take it back.
const (
	waiting int32 = iota
	accepted
	withdrawn
)

func (p *proposal) finish(result []byte, err error) {
	select {
	case p.done <- outcome{result, err}:
	default: // answered before; the first answer stands
	}
}

// Propose commits data to g and returns what the state machine made of it. It
// must run at the leader's host. data is copied.
//
// Errors: *NotLeaderError, ErrDropped, ErrTooLarge, ErrNoGroup, ErrUnavailable and
// ErrClosed say that nothing happened, unless it is also ErrUnknown, which says
// that it may have or may yet.
func (h *Host) Propose(ctx context.Context, g GroupID, data []byte) ([]byte, error) {
	if len(data) > maxCommand {
		return nil, fmt.Errorf("group %d: %d bytes: %w", g, len(data), ErrTooLarge)
	}
	seq := h.seq.Add(1)
	return h.await(ctx, &proposal{group: g, seq: seq, data: encodeEntry(h.cfg.Replica, seq, data)})
}

func (h *Host) await(ctx context.Context, p *proposal) ([]byte, error) {
	p.done = make(chan outcome, 1)
	if err := ctx.Err(); err != nil {
		return nil, wrapContext(ErrDropped, ctx)
	}
	if h.group(p.group) == nil {
		return nil, h.missing(p.group)
	}
	if err := h.standing(); err != nil {
		return nil, fmt.Errorf("group %d: %w", p.group, err)
	}
	if !h.in.addProposal(p) {
		h.metrics.proposals.WithLabelValues("dropped").Inc()
		return nil, fmt.Errorf("group %d: too many proposals wait: %w", p.group, ErrDropped)
	}
	var out outcome
	select {
	case out = <-p.done:
	case <-ctx.Done():
		out = p.abandon(wrapContext(ErrDropped, ctx), wrapContext(ErrUnknown, ctx))
	case <-h.done:
		out = p.abandon(ErrClosed, errors.Join(ErrUnknown, ErrClosed))
	}
	h.metrics.proposals.WithLabelValues(outcomeLabel(out.err)).Inc()
	return out.result, out.err
}

// abandon stops waiting. What raft never saw did not happen.
func (p *proposal) abandon(unseen, seen error) outcome {
	select {
	case out := <-p.done:
		return out
	default:
	}
	if p.state.CompareAndSwap(waiting, withdrawn) {
		return outcome{err: unseen}
	}
	return outcome{err: seen}
}

func outcomeLabel(err error) string {
	var nl *NotLeaderError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &nl):
		return "not_leader"
	case errors.Is(err, ErrUnknown):
		return "unknown"
	}
	return "dropped"
}

// propose gives raft all that waits, in as few messages as their size allows.
func (g *group) propose() {
	if len(g.props) == 0 {
		return
	}
	props := g.props
	g.props = nil
	bs := g.rn.BasicStatus() // not g.role: a message of this turn may have ended our lead
	if g.halted != nil || bs.RaftState != raft.StateLeader {
		for _, p := range props {
			if g.halted != nil {
				p.finish(nil, g.halted)
			} else {
				p.finish(nil, &NotLeaderError{Leader: ReplicaID(bs.Lead)})
			}
		}
		return
	}
	var run []*proposal
	size := 0
	flush := func() {
		g.stepProposals(run)
		run, size = nil, 0
	}
	for _, p := range props {
		if !p.state.CompareAndSwap(waiting, accepted) {
			continue
		}
		if p.conf != nil {
			flush() // keeps the order of arrival
			g.stepConfChange(p)
			continue
		}
		run = append(run, p)
		if size += len(p.data); size >= 1<<20 {
			flush()
		}
	}
	flush()
}

func (g *group) stepProposals(props []*proposal) {
	if len(props) == 0 {
		return
	}
	m := &raftpb.Message{
		Type: raftpb.MsgProp.Enum(),
		From: proto.Uint64(uint64(g.self)),
		To:   proto.Uint64(uint64(g.self)),
	}
	for _, p := range props {
		m.Entries = append(m.Entries, &raftpb.Entry{Data: p.data})
	}
	// The only error is ErrProposalDropped, for the whole message.
	if err := g.rn.Step(m); err != nil {
		for _, p := range props {
			p.finish(nil, fmt.Errorf("group %d: %w: %w", g.id, ErrDropped, err))
		}
		return
	}
	for _, p := range props {
		g.pending[p.seq] = p
	}
}

// failPending answers everyone whose entry is not committed yet.
func (g *group) failPending(err error) {
	for seq, p := range g.pending {
		delete(g.pending, seq)
		p.finish(nil, unknownBecause(err))
	}
}

func unknownBecause(err error) error {
	if errors.Is(err, ErrUnknown) {
		return err
	}
	return errors.Join(ErrUnknown, err)
}
