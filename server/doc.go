// Package server is a node's lifecycle: configuration, building the parts in
// order, running them, ending them. What the parts do is in their own packages;
// here they are only introduced to one another.
//
// Start reading at Run in server.go. region.go is what a node knows of its
// region (agreed facts from the root group, hints from gossip); door.go fits the
// object engine to s3api; shards.go fits the local disks to the transport;
// status.go is what operators see.
package server
