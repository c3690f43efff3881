// Package membership gossips who is alive (hashicorp/memberlist), with the few
// facts about a node that others want at once: its zone, addresses, load and the
// state of its disks.
//
// It decides nothing durable. Who is a member, which zone counts as down and
// where shards belong are entries in the root group; what is seen here only
// suggests them. Two nodes may well see different things for a second or two.
//
// Start reading at Membership.Run; tuning.go says why failures are seen in about
// two seconds.
package membership
