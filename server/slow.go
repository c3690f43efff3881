package server

import (
	"context"
	"slices"
	"time"

	"bivalve/cluster/disk"
	"bivalve/cluster/disk/watch"
	"bivalve/cluster/membership"
)

const (
	judgeEvery = 5 * time.Second
	// A disk is slow when its p99 is so many times that of the median of the others,
	// and above the floor, for so many judgements in a row.
	slowTimes  = 5
	slowFloor  = 50 * time.Millisecond
	slowInARow = 3
	// slowPeers is how many others there must be to compare with.
	slowPeers = 2
)

// judgeDisks compares this node's disks with all others now and then, and keeps
// what gossip tells of them up to date.
func (n *Node) judgeDisks(ctx context.Context) error {
	t := time.NewTicker(judgeEvery)
	defer t.Stop()
	told := n.meta
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		n.judge(n.otherNodes())
		meta := told
		meta.Disks = n.diskSummary()
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

// otherNodes is what the other storage nodes say of their median disk.
func (n *Node) otherNodes() []watch.Latency {
	var out []watch.Latency
	for _, m := range n.gossip.Members() {
		if d := m.Meta.Disks; m.ID != n.self.ID && d.Total > d.Failed && n.gossip.Alive(m.ID) {
			out = append(out, watch.Latency{ReadP99: time.Duration(d.ReadMicros) * time.Microsecond, SyncP99: time.Duration(d.SyncMicros) * time.Microsecond})
		}
	}
	return out
}

// judge compares each disk of this node with the others of the node and with the
// other nodes.
func (n *Node) judge(nodes []watch.Latency) {
	mine := make([]watch.Latency, len(n.slots))
	for i, s := range n.slots {
		if d, err := s.get(); err == nil {
			mine[i] = d.Latency()
		}
	}
	for i, s := range n.slots {
		others := slices.Concat(nodes, mine[:i], mine[i+1:])
		if slow, changed := s.pace.judge(mine[i], others); changed {
			s.setSlow(slow)
			s.logger.Warn("a disk's pace has changed against its peers", "slow", slow, "read_p99", mine[i].ReadP99, "sync_p99", mine[i].SyncP99)
		}
	}
}

// diskPace is the judgement of one disk; judgeDisks owns it.
type diskPace struct {
	slow bool
	row  int // judgements in a row that say otherwise
}

// judge weighs one look. It changes its mind after slowInARow looks.
func (p *diskPace) judge(mine watch.Latency, others []watch.Latency) (slow, changed bool) {
	var reads, syncs []time.Duration
	for _, o := range others {
		reads, syncs = append(reads, o.ReadP99), append(syncs, o.SyncP99)
	}
	now := slower(mine.ReadP99, reads) || slower(mine.SyncP99, syncs)
	if now == p.slow {
		p.row = 0
		return p.slow, false
	}
	if p.row++; p.row < slowInARow {
		return p.slow, false
	}
	p.slow, p.row = now, 0
	return now, true
}

// slower tells whether mine stands out against others that have been used.
func slower(mine time.Duration, others []time.Duration) bool {
	others = slices.DeleteFunc(others, func(d time.Duration) bool { return d == 0 })
	if len(others) < slowPeers || mine < slowFloor {
		return false
	}
	return mine > slowTimes*median(others)
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
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
	s := membership.DiskSummary{Total: uint16(len(n.slots))}
	var reads, syncs []time.Duration
	for _, slot := range n.slots {
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
