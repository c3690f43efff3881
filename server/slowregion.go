package server

import (
	"slices"

	"bivalve/cluster"
)

// slowRecord is the value of "slow/<node>": of its own disks and its own log the node
// itself says whether they are slow; of other nodes its voice is one of many.
type slowRecord struct {
	Disks []cluster.DiskID `cbor:"1,keyasint,omitempty"`
	Log   bool             `cbor:"2,keyasint,omitempty"`
	Nodes []cluster.NodeID `cbor:"3,keyasint,omitempty"`
}

func (r slowRecord) equal(o slowRecord) bool {
	return r.Log == o.Log && slices.Equal(r.Disks, o.Disks) && slices.Equal(r.Nodes, o.Nodes)
}

// maxVoices: in a large region that many nodes ask a node (see reachPeers).
const maxVoices = askOwnZone + askOtherZone

// DiskSlow is the agreed fact that a disk, or the way to it, holds up its peers. To a
// slow node itself its disks are as near as ever.
func (r *Region) DiskSlow(d cluster.Disk) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.slowNodes[d.Node] && d.Node != r.self || slices.Contains(r.slow[d.Node].Disks, d.ID)
}

// NodeSlow is the agreed fact that a node answers slowly.
func (r *Region) NodeSlow(id cluster.NodeID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.slowNodes[id]
}

// LogSlow is the fact that a node's metadata log is slow, by its own word.
func (r *Region) LogSlow(id cluster.NodeID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.slow[id].Log
}

func (r *Region) slowBy(id cluster.NodeID) slowRecord {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.slow[id]
}

// settleSlow counts who finds whom slow: it takes half of the others, and two at
// least. The voices of a zone that is down are old, and nobody takes back those of a
// node that is removed. It needs mu.
func (r *Region) settleSlow() {
	hasVoice := func(m cluster.Member) bool {
		return m.Role == cluster.RoleStorage && !r.zones[m.Zone].Down && r.states[stateOfNode(m.ID)].State != cluster.StateRemoved
	}
	others := -1
	for _, m := range r.members {
		if hasVoice(m) {
			others++
		}
	}
	need := max(2, (min(others, maxVoices)+1)/2)
	voices := map[cluster.NodeID]int{}
	for by, s := range r.slow {
		if !hasVoice(r.members[by]) {
			continue
		}
		for _, id := range s.Nodes {
			if id != by {
				voices[id]++
			}
		}
	}
	before := r.slowNodes
	r.slowNodes = map[cluster.NodeID]bool{}
	for id, n := range voices {
		if n < need {
			continue
		}
		r.slowNodes[id] = true
		if !before[id] {
			r.logger.Warn("a node is slow, and is avoided", "peer", id)
		}
	}
	for id := range before {
		if !r.slowNodes[id] {
			r.logger.Info("a node keeps pace again", "peer", id)
		}
	}
}
