// Package erasure holds the arithmetic and the code of chunks: how many shards
// a chunk has, which bytes each holds, how parity is made and how missing
// shards are rebuilt, and the checksums that tell a good block from a bad one.
// It is pure: no file, no socket, no clock, nothing else of this module.
//
// Words: a chunk is at most ChunkBytes of a blob. A geometry (K, M) cuts it into
// 2(K+M) shards, K+M for each of the two zones; the first K are systematic, that
// is plain bytes of the chunk, the other K+2M are parity. The code is MDS: any K
// shards rebuild the chunk, so either zone alone does, and still after M more
// losses. A block is 64 KiB of a shard under one checksum.
//
// The parity bytes are part of what is stored for years: the matrix behind
// Codec must never change for a geometry. A test pins its output.
//
// Start reading at Geometry, then Codec.
package erasure
