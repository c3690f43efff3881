package upkeep

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"
)

// ReplicaGroup is a metadata group as its leader sees it.
type ReplicaGroup struct {
	Group                      replica.GroupID
	Self                       replica.ReplicaID // its leader
	Epoch                      uint32
	Commit                     uint64
	Voters, Learners, Outgoing []replica.ReplicaID
	Match                      map[replica.ReplicaID]replica.Match
}

// Generation is the latest of its members.
func (g ReplicaGroup) Generation() (latest uint64) {
	for _, id := range slices.Concat(g.Voters, g.Learners, g.Outgoing) {
		latest = max(latest, id.Generation())
	}
	return latest
}

// ReplicaNode is a node that may hold replicas.
type ReplicaNode struct {
	ID      cluster.NodeID
	Number  replica.ReplicaID
	Zone    cluster.Zone
	Witness bool
	Dead    time.Duration // for how long nobody has heard of it; 0 while it lives
	Leaving bool          // its replicas are to go to other nodes
}

// ReplicaStep is what is to be done next for a group: a replica is made on a node
// and added as a learner, or the members are changed.
type ReplicaStep struct {
	Make   *ReplicaNode
	Change replica.ConfChange // of members that are there; with Make, whom the new one replaces at once
	Why    string
}

const (
	// nearEnough is how many entries a learner may lack to be promoted.
	nearEnough = 100
	// maxFollowers bounds the learners of the root group.
	maxFollowers = 48
)

// voterPlan decides on one group. It is pure: the same facts give the same step.
type voterPlan struct {
	g     ReplicaGroup
	nodes []ReplicaNode // sorted by id
	zones [2]cluster.Zone
	// lost is for how long a replica's node has said that its data is lost.
	lost  map[replica.ReplicaID]time.Duration
	after time.Duration
	root  bool
	load  func(replica.ReplicaID) int // replicas on a node, to spread them
}

// next is the step to take, if any; only one change of a group is ever under way.
func (p *voterPlan) next() (ReplicaStep, bool) {
	if len(p.g.Outgoing) > 0 || p.suspectsSpread() {
		return ReplicaStep{}, false
	}
	for _, try := range []func() (ReplicaStep, bool){p.replace, p.grow, p.followers, p.tidy} {
		if s, ok := try(); ok {
			return s, s.Why != ""
		}
	}
	return ReplicaStep{}, false
}

func (p *voterPlan) node(id replica.ReplicaID) (ReplicaNode, bool) {
	i := slices.IndexFunc(p.nodes, func(n ReplicaNode) bool { return n.Number == id.Host() })
	if i < 0 {
		return ReplicaNode{}, false
	}
	return p.nodes[i], true
}

// suspectsSpread tells whether voters that may be gone lie in more than one zone, the
// witness counted as one: then it may be us who are cut off, and nothing is changed.
func (p *voterPlan) suspectsSpread() bool {
	sites := map[cluster.Zone]bool{}
	for _, v := range p.g.Voters {
		if n, ok := p.node(v); ok && (n.Dead > 0 || !p.g.Match[v].Active) {
			sites[n.Zone] = true
		}
	}
	return len(sites) > 1
}

// bad tells why a replica should go, "" if it should not.
func (p *voterPlan) bad(id replica.ReplicaID) string {
	n, known := p.node(id)
	lost, isLost := p.lost[id]
	switch {
	case !known:
		return "its node is no member any more"
	case n.Leaving:
		return fmt.Sprintf("node %s is to give its replicas away", n.ID)
	case n.Dead >= p.after:
		return fmt.Sprintf("node %s has been dead for %s", n.ID, n.Dead.Round(time.Second))
	case isLost && lost >= p.after:
		return fmt.Sprintf("node %s has lost its data", n.ID)
	}
	return ""
}

// replace finds a voter that should go and brings another in for it.
func (p *voterPlan) replace() (ReplicaStep, bool) {
	for _, v := range p.g.Voters {
		why := p.bad(v)
		if why == "" {
			continue
		}
		n, known := p.node(v)
		if !known {
			// Which zone it was in is not known: growing fills what is short.
			if len(p.g.Voters) > 3 {
				return ReplicaStep{Change: replica.ConfChange{Remove: []replica.ReplicaID{v}}, Why: fmt.Sprintf("replica %d goes: %s", v, why)}, true
			}
			continue
		}
		if s, ok := p.bring(n.Zone, []replica.ReplicaID{v}, fmt.Sprintf("in place of replica %d: %s", v, why)); ok {
			return s, true
		}
		if _, lost := p.lost[v]; lost && n.Dead == 0 && !n.Leaving {
			// Nobody else in its zone: the node itself, as a new replica.
			return ReplicaStep{Make: &n, Why: fmt.Sprintf("in place of replica %d: %s", v, why)}, true
		}
	}
	return ReplicaStep{}, false
}

