package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/cluster/disk/watch"
	"bivalve/cluster/membership"
)

const (
	// How many peers there must be to compare with. Another node's disks are told by
	// gossip, and one figure may be off; nodes are asked by us.
	slowDiskPeers = 2
	slowLogPeers  = 2
	slowNodePeers = 1
)

// judged is what this node has come to think; judgePaces keeps it up.
type judged struct {
	log   pace
	nodes map[cluster.NodeID]*pace

	mu  sync.Mutex
	own *slowRecord // what of it the region is to know; nil before the first look
}

// judgePaces compares this node's disks and its metadata log with those of others,
// and the nodes that it asks with each other, and keeps what gossip tells of them up
// to date.
func (n *Node) judgePaces(ctx context.Context) error {
	t := time.NewTicker(judgeEvery)
	defer t.Stop()
	told := n.meta
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		n.judgeAll(time.Now())
		meta := told
		meta.Disks, meta.LogMicros = n.diskSummary(), roundMicros(n.host.SaveP99(time.Minute))
		if meta == told {
			continue
		}
		if err := n.gossip.UpdateMeta(meta); err != nil {
			n.logger.Debug("gossip was not told of the disks", "err", err)
			continue
		}
		told = meta
	}
}

// begin takes up what this node said before it was started again: what is slow has to
// show first that it keeps pace.
func (j *judged) begin(agreed slowRecord, slots []*diskSlot) {
	j.log.slow = agreed.Log
	j.nodes = map[cluster.NodeID]*pace{}
	for _, id := range agreed.Nodes {
		j.nodes[id] = &pace{slow: true}
	}
	for _, s := range slots {
		if slices.ContainsFunc(agreed.Disks, s.holds) {
			s.pace.slow = true
			s.setSlow(true)
		}
	}
}

func (n *Node) judgeAll(now time.Time) {
	if n.judged.nodes == nil {
		if n.region.Layout() == nil {
			return // nothing is known yet of what was agreed
		}
		n.judged.begin(n.region.slowBy(n.self.ID), n.slots.all())
	}
	disks, logs := n.otherNodes()
	own := &slowRecord{Disks: n.judgeDisks(disks, now), Nodes: n.judgeNodes(now)}
	mine := n.host.SaveP99(judgeEvery)
	if n.judged.log.look(compare(mine, logs, slowLogPeers), now) {
		n.logger.Warn("the pace of the metadata log has changed against those of others", "slow", n.judged.log.slow, "p99", mine)
	}
	own.Log = n.judged.log.slow
	n.judged.mu.Lock()
	n.judged.own = own
	n.judged.mu.Unlock()
}

// report is what the region is to know, or nil: who has not looked yet takes nothing
// back.
func (j *judged) report() *slowRecord {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.own
}

// otherNodes is what the other nodes say of their median disk, and of their log.
func (n *Node) otherNodes() (disks []watch.Latency, logs []time.Duration) {
	micros := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	for _, m := range n.gossip.Members() {
		if m.ID == n.self.ID || !n.gossip.Alive(m.ID) {
			continue
		}
		logs = append(logs, micros(m.Meta.LogMicros))
		if d := m.Meta.Disks; d.Total > d.Failed {
			disks = append(disks, watch.Latency{ReadP99: micros(d.ReadMicros), SyncP99: micros(d.SyncMicros)})
		}
	}
	return disks, logs
}

// judgeDisks compares what each disk of this node did since the last look with the
// last minute of its others and of the other nodes, and names the slow ones. One that
// is slow gets no work to show its pace by, so it is probed more often.
func (n *Node) judgeDisks(nodes []watch.Latency, now time.Time) (slow []cluster.DiskID) {
	slots := n.slots.all()
	minute := make([]watch.Latency, len(slots))
	for i, s := range slots {
		if d, err := s.get(); err == nil {
			minute[i] = d.Latency()
		}
	}
	for i, s := range slots {
		d, err := s.get()
		if err != nil {
			continue // out of service, which says more
		}
		mine := d.LatencyOf(judgeEvery)
		if s.pace.look(standingOf(mine, slices.Concat(nodes, minute[:i], minute[i+1:])), now) {
			s.setSlow(s.pace.slow)
			s.logger.Warn("a disk's pace has changed against its peers", "slow", s.pace.slow, "read_p99", mine.ReadP99, "sync_p99", mine.SyncP99)
		}
		d.WatchClosely(s.pace.slow)
		if s.pace.slow {
			slow = append(slow, d.ID())
		}
	}
	return slow
}

