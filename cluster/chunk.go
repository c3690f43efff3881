package cluster

// Chunk is one chunk on its way to a relay: a node of the other zone that makes
// that zone's shards itself and stores them on its zone's disks, so that what
// crosses between the zones is the chunk and not its shards.
type Chunk struct {
	PG      PG
	Blob    BlobID
	Number  uint32
	Profile Profile
	Want    uint64     // bit i: shard i is to be stored; all of one zone
	Data    [][]byte   // the K systematic shards, of one length, in order
	Sums    [][]uint64 // of each, XXH3-64 of its blocks
}

// ShardBytes is the length of each of its shards.
func (c *Chunk) ShardBytes() int {
	if len(c.Data) == 0 {
		return 0
	}
	return len(c.Data[0])
}