// bring makes a voter in a zone: of a learner that is there and has caught up, else
// of a new one. A step without a reason means to wait for the learner.
func (p *voterPlan) bring(z cluster.Zone, remove []replica.ReplicaID, why string) (ReplicaStep, bool) {
	var best replica.ReplicaID
	found := false
	for _, l := range p.g.Learners {
		n, ok := p.node(l)
		if !ok || n.Zone != z || n.Leaving || n.Dead > 0 {
			continue
		}
		if _, lost := p.lost[l]; lost {
			continue
		}
		found = true
		if m := p.g.Match[l]; m.Active && m.Index+nearEnough >= p.g.Commit && (best == 0 || m.Index > p.g.Match[best].Index) {
			best = l
		}
	}
	if best != 0 {
		return ReplicaStep{Change: replica.ConfChange{Promote: []replica.ReplicaID{best}, Remove: remove},
			Why: fmt.Sprintf("replica %d votes %s", best, why)}, true
	}
	if found {
		return ReplicaStep{}, true
	}
	var target *ReplicaNode
	for i, n := range p.nodes {
		if n.Zone == z && n.Dead == 0 && !n.Leaving && !p.holds(n) &&
			(target == nil || p.load(n.Number) < p.load(target.Number)) {
			target = &p.nodes[i]
		}
	}
	if target == nil {
		return ReplicaStep{}, false
	}
	return ReplicaStep{Make: target, Why: fmt.Sprintf("a new replica on %s %s", target.ID, why)}, true
}

// holds tells whether a node has a replica of the group, lost or not.
func (p *voterPlan) holds(n ReplicaNode) bool {
	on := func(id replica.ReplicaID) bool { return id.Host() == n.Number }
	return slices.ContainsFunc(p.g.Voters, on) || slices.ContainsFunc(p.g.Learners, on)
}

// grow brings voters in where a site has fewer than it should.
func (p *voterPlan) grow() (ReplicaStep, bool) {
	nodes, voters := map[cluster.Zone]int{}, map[cluster.Zone]int{}
	for _, n := range p.nodes {
		if !n.Leaving {
			nodes[n.Zone]++
		}
	}
	for _, v := range p.g.Voters {
		if n, ok := p.node(v); ok {
			voters[n.Zone]++
		}
	}
	per := min(2, max(1, nodes[p.zones[0]]), max(1, nodes[p.zones[1]]))
	short := false
	for i, z := range p.zones {
		want := per
		if voters[p.zones[1-i]] == 0 && voters[z] > 0 {
			want = 3 // all there is, after a recovery by force: one of it may fail
		}
		if voters[z] < per {
			short = true
		}
		if voters[z] < want {
			if s, ok := p.bring(z, nil, fmt.Sprintf("for zone %s, which has %d of %d", z, voters[z], want)); ok {
				return s, true
			}
		}
	}
	witnesses := 0
	for _, n := range p.nodes {
		if n.Witness {
			witnesses += voters[n.Zone]
		}
	}
	for _, n := range p.nodes {
		if n.Witness && witnesses == 0 {
			short = true
			if s, ok := p.bring(n.Zone, nil, "for the witness site, which has none"); ok {
				return s, true
			}
		}
	}
	if short {
		return ReplicaStep{}, false
	}
	// Whole again: what was more than its share goes.
	for _, v := range slices.Backward(p.g.Voters) {
		if n, ok := p.node(v); ok && !n.Witness && voters[n.Zone] > per && v != p.g.Self {
			return ReplicaStep{Change: replica.ConfChange{Remove: []replica.ReplicaID{v}},
				Why: fmt.Sprintf("replica %d goes: zone %s has %d voters, %d are enough", v, n.Zone, voters[n.Zone], per)}, true
		}
	}
	return ReplicaStep{}, false
}

// followers keeps a learner of the root group on every node, so that each reads its
// own copy.
func (p *voterPlan) followers() (ReplicaStep, bool) {
	if !p.root {
		return ReplicaStep{}, false
	}
	for _, l := range p.g.Learners {
		n, known := p.node(l)
		switch _, lost := p.lost[l]; {
		case !known || n.Leaving:
			return ReplicaStep{Change: replica.ConfChange{Remove: []replica.ReplicaID{l}}, Why: fmt.Sprintf("learner %d goes", l)}, true
		case lost && n.Dead == 0:
			return ReplicaStep{Make: &n, Change: replica.ConfChange{Remove: []replica.ReplicaID{l}},
				Why: fmt.Sprintf("learner %d of %s is lost", l, n.ID)}, true
		}
	}
	for i, n := range p.nodes {
		if len(p.g.Learners) < maxFollowers && n.Dead == 0 && !n.Leaving && !p.holds(n) {
			return ReplicaStep{Make: &p.nodes[i], Why: fmt.Sprintf("node %s follows the root group", n.ID)}, true
		}
	}
	return ReplicaStep{}, false
}

// tidy removes learners of a partition that nobody needs any more.
func (p *voterPlan) tidy() (ReplicaStep, bool) {
	if p.root || len(p.g.Learners) == 0 {
		return ReplicaStep{}, false
	}
	l := slices.MinFunc(p.g.Learners, func(a, b replica.ReplicaID) int { return cmp.Compare(a, b) })
	return ReplicaStep{Change: replica.ConfChange{Remove: []replica.ReplicaID{l}}, Why: fmt.Sprintf("learner %d is not needed", l)}, true
}
