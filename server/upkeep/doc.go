// Package upkeep is the background work of a region. Each task is a Run that ends
// with its context, is idle when there is nothing to do, and is done by the node
// that leads the group concerned, so that it is done once.
//
//	zones.go    judges whether a zone is down or up again (leader of the root group)
//	layout.go   makes the first layout (leader of the root group)
//	buckets.go  finishes bucket deletions that a crash interrupted (the same)
//	reclaim.go  removes the shards of garbage (leader of each partition)
//
// Laws that live here: L3 (the index first, the shards later), L6 (the code that
// finishes interrupted work is the code that does it).
package upkeep
