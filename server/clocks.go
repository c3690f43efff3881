package server

import (
	"context"

	"bivalve/cluster"
	"bivalve/metadata/catalog"
)

// reportClock tells the region what this node's clock shows. Nodes that were removed
// have no voice any more, neither in what time it is nor in what level all have: the
// leader of the root group takes away what they said.
func (n *Node) reportClock(ctx context.Context) error {
	removed := func(id cluster.NodeID) bool { return n.region.NodeState(id) == cluster.StateRemoved }
	err := n.catalog.ReportClock(ctx, string(n.self.ID), foundersLeft(n.file.Members, removed))
	if err == nil && n.leads(catalog.Root) {
		err = n.catalog.ForgetClocks(ctx, func(node string) bool { return removed(cluster.NodeID(node)) })
	}
	return err
}

// foundersLeft is how many voices there are at least, though not all may have been heard.
func foundersLeft(founders []SeedMember, removed func(cluster.NodeID) bool) (n int) {
	for _, m := range founders {
		if !removed(m.ID) {
			n++
		}
	}
	return n
}
