// Package cluster holds the nouns of a region: who its members are, which
// disks they carry, and where the layout of one epoch puts every placement
// group. Its values are plain and immutable; it opens no file and no socket.
//
// Words (docs/design.md, section 2): a region is two data zones and a witness
// site; a node is one server process; a placement group (PG) is a slot that the
// layout maps to 2(k+m) disks, in shard order.
//
// Start reading at Layout. The sub-packages are the moving parts: membership
// (gossip), placement (computes a Layout), transport (calls between nodes) and
// disk (one local disk).
package cluster
