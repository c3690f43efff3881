package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

const (
	compactTicks = 20 // look for entries to drop once a second
	// While a lead is handed over raft takes no proposals, for an election's time at
	// most. Between attempts that fail there is twice as long and more to work.
	transferTicks    = 3 * electionTicks
	maxTransferTicks = 16 * transferTicks
	// transferLag: one that is so near needs no more than a message or two.
	transferLag = 1000
)

// tick moves the clock of a group.
func (g *group) tick() {
	if g.halted != nil {
		return
	}
	g.rn.Tick()
	g.dirty = true
	clear(g.asked)
	g.ticks++
	g.silent.Store(!g.isLeader() && g.ticks-g.leadHeard >= electionTicks)
	g.forgetLead()
	g.reads.tick()
	if g.ticks%g.h.cfg.flushTicks() == 0 {
		g.ap.wantFlush()
	}
	if g.ticks%compactTicks == 0 {
		if err := g.compact(); err != nil && g.st.err == nil {
			g.st.err = fmt.Errorf("group %d: compact log: %w", g.id, err)
		}
	}
	g.handOver()
	g.publish()
}

// forgetLead ends the belief in a leader that says nothing any more. A voter does so
// by an election; a replica without a vote would believe for ever, and one that was
// voted out by the very leader that it believes in would never ask whether it was.
func (g *group) forgetLead() {
	if g.isLeader() || g.lead == 0 || g.ticks-g.leadHeard < 2*electionTicks {
		return
	}
	g.try(func() {
		if err := g.rn.ForgetLeader(); err != nil {
			g.h.cfg.Logger.Debug("forget the leader", "group", uint32(g.id), "err", err)
		}
	})
}

// compact cuts the log. What must stay: everything the state machine does not
// hold durably, a tail for followers that are a little behind, and, up to a few
// tails, what a follower further behind still needs. A longer absence ends in a
// snapshot instead of a full disk.
func (g *group) compact() error {
	upTo := min(g.ap.durable.Load().Index, g.handed)
	length := g.st.last - g.st.mark.Index
	tail := min(g.h.cfg.TailEntries, tailOf(g.h.cfg.TailBytes, g.st.bytes, length))
	if g.st.last <= tail {
		return nil
	}
	upTo = min(upTo, g.st.last-tail)
	if slowest := g.slowest(); slowest < upTo && length < tail*g.h.cfg.PinFactor {
		upTo = slowest
	}
	// Small cuts are not worth a write of their own.
	if upTo <= g.st.mark.Index || upTo-g.st.mark.Index < max(1, tail/8) {
		return nil
	}
	if err := g.h.cfg.hooks.at(pointBeforeCompact, g.id); err != nil {
		return err
	}
	if err := g.h.cfg.Log.Compact(g.id, upTo); err != nil {
		return err
	}
	return g.st.compacted(upTo)
}

// tailOf is how many entries make so many bytes, at their mean size.
func tailOf(want, have, entries uint64) uint64 {
	if have == 0 {
		return ^uint64(0)
	}
	return max(1, want/max(1, have/max(1, entries)))
}

// slowest is the least position among the members, as the leader knows them.
func (g *group) slowest() uint64 {
	least := ^uint64(0)
	if g.isLeader() {
		g.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
			if ReplicaID(id) != g.self {
				least = min(least, pr.Match)
			}
		})
	}
	return least
}

// handOver moves the lead to a preferred voter that has nearly all of the log.
// The witness leads when it must, and only for as long as it must.
func (g *group) handOver() {
	if g.transfer > 0 {
		g.transfer--
		return
	}
	if !g.isLeader() {
		g.transferWait = transferTicks
		return
	}
	if g.h.cfg.PreferLeader(g.self) {
		return
	}
	var best, match uint64
	g.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if typ != raft.ProgressTypePeer || !pr.RecentActive || pr.State != tracker.StateReplicate {
			return
		}
		if g.h.cfg.PreferLeader(ReplicaID(id)) && pr.Match+transferLag >= g.st.last && pr.Match > match {
			best, match = id, pr.Match
		}
	})
	if best == 0 {
		return
	}
	g.transfer = g.transferWait
	g.transferWait = min(2*g.transferWait, maxTransferTicks)
	g.h.cfg.Logger.Debug("hand over the lead", "group", uint32(g.id), "to", best)
	g.rn.TransferLeader(best)
}

// TransferLead asks raft to hand the lead of g to a voter, as before a planned
// stop. It does not wait; Leader shows what came of it.
func (h *Host) TransferLead(g GroupID, to ReplicaID) error {
	return h.onLoop(func() error {
		gr := h.group(g)
		if gr == nil {
			return ErrNoGroup
		}
		if gr.halted == nil && gr.isLeader() {
			gr.try(func() { gr.rn.TransferLeader(uint64(to)) })
			gr.dirty = true
			return nil
		}
		return &NotLeaderError{Leader: gr.lead}
	})
}
