// Package reach finds out which nodes answer this one over the node transport,
// several times a second, and what their clocks say.
//
// Gossip relays: two zones that are cut from each other, and both see the third
// site, take nobody for dead. Shards and raft messages go directly. So what counts
// for them is asked directly, and each answer says whom the answering node can and
// cannot reach itself, so that a judge is not misled by the trouble of one node.
//
// Words: to ask is one short call there and back; who is missing has not answered
// one for Config.Missing; a view is what an answer carried.
//
// Start reading at Prober.
package reach
