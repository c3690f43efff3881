package replica

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// spare tells whether a message may be left out, as if the network had lost it.
//
// After each commit raft sends every follower an empty append that only says how
// far the log is committed. The next append says so too, and so do the next
// heartbeat and the heartbeat round of every read; leaving it out saves each
// follower a turn per write. But raft also sends an empty append to find out
// whether entries got lost, and to probe. So a follower that may lack entries
// gets one such message in every tick, and one that is being probed gets them all.
func (g *group) spare(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgApp || len(m.GetEntries()) != 0 {
		return false
	}
	spare := false
	g.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id != m.GetTo() || pr.State != tracker.StateReplicate {
			return
		}
		spare = pr.Match == m.GetIndex() || g.asked[ReplicaID(id)]
		if !spare {
			g.asked[ReplicaID(id)] = true
		}
	})
	return spare
}
