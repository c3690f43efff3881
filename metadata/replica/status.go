package replica

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// Leader is the replica that leads g as far as is known here; 0 if none is.
func (h *Host) Leader(g GroupID) ReplicaID {
	gr := h.group(g)
	if gr == nil {
		return 0
	}
	return gr.status.Load().Leader
}

// HearsLeader tells whether the replica here leads g, or has heard lately from who
// does: its belief in a leader that cannot lead any more lasts for longer.
func (h *Host) HearsLeader(g GroupID) bool {
	gr := h.group(g)
	return gr != nil && gr.status.Load().Leader != 0 && !gr.silent.Load()
}

// Leads tells whether the replica here leads g as far as it knows.
func (h *Host) Leads(g GroupID) bool {
	gr := h.group(g)
	return gr != nil && gr.status.Load().Leader == gr.self
}

// Status shows all local replicas, by group, absent ones too.
func (h *Host) Status() []GroupStatus {
	var out []GroupStatus
	for _, a := range h.absentGroups() {
		out = append(out, a.status())
	}
	for _, g := range h.all() {
		s := *g.status.Load()
		s.Applied = g.ap.applied.Load().Index
		s.Durable = g.ap.durable.Load().Index
		if err := h.standing(); err != nil {
			s.Role, s.Halted = RoleNoSpace, err
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b GroupStatus) int { return int(int64(a.Group) - int64(b.Group)) })
	return out
}

// matches is only for leaders, and once in a while: it visits every member.
func (g *group) matches() map[ReplicaID]Match {
	out := map[ReplicaID]Match{}
	g.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		// raft forgets who was active once in an election timeout.
		if pr.RecentActive || ReplicaID(id) == g.self {
			g.heard[ReplicaID(id)] = g.ticks
		}
		at, known := g.heard[ReplicaID(id)]
		out[ReplicaID(id)] = Match{Index: pr.Match, Active: known && g.ticks-at < 2*electionTicks}
	})
	return out
}
