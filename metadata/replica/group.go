package replica

import (
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

const electionTicks = 10

// group is one local replica. Only the loop touches it, but for the applier
// and the status.
type group struct {
	h    *Host
	id   GroupID
	self ReplicaID
	rn   *raft.RawNode
	st   *storage
	ap   *applier

	dirty  bool // may have a Ready
	lead   ReplicaID
	role   raft.StateType
	term   uint64
	commit uint64
	handed uint64 // last entry given to the applier, or covered by a snapshot
	conf   *raftpb.ConfState
	halted error

	props   []*proposal          // arrived in this turn
	pending map[uint64]*proposal // accepted by raft, not yet committed
	reads   reads
	sending map[ReplicaID]bool // snapshots on their way

	asked map[ReplicaID]bool // got an empty append in this tick
	heard map[ReplicaID]int  // ticks at which raft last called a member active

	leadHeard int         // ticks at which the leader was last heard of
	silent    atomic.Bool // for an election timeout it was not

	ticks        int // since the last flush request
	transfer     int // ticks until leadership may be handed over again
	transferWait int // and how long to wait after the next attempt
	receiving    atomic.Bool
	status       atomic.Pointer[GroupStatus]
}

func newGroup(h *Host, id GroupID, st *storage, sm StateMachine, a Applied) *group {
	g := &group{
		h: h, id: id, self: st.mark.self(h.cfg.Replica), st: st,
		dirty:        true,
		term:         st.hs.GetTerm(),
		commit:       st.hs.GetCommit(),
		handed:       a.Index,
		conf:         st.conf,
		pending:      map[uint64]*proposal{},
		sending:      map[ReplicaID]bool{},
		asked:        map[ReplicaID]bool{},
		heard:        map[ReplicaID]int{},
		transferWait: transferTicks,
	}
	g.ap = newApplier(g, sm, a)
	st.snapshot = g.ap.snapshotPoint
	st.diskRead = h.metrics.logReads.Inc
	return g
}

func (g *group) isLeader() bool { return g.role == raft.StateLeader }

// halt stops the group for good; the others go on.
func (g *group) halt(err error) {
	if g.halted != nil {
		return
	}
	g.halted = err
	g.h.cfg.Logger.Error("metadata group halted", "group", uint32(g.id), "err", err)
	g.failPending(err)
	g.reads.fail(err)
	g.publish()
}

// follow takes in what raft says of itself now.
func (g *group) follow() {
	bs := g.rn.BasicStatus()
	term, lead, role := bs.GetTerm(), ReplicaID(bs.Lead), bs.RaftState
	if lead != g.lead || role != g.role || term != g.term {
		if lead != g.lead {
			g.h.metrics.leaderChanges.Inc()
			g.reads.leaderChanged()
			g.leadHeard = g.ticks
			g.silent.Store(false)
		}
		if term != g.term || role != raft.StateLeader {
			// Entries of a term that is over may be replaced, or may yet commit.
			g.failPending(ErrUnknown)
		}
		g.lead, g.role, g.term = lead, role, term
		g.h.cfg.Logger.Debug("metadata group", "group", uint32(g.id), "leader", uint64(lead), "term", term, "role", role.String())
		g.commit = bs.GetCommit()
		g.publish()
	}
	g.commit = bs.GetCommit()
}

// publish renews what Status and Leader show.
func (g *group) publish() {
	s := &GroupStatus{
		Group: g.id, Self: g.self, Leader: g.lead, Term: g.term, Commit: g.commit,
		FirstIndex: g.st.mark.Index + 1, LastIndex: g.st.last,
		Voters: replicaIDs(g.conf.GetVoters()), Learners: replicaIDs(g.conf.GetLearners()),
		VotersOutgoing: replicaIDs(g.conf.GetVotersOutgoing()),
		Epoch:          g.st.mark.Epoch,
		Role:           g.roleName(), Halted: g.halted,
	}
	if g.isLeader() && g.rn != nil {
		s.Match = g.matches()
	}
	g.status.Store(s)
}

func (g *group) roleName() Role {
	switch {
	case g.halted != nil:
		return RoleHalted
	case g.role == raft.StateLeader:
		return RoleLeader
	case g.role == raft.StateCandidate || g.role == raft.StatePreCandidate:
		return RoleCandidate
	}
	for _, id := range g.conf.GetLearners() {
		if id == uint64(g.self) {
			return RoleLearner
		}
	}
	return RoleFollower
}

func replicaIDs(ids []uint64) []ReplicaID {
	out := make([]ReplicaID, 0, len(ids))
	for _, id := range ids {
		out = append(out, ReplicaID(id))
	}
	return out
}
