package server

import (
	"bivalve/cluster"
	"bivalve/s3api/s3test"
)

// Stores are the node's own, as the door sees them.
func (n *Node) Stores() s3test.Stores {
	d := door{n.store}
	return s3test.Stores{Buckets: d, Objects: d, Lister: d, Uploads: d}
}

// Failed is how many disks of a node are known to be out of service.
func (n *Node) Failed(id cluster.NodeID) int { return len(n.region.Failed(id)) }
