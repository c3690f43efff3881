// Package placement computes layouts: members, weights and the layout before ->
// the next layout. It is pure and deterministic: the same input gives the same
// table, in whatever order the members come.
//
// Each zone is solved by itself (zone.go), in four steps:
//
//  1. quota: how many slots each disk should hold, by weight, never more than
//     the rules allow (quota.go);
//  2. keep every slot of the layout before whose disk is still there and obeys
//     the rules;
//  3. fill empty slots from the disks that lack most;
//  4. balance: move slots from disks above their quota to disks below it, one
//     slot a move, so that nothing moves that need not (balance.go).
//
// The rules: the slots of a group in one zone are on distinct disks, always, and
// on distinct nodes while the zone has enough of them; with fewer nodes a group
// is spread over them as evenly as their disks permit. A slot keeps its shard
// index when its disk changes, for another index would be other bytes.
package placement
