package server

import "bivalve/s3api/s3test"

// Stores are the node's own, as the door sees them.
func (n *Node) Stores() s3test.Stores {
	d := door{n.store}
	return s3test.Stores{Buckets: d, Objects: d, Lister: d, Uploads: d}
}
