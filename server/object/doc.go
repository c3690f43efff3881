// Package object is the joint of the house: it turns an object into chunks,
// shards and one metadata commit, and back. It knows erasure, cluster and
// metadata; none of them knows another.
//
// One PUT, from the socket to the commit:
//
//	s3api hands PutObject a verified stream            put.go
//	small: the bytes go into the record                put.go (inline)
//	else writeBlob cuts it into chunks of 4 MiB        blob.go
//	 each chunk is encoded into 2(k+m) shards          chunk_write.go
//	 its placement group is the first of its probe
//	 sequence whose disks are up                       place.go
//	 one message per node carries its shards           fanout.go
//	 a relay takes those of the other zone             relay_send.go
//	 and makes them there                              relay.go
//	 durable says when that is enough (law L1)         quorum.go
//	the version is committed to its partition (L2)     put.go
//
// The body is taken in by its pace: filling.go, pace.go.
//
// One GET runs stream.go (which chunks; stream_pace.go for whom), chunk_read.go (which shards, hedged,
// verified: law L7).
//
// Laws that live here: L1, L4 (a failed PUT leaves orphans, never a version
// without shards), L5 (after an unknown outcome nothing is removed), L7.
package object
