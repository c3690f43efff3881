package server

import (
	"slices"
	"strings"

	"bivalve/cluster"
	"bivalve/metadata/replica"
)

// peer is a node of the region: one of those that it began with, by the region
// file, or one that joined later, by the root group. A node that was removed is
// nobody. The file goes first, so that a region whose addresses have all changed
// can be started again with a new file.
func (n *Node) peer(id cluster.NodeID) (SeedMember, bool) {
	if n.region.NodeState(id) == cluster.StateRemoved {
		return SeedMember{}, false
	}
	if m, ok := n.file.Member(id); ok {
		return m, true
	}
	if m := n.region.Member(id); m.ID == id {
		return seedOf(m), true
	}
	return SeedMember{}, false
}

func seedOf(m cluster.Member) SeedMember {
	return SeedMember{ID: m.ID, Zone: m.Zone, Role: m.Role, Replica: m.Replica, Addr: m.Addr, Gossip: m.Gossip, S3: m.S3, Admin: m.Admin}
}

// peers lists all nodes of the region, this one included, by id.
func (n *Node) peers() []SeedMember {
	out := make([]SeedMember, 0, len(n.file.Members))
	add := func(id cluster.NodeID) {
		if m, ok := n.peer(id); ok && !slices.ContainsFunc(out, func(o SeedMember) bool { return o.ID == id }) {
			out = append(out, m)
		}
	}
	for _, m := range n.file.Members {
		add(m.ID)
	}
	add(n.self.ID)
	for _, m := range n.region.Members() {
		add(m.ID)
	}
	slices.SortFunc(out, func(a, b SeedMember) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// leavers are the nodes that were removed. The metadata groups must still know them,
// to get rid of their replicas.
func (n *Node) leavers() (out []SeedMember) {
	all := slices.Clone(n.file.Members)
	for _, m := range n.region.Members() {
		if !slices.ContainsFunc(all, func(o SeedMember) bool { return o.ID == m.ID }) {
			all = append(all, seedOf(m))
		}
	}
	for _, m := range all {
		if n.region.NodeState(m.ID) == cluster.StateRemoved {
			out = append(out, m)
		}
	}
	return out
}

// byReplica is the node that a replica lies on; every raft message asks.
func (n *Node) byReplica(id replica.ReplicaID) (SeedMember, bool) {
	for _, m := range n.file.Members {
		if replica.ReplicaID(m.Replica) == id.Host() {
			return n.peer(m.ID)
		}
	}
	for _, m := range n.region.Members() {
		if replica.ReplicaID(m.Replica) == id.Host() {
			return n.peer(m.ID)
		}
	}
	return SeedMember{}, false
}
