// Package upkeep is the background work of a region. Each task is a Run that ends
// with its context, is idle when there is nothing to do, and is done by the node
// that leads the group concerned, so that it is done once; what concerns a disk is
// done by the node that holds it.
//
//	zones.go    judges whether a zone is down or up again (leader of the root group)
//	layout.go   makes the first layout (leader of the root group)
//	buckets.go  finishes bucket deletions that a crash interrupted (the same)
//	reclaim.go  removes the shards of garbage (leader of each partition)
//	scrub.go    verifies every shard of every local disk once in a period
//	            (scrub_walk.go one disk, scrub_state.go what outlives a restart)
//	mend.go     heals damaged shards where they lie (rebuild.go one shard)
//	restore.go  gives a disk back the shards that it has lost (compare.go one
//	            placement group, owners.go whose lists tell what belongs there)
//	move.go     fills what a new layout gives to a disk, the same way; letgo.go removes
//	            what it takes away
//	absent.go   marks what a disk that stays away takes with it (leader of the root
//	            group)
//	heal.go     has missing shards rebuilt, the most endangered first (leader of each
//	            partition); heal_chunk.go rebuilds those of one chunk in one zone
//	census.go   adds up all records anew and compares them with counters and disks, when
//	            an operator asks (census_window.go blobs by the lists of disks,
//	            census_count.go the sums, census_stray.go what is too much)
//	orphans.go  removes shards of no record, with the consent of their partition
//	references.go ends references of copies that hold blobs for nothing (leader of each
//	            partition); comparer.go compares them after a forced recovery
//	lifecycle.go applies the lifecycle rules of buckets (the same; lifecycle_walk.go one
//	            walk through a partition)
//	voters.go   replaces the metadata voters of dead nodes (leader of each group;
//	            voters_plan.go decides, and touches nothing)
//	clock.go    tells the root group what the clock of this node shows
//
// Laws that live here: L3 (the index first, the shards later), L6 (the code that
// finishes interrupted work is the code that does it), L7 (no shard is rebuilt from
// one that was not verified).
package upkeep
