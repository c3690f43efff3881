package replica

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// sender packs the messages of one turn by peer.
type sender struct {
	host  *Host
	peers map[ReplicaID]*payload
	order []ReplicaID // in which peers were first met: keeps a run repeatable
	lost  map[GroupID][]ReplicaID
}

type payload struct {
	bytes  []byte
	groups []GroupID // that have entries in it
}

func (s *sender) begin() {
	if s.peers == nil {
		s.peers = map[ReplicaID]*payload{}
	}
	clear(s.lost)
	s.order = s.order[:0]
}

func (s *sender) add(g *group, m *raftpb.Message) {
	to := ReplicaID(m.GetTo())
	p := s.peers[to]
	if p == nil {
		p = &payload{}
		s.peers[to] = p
		s.order = append(s.order, to)
	}
	b, err := appendMessage(p.bytes, g.id, g.st.mark.Epoch, m)
	if err != nil {
		// raft made a message that protobuf refuses: as good as lost.
		s.host.cfg.Logger.Error("cannot encode a raft message", "group", uint32(g.id), "err", err)
		s.drop(to, []GroupID{g.id})
		return
	}
	p.bytes = b
	if m.GetType() == raftpb.MsgApp && !slices.Contains(p.groups, g.id) {
		p.groups = append(p.groups, g.id)
	}
	if len(p.bytes) >= packBytes {
		s.hand(to, p)
	}
}

// hand gives a payload to the transport, which owns it then.
func (s *sender) hand(to ReplicaID, p *payload) {
	if len(p.bytes) == 0 {
		return
	}
	if !s.host.cfg.Transport.SendRaft(to, p.bytes) {
		s.host.metrics.dropped.WithLabelValues("send").Inc()
		s.drop(to, p.groups)
	}
	p.bytes, p.groups = nil, nil
}

// drop remembers whose entries did not leave, so that raft probes that peer
// instead of sending on into the void.
func (s *sender) drop(to ReplicaID, groups []GroupID) {
	if s.lost == nil {
		s.lost = map[GroupID][]ReplicaID{}
	}
	for _, g := range groups {
		s.lost[g] = append(s.lost[g], to)
	}
}

func (s *sender) flush() {
	for _, to := range s.order {
		s.hand(to, s.peers[to])
		delete(s.peers, to)
	}
}

// failed lists the peers that did not get a group's entries in this turn.
func (s *sender) failed(g GroupID) []ReplicaID { return s.lost[g] }

// HandleRaft takes a payload that a peer, the node of number from, sent with SendRaft. It never blocks; what
// finds no room is dropped, as if the network had lost it. payload is not kept.
func (h *Host) HandleRaft(from ReplicaID, payload []byte) {
	msgs, err := parseMessages(payload)
	if err != nil {
		h.metrics.dropped.WithLabelValues("malformed").Inc()
		h.cfg.Logger.Warn("dropped a raft payload", "from", uint64(from), "err", err)
		return
	}
	kept := msgs[:0]
	for _, m := range msgs {
		if h.acceptable(from, m.msg) {
			kept = append(kept, m)
		} else {
			h.metrics.dropped.WithLabelValues("stray").Inc()
		}
	}
	if n := h.in.addMessages(kept); n > 0 {
		h.metrics.dropped.WithLabelValues("full").Add(float64(n))
	}
}

// acceptable refuses what a peer has no business sending: messages for another node,
// in another's name, or of a kind that only comes from within or with a snapshot.
// Whether the message is for the replica that is here now, step looks.
func (h *Host) acceptable(from ReplicaID, m *raftpb.Message) bool {
	if ReplicaID(m.GetTo()).Host() != h.cfg.Replica || ReplicaID(m.GetFrom()).Host() != from.Host() || from == 0 {
		return false
	}
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp,
		raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp,
		raftpb.MsgTimeoutNow:
		return true
	case raftpb.MsgSnap:
		return isWish(m) // a snapshot has a connection of its own
	case raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		return len(m.GetEntries()) == 1
	}
	return false
}
