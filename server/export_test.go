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

// Counter is one of the node's metrics, by the value of its only label.
func (n *Node) Counter(name, label string) float64 {
	families, err := n.metrics.Gather()
	if err != nil {
		return -1
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && m.Label[0].GetValue() == label {
				return m.Counter.GetValue()
			}
		}
	}
	return -1
}
