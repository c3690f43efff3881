package replica

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// minVoters is what a group keeps once it has that many: below it the loss of
// any voter stops the group.
const minVoters = 3

// ProposeConfChange alters the members of g and returns once the change is
// applied here. A joint one leaves its joint configuration by itself after that;
// Status shows it. Errors are those of Propose, ErrConfBusy and ErrBadConf.
func (h *Host) ProposeConfChange(ctx context.Context, g GroupID, change ConfChange) error {
	_, err := h.await(ctx, &proposal{group: g, seq: h.seq.Add(1), conf: &change})
	return err
}

// stepConfChange checks and proposes a change. An invalid one must not enter the
// log: applying it would panic on every member.
func (g *group) stepConfChange(p *proposal) {
	if len(g.conf.GetVotersOutgoing()) > 0 {
		p.finish(nil, ErrConfBusy)
		return
	}
	if err := checkConfChange(g.conf, *p.conf); err != nil {
		p.finish(nil, fmt.Errorf("group %d: %w", g.id, err))
		return
	}
	typ, data, err := raftpb.MarshalConfChange(confChangeV2(*p.conf, encodeContext(g.h.cfg.Replica, p.seq)))
	if err != nil {
		p.finish(nil, fmt.Errorf("group %d: %w", g.id, err))
		return
	}
	m := &raftpb.Message{
		Type:    raftpb.MsgProp.Enum(),
		From:    proto.Uint64(uint64(g.self)),
		Entries: []*raftpb.Entry{{Type: typ.Enum(), Data: data}},
	}
	if err := g.rn.Step(m); err != nil {
		p.finish(nil, fmt.Errorf("group %d: %w: %w", g.id, ErrDropped, err))
		return
	}
	// raft refuses a second change at a time by putting an empty entry in its place.
	if m.GetEntries()[0].GetType() != typ {
		p.finish(nil, ErrConfBusy)
		return
	}
	g.pending[p.seq] = p
}

func confChangeV2(c ConfChange, context []byte) *raftpb.ConfChangeV2 {
	cc := &raftpb.ConfChangeV2{
		Transition: raftpb.ConfChangeTransitionAuto.Enum(),
		Context:    context,
	}
	add := func(t raftpb.ConfChangeType, ids []ReplicaID) {
		for _, id := range ids {
			cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: t.Enum(), NodeId: proto.Uint64(uint64(id))})
		}
	}
	add(raftpb.ConfChangeAddLearnerNode, c.AddLearners)
	add(raftpb.ConfChangeAddNode, c.Promote)
	add(raftpb.ConfChangeRemoveNode, c.Remove)
	return cc
}

func checkConfChange(cs *raftpb.ConfState, c ConfChange) error {
	voters, learners := cs.GetVoters(), cs.GetLearners()
	seen := map[ReplicaID]bool{0: true}
	for _, ids := range [][]ReplicaID{c.AddLearners, c.Promote, c.Remove} {
		for _, id := range ids {
			if seen[id] {
				return fmt.Errorf("replica %d is zero or named twice: %w", id, ErrBadConf)
			}
			seen[id] = true
		}
	}
	if len(seen) == 1 {
		return fmt.Errorf("nothing to change: %w", ErrBadConf)
	}
	for _, id := range c.AddLearners {
		if slices.Contains(voters, uint64(id)) || slices.Contains(learners, uint64(id)) {
			return fmt.Errorf("replica %d is a member already: %w", id, ErrBadConf)
		}
	}
	for _, id := range c.Promote {
		if !slices.Contains(learners, uint64(id)) {
			return fmt.Errorf("replica %d is not a learner: %w", id, ErrBadConf)
		}
	}
	left := len(voters) + len(c.Promote)
	for _, id := range c.Remove {
		if slices.Contains(voters, uint64(id)) {
			left--
		} else if !slices.Contains(learners, uint64(id)) {
			return fmt.Errorf("replica %d is not a member: %w", id, ErrBadConf)
		}
	}
	if left < min(minVoters, len(voters)) {
		return fmt.Errorf("%d voters would be left: %w", left, ErrBadConf)
	}
	return nil
}

// applyConf applies a committed change on the loop. It returns the waiter here,
// if the change is ours.
func (g *group) applyConf(e *raftpb.Entry) (*proposal, error) {
	var cc raftpb.ConfChangeI
	if e.GetType() == raftpb.EntryConfChange {
		c := &raftpb.ConfChange{}
		if err := proto.Unmarshal(e.GetData(), c); err != nil {
			return nil, fmt.Errorf("entry %d: membership change: %w: %w", e.GetIndex(), ErrHalt, err)
		}
		cc = c
	} else {
		c := &raftpb.ConfChangeV2{}
		if err := proto.Unmarshal(e.GetData(), c); err != nil {
			return nil, fmt.Errorf("entry %d: membership change: %w: %w", e.GetIndex(), ErrHalt, err)
		}
		cc = c
	}
	g.conf = g.rn.ApplyConfChange(cc)
	g.h.cfg.Logger.Info("metadata group members", "group", uint32(g.id),
		"voters", g.conf.GetVoters(), "learners", g.conf.GetLearners(), "outgoing", g.conf.GetVotersOutgoing())
	seq, ours := decodeContext(cc.AsV2().GetContext(), g.h.cfg.Replica)
	if !ours {
		return nil, nil
	}
	p := g.pending[seq]
	delete(g.pending, seq)
	return p, nil
}