// standingOf a disk is the worse one of its reads and its syncs.
func standingOf(mine watch.Latency, others []watch.Latency) standing {
	var reads, syncs []time.Duration
	for _, o := range others {
		reads, syncs = append(reads, o.ReadP99), append(syncs, o.SyncP99)
	}
	return compare(mine.ReadP99, reads, slowDiskPeers).worse(compare(mine.SyncP99, syncs, slowDiskPeers))
}

// judgeNodes compares how fast the storage nodes of each zone answer what every node
// asks them three times a second, and names the slow ones. Those questions go on
// whatever a node is spared.
func (n *Node) judgeNodes(now time.Time) (slow []cluster.NodeID) {
	took := n.reach.Paces(judgeEvery)
	zones := map[cluster.Zone][]cluster.NodeID{}
	for _, m := range n.peers() {
		if m.Role == cluster.RoleStorage && m.ID != n.self.ID {
			zones[m.Zone] = append(zones[m.Zone], m.ID)
		}
	}
	known := map[cluster.NodeID]*pace{}
	for _, ids := range zones {
		for _, id := range ids {
			var others []time.Duration
			for _, o := range ids {
				if o != id {
					others = append(others, took[o])
				}
			}
			p := n.judged.nodes[id]
			if p == nil {
				p = &pace{}
			}
			known[id] = p
			if p.look(compare(took[id], others, slowNodePeers), now) {
				n.logger.Warn("a node's pace has changed against those of its zone", "peer", id, "slow", p.slow, "answers_in", took[id])
			}
			if p.slow {
				slow = append(slow, id)
			}
		}
	}
	n.judged.nodes = known
	slices.Sort(slow)
	return slow
}

// reportSlow keeps the region informed of what this node finds slow.
func (n *Node) reportSlow(ctx context.Context) error {
	return n.keepReported(ctx, keySlowPrefix, time.Second, func() (any, bool) {
		own := n.judged.report()
		return own, own != nil && !own.equal(n.region.slowBy(n.self.ID))
	})
}

func (s *diskSlot) setSlow(slow bool) {
	s.mu.Lock()
	s.slow = slow
	s.mu.Unlock()
}

// judged is the state of a disk in the eyes of its peers.
func (s *diskSlot) judged(state disk.State) disk.State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.slow && state == disk.StateOK {
		return disk.StateSlow
	}
	return state
}

// diskSummary is what gossip tells of the disks.
func (n *Node) diskSummary() membership.DiskSummary {
	slots := n.slots.all()
	s := membership.DiskSummary{Total: uint16(len(slots))}
	var reads, syncs []time.Duration
	for _, slot := range slots {
		d, err := slot.get()
		if err != nil {
			s.Failed++
			continue
		}
		u, l := d.Usage(), d.Latency()
		reads, syncs = append(reads, l.ReadP99), append(syncs, l.SyncP99)
		switch {
		case u.Failed != nil:
			s.Failed++
		case u.FreeBytes <= 0:
			s.Full++
		case slot.judged(u.State) == disk.StateSlow:
			s.Slow++
		}
		s.SizeGiB += uint32(u.CapacityBytes >> 30)
		s.FreeGiB += uint32(max(0, u.FreeBytes) >> 30)
	}
	// Rounded, so that gossip is not kept busy with what does not matter.
	s.ReadMicros, s.SyncMicros = roundMicros(median(reads)), roundMicros(median(syncs))
	return s
}

// roundMicros rounds up to a power of two.
func roundMicros(d time.Duration) uint32 {
	n := uint32(0)
	for us := d.Microseconds(); us > 0 && int64(n) < us && n < 1<<31; {
		n = max(1, 2*n)
	}
	return n
}
