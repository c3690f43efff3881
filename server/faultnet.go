package server

import (
	"net"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
	"bivalve/metadata/replica"
)

// Faults are what tests do to a node in their own process. The zero value does
// nothing, and no configuration file can set one.
type Faults struct {
	// Wrap stands between the node and a connection that it has dialled.
	Wrap func(to cluster.NodeID, c net.Conn) net.Conn
	// Lost tells whether gossip to an address gets lost.
	Lost func(addr string) bool
	// Clock is the node's idea of the time, where it is compared with others'.
	Clock func() time.Time
	// Disk stands around the calls of the disk in a directory to its file system.
	Disk func(dir string) vfs.Around
	// Log stands between the node and its raft log.
	Log func(replica.LogStore) replica.LogStore
}
