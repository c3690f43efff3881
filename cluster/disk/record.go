package disk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"bivalve/cluster"

	"github.com/zeebo/xxh3"
)

// The record header. FORMAT.md has the table.
const (
	recordMagic   = 0x31525642 // "BVR1"
	recordVersion = 1
	headerFixed   = 88 // without block sums

	kindShard     = 1
	kindTombstone = 2
	kindVoid      = 3 // a shard whose batch was torn; it only says how far to step

	// flagSole: when the record was written no older record of its key was known
	// to live. A tombstone takes the flag of the shard that it kills.
	flagSole = 1
)

var (
	errNoRecord  = errors.New("no record here")
	errBadRecord = errors.New("record header does not check")
)

// header is a parsed record header.
type header struct {
	kind    uint8
	flags   uint8
	key     cluster.ShardKey
	profile cluster.Profile
	gen     uint32
	length  uint32 // of the payload
	seq     uint64
	// durable: every byte of the segment before this offset had been synced when
	// the record was written. Damage before it is damage, after it may be a torn
	// batch.
	durable uint64
	target  uint64 // tombstone: the segment of the shard that it kills
	sums    []uint64
}

// headerBytes is the size of a header with n block sums.
func headerBytes(n int) int { return headerFixed + 8*n }

// put writes the header into b, which has room for headerBytes(len(sums)). seed
// binds cluster, disk and segment; off is where in the segment it will lie.
func (h *header) put(b []byte, seed uint64, off int64) int {
	n := headerBytes(len(h.sums))
	le := binary.LittleEndian
	le.PutUint32(b[0:], recordMagic)
	b[4] = recordVersion
	b[5] = h.kind
	le.PutUint16(b[6:], uint16(n))
	le.PutUint16(b[8:], uint16(h.key.PG))
	b[10] = uint8(h.key.Index)
	b[11] = h.flags
	le.PutUint32(b[12:], h.key.Chunk)
	copy(b[16:32], h.key.Blob[:])
	b[32], b[33], b[34], b[35] = h.profile.K, h.profile.M, 0, 0
	le.PutUint32(b[36:], h.gen)
	le.PutUint32(b[40:], h.length)
	le.PutUint32(b[44:], 0)
	le.PutUint64(b[48:], h.seq)
	le.PutUint64(b[56:], h.durable)
	le.PutUint64(b[64:], h.target)
	le.PutUint64(b[72:], uint64(off))
	for i, s := range h.sums {
		le.PutUint64(b[80+8*i:], s)
	}
	le.PutUint64(b[n-8:], xxh3.HashSeed(b[:n-8], seed))
	return n
}

// parseHeader reads the header at the start of b. errNoRecord means that nothing
// says that a record starts here (zeros, other bytes); errBadRecord that one may
// have started. sums is reused for the block sums when it has the capacity.
func parseHeader(b []byte, seed uint64, off int64, sums []uint64) (header, int, error) {
	var h header
	le := binary.LittleEndian
	if len(b) < headerFixed || le.Uint32(b) != recordMagic {
		return h, 0, errNoRecord
	}
	n := int(le.Uint16(b[6:]))
	if n < headerFixed || n > maxHeaderBytes || (n-headerFixed)%8 != 0 || n > len(b) {
		return h, 0, errBadRecord
	}
	if le.Uint64(b[n-8:]) != xxh3.HashSeed(b[:n-8], seed) || le.Uint64(b[72:]) != uint64(off) {
		return h, 0, errBadRecord
	}
	// From here the bytes are what was written for this place. A version or kind
	// that is not known was written by a newer build.
	if b[4] != recordVersion {
		return h, 0, fmt.Errorf("%w: version %d, this build reads %d", errBadRecord, b[4], recordVersion)
	}
	h.kind, h.flags = b[5], b[11]
	h.key = cluster.ShardKey{PG: cluster.PG(le.Uint16(b[8:])), Chunk: le.Uint32(b[12:]), Index: cluster.ShardIndex(b[10])}
	copy(h.key.Blob[:], b[16:32])
	h.profile = cluster.Profile{K: b[32], M: b[33]}
	h.gen, h.length = le.Uint32(b[36:]), le.Uint32(b[40:])
	h.seq, h.durable, h.target = le.Uint64(b[48:]), le.Uint64(b[56:]), le.Uint64(b[64:])
	blocks := (n - headerFixed) / 8
	switch {
	case (h.kind == kindShard || h.kind == kindVoid) && h.length >= 1 && h.length <= cluster.MaxShardBytes && blocks == cluster.Blocks(int(h.length)):
	case (h.kind == kindTombstone || h.kind == kindVoid) && h.length == 0 && blocks == 0:
	default:
		return h, 0, fmt.Errorf("%w: kind %d, %d bytes, %d sums", errBadRecord, h.kind, h.length, blocks)
	}
	if cap(sums) < blocks {
		sums = make([]uint64, blocks)
	}
	h.sums = sums[:blocks]
	for i := range h.sums {
		h.sums[i] = le.Uint64(b[80+8*i:])
	}
	return h, n, nil
}

// shape is where the parts of a record lie, by the kind of its segment.
type shape struct {
	align int64 // of records and, if large, of the payload
}

func shapeOf(kind segmentKind) shape {
	if kind == largeSegment {
		return shape{pageBytes}
	}
	return shape{8}
}

// payloadAt is the offset of the payload inside the record.
func (s shape) payloadAt(length uint32) int64 {
	n := int64(headerBytes(cluster.Blocks(int(length))))
	if s.align == pageBytes {
		return padTo(n, pageBytes)
	}
	return n
}

// size is the whole record with its padding.
func (s shape) size(length uint32) int64 {
	return padTo(s.payloadAt(length)+int64(length), s.align)
}

// lengthOf is the payload of a record of exactly that size, if there is one.
func (s shape) lengthOf(size int64) (length uint32, ok bool) {
	blocks := cluster.Blocks(int(size))
	for _, b := range []int{blocks, blocks - 1} {
		head := padTo(int64(headerBytes(b)), s.align)
		if n := size - head; n >= 0 && cluster.Blocks(int(n)) == b && n <= cluster.MaxShardBytes {
			return uint32(n), true
		}
	}
	return 0, false
}

// contentHash stands for the bytes of a shard: two shards of one key are the
// same content when theirs are equal.
func contentHash(p cluster.Profile, length int, sums []uint64) uint64 {
	var b [8*(cluster.MaxShardBytes/cluster.BlockBytes) + 8]byte
	binary.LittleEndian.PutUint32(b[0:], uint32(length))
	b[4], b[5] = p.K, p.M
	for i, s := range sums {
		binary.LittleEndian.PutUint64(b[8+8*i:], s)
	}
	return xxh3.Hash(b[:8+8*len(sums)])
}

// verifyPayload checks every block; it tells the first that is bad.
func verifyPayload(p []byte, sums []uint64) (block int, ok bool) {
	if len(sums) != cluster.Blocks(len(p)) {
		return 0, false
	}
	for i, want := range sums {
		if xxh3.Hash(p[i*cluster.BlockBytes:min(len(p), (i+1)*cluster.BlockBytes)]) != want {
			return i, false
		}
	}
	return 0, true
}
