// Package transport carries calls between the nodes of a region: shards,
// metadata calls and raft messages, over one thin framed protocol on mutually
// authenticated TCP connections (FORMAT.md has the bytes).
//
// Words: a frame is a fixed header, a small head that the message type defines,
// and a body. A pool is the set of connections to one peer for one purpose;
// shards, metadata and raft have one each, so that a large shard never delays a
// heartbeat. A kind says what a call is and so who handles it.
//
// What holds here:
//   - Nobody talks without a certificate of the cluster CA, and a client talks
//     only to the very node that it dialled (tls.go).
//   - A length is checked before memory is set aside for it (wire.go).
//   - Bytes that were damaged on the way are refused, never handed on: by TLS
//     where it stays on; in the clear by a checksum of the head, a checksum of
//     the body and, for shards, the checksums of their blocks.
//   - Every wait ends: by the context, or by a limit of Limits.
//   - An error arrives as what it was: errors.Is holds for the sentinels of
//     package cluster and those in Config.Errors (errors.go).
//
// Start reading at Client.Call and Server.Serve, then Shards for the typed
// calls, raftlink.go for one-way messages and stream.go for snapshots.
package transport
