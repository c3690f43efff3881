package cluster

import "fmt"

// BlockBytes is the unit under one checksum: 64 KiB of a shard. The last block
// of a shard may be shorter.
const BlockBytes = 64 << 10

// MaxShardBytes bounds one shard: a whole chunk (k = 1).
const MaxShardBytes = 4 << 20

// ShardKey names one shard in the region. A disk holds at most one of each.
type ShardKey struct {
	PG    PG
	Blob  BlobID
	Chunk uint32
	Index ShardIndex
}

func (k ShardKey) String() string {
	return fmt.Sprintf("pg %d blob %s chunk %d shard %d", k.PG, k.Blob, k.Chunk, k.Index)
}

// Profile is the code that made a shard: k data shards, m extra losses that
// each zone survives. Shards in all: 2(k+m).
type Profile struct {
	K uint8 `json:"k" yaml:"k" cbor:"1,keyasint"`
	M uint8 `json:"m" yaml:"m" cbor:"2,keyasint"`
}

// PerZone is how many shards of a chunk one zone holds.
func (p Profile) PerZone() int { return int(p.K) + int(p.M) }

// Shard is what a disk stores: opaque bytes with the checksums that were made
// where the bytes came from.
type Shard struct {
	Key        ShardKey
	Profile    Profile
	Generation uint32   // of the writing of this shard; 0 at first, heal counts up
	Sums       []uint64 // XXH3-64 of each BlockBytes of Payload, in order
	Payload    []byte   // 1..MaxShardBytes
}

// Blocks is how many checksummed blocks n bytes make.
func Blocks(n int) int { return (n + BlockBytes - 1) / BlockBytes }

// BlockRange asks for Count blocks of a shard from First on. A Count of 0 means
// all that follow.
type BlockRange struct {
	First, Count uint32
}

// BlockRead describes the bytes that a ranged read put into its buffer. Sums are
// those stored beside the blocks; whoever serves the client checks them.
type BlockRead struct {
	ShardBytes int      // of the whole shard
	Bytes      int      // put into the buffer
	Sums       []uint64 // one per block read
}

// ShardInfo is one row of a disk's list.
type ShardInfo struct {
	Key        ShardKey
	Profile    Profile
	Generation uint32
	Bytes      int // of the payload
}
