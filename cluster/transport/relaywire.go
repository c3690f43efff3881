package transport

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"bivalve/cluster"
)

const (
	relayHeadBytes = 2 + 16 + 4 + 1 + 1 + 8 + 4 // pg, blob, chunk, k, m, want, shard length
	// maxChunkBytes bounds the body of a relay: the systematic shards of one chunk.
	maxChunkBytes = cluster.MaxShardBytes + 256
)

func encodeRelay(c *cluster.Chunk) ([]byte, error) {
	size := c.ShardBytes()
	if err := checkRelay(c, size); err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	le := binary.LittleEndian
	b := le.AppendUint16(make([]byte, 0, relayHeadBytes+8*len(c.Data)*cluster.Blocks(size)), uint16(c.PG))
	b = append(b, c.Blob[:]...)
	b = le.AppendUint32(b, c.Number)
	b = append(b, c.Profile.K, c.Profile.M)
	b = le.AppendUint64(b, c.Want)
	b = le.AppendUint32(b, uint32(size))
	for i, sums := range c.Sums {
		if len(c.Data[i]) != size || len(sums) != cluster.Blocks(size) {
			return nil, fmt.Errorf("%w: systematic shard %d of %d bytes with %d checksums", cluster.ErrInvalid, i, len(c.Data[i]), len(sums))
		}
		for _, s := range sums {
			b = le.AppendUint64(b, s)
		}
	}
	return b, nil
}

// checkRelay bounds everything that the two ends compute with.
func checkRelay(c *cluster.Chunk, size int) error {
	k, per := int(c.Profile.K), c.Profile.PerZone()
	switch {
	case k < 1 || per > 32:
		return fmt.Errorf("relay of profile %+v", c.Profile)
	case size < 1 || k*size > maxChunkBytes:
		return fmt.Errorf("relay of %d shards of %d bytes", k, size)
	case c.Want == 0 || c.Want>>(2*per) != 0:
		return fmt.Errorf("relay for shards %b of %d", c.Want, 2*per)
	case c.Data != nil && (len(c.Data) != k || len(c.Sums) != k):
		return fmt.Errorf("relay of %d systematic shards with %d lists of checksums, want %d", len(c.Data), len(c.Sums), k)
	}
	return nil
}

// parseRelay reads the head of a relay; Data is left to the caller.
func parseRelay(b []byte, bodyLen int) (c cluster.Chunk, size int, err error) {
	if len(b) < relayHeadBytes {
		return c, 0, fmt.Errorf("relay head of %d bytes", len(b))
	}
	le := binary.LittleEndian
	c.PG = cluster.PG(le.Uint16(b))
	copy(c.Blob[:], b[2:])
	c.Number = le.Uint32(b[18:])
	c.Profile = cluster.Profile{K: b[22], M: b[23]}
	c.Want = le.Uint64(b[24:])
	length := le.Uint32(b[32:])
	if length > cluster.MaxShardBytes {
		return c, 0, fmt.Errorf("relay of shards of %d bytes", length)
	}
	size = int(length)
	if err := checkRelay(&c, size); err != nil {
		return c, 0, err
	}
	k, blocks := int(c.Profile.K), cluster.Blocks(size)
	b = b[relayHeadBytes:]
	if len(b) != 8*k*blocks || bodyLen != k*size {
		return c, 0, fmt.Errorf("relay of %d shards of %d bytes with %d bytes of checksums and a body of %d", k, size, len(b), bodyLen)
	}
	c.Sums = make([][]uint64, k)
	for i := range c.Sums {
		c.Sums[i] = make([]uint64, blocks)
		for j := range c.Sums[i] {
			c.Sums[i][j] = le.Uint64(b[8*(i*blocks+j):])
		}
	}
	return c, size, nil
}

// splitRelay gives each systematic shard a buffer of its own.
func splitRelay(head []byte, bodyLen int) ([]int, error) {
	c, size, err := parseRelay(head, bodyLen)
	if err != nil {
		return nil, err
	}
	sizes := make([]int, c.Profile.K)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes, nil
}

// relayWeight is the memory that a relay takes: the chunk, and the shards that are
// made of it for one zone.
func relayWeight(head []byte, bodyLen int) int64 {
	c, size, err := parseRelay(head, bodyLen)
	if err != nil {
		return int64(bodyLen)
	}
	return int64(bodyLen + c.Profile.PerZone()*size)
}

func wanted(c *cluster.Chunk) int { return bits.OnesCount64(c.Want) }
