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
// each zone survives. Shards in all: 2(k+m). In the profile of a shard the two
// highest bits of M are its class, which says which of them are written at all; a
// shard keeps the index of its slot whatever the class.
type Profile struct {
	K uint8 `json:"k" yaml:"k" cbor:"1,keyasint"`
	M uint8 `json:"m" yaml:"m" cbor:"2,keyasint"`
}

// Class says which slots of a placement group a chunk takes.
type Class uint8

const (
	Standard Class = iota // all of them
	Lean                  // the first k of each zone: as many as it takes to lose the other
	OneZone               // those of the first zone only
)

const (
	classShift = 6
	extraMask  = 1<<classShift - 1
)

// Of is the profile with a class.
func (p Profile) Of(c Class) Profile {
	p.M = p.M&extraMask | uint8(c)<<classShift
	return p
}

// Class is that of the shard.
func (p Profile) Class() Class { return Class(p.M >> classShift) }

// Extra is m.
func (p Profile) Extra() int { return int(p.M & extraMask) }

// PerZone is how many slots of a placement group one zone has.
func (p Profile) PerZone() int { return int(p.K) + p.Extra() }

// Takes tells whether a chunk of this profile has a shard in slot i.
func (p Profile) Takes(i ShardIndex) bool {
	n := int(i)
	switch p.Class() {
	case Standard:
		return n < 2*p.PerZone()
	case Lean:
		return n < 2*p.PerZone() && n%p.PerZone() < int(p.K)
	case OneZone:
		return n < p.PerZone()
	}
	return false
}

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

// ShardPage is a part of a disk's list, in key order.
type ShardPage struct {
	Rows []ShardInfo
	// Whole: the disk knows of no loss that was not made good. What it should have of
	// these keys and does not list is noted as missing, or was never written to it.
	Whole bool
}
