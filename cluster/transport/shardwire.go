package transport

import (
	"encoding/binary"
	"fmt"

	"bivalve/cluster"
)

// Sizes of the fixed parts of the shard calls' heads; FORMAT.md has the fields.
const (
	keyBytes       = 2 + 16 + 4 + 1
	appendRowBytes = 16 + keyBytes + 1 + 1 + 4 + 4 // disk, key, k, m, generation, length
	readHeadBytes  = 16 + keyBytes + 4 + 4 + 4     // disk, key, first, count, room
	listHeadBytes  = 16 + 2 + 1 + keyBytes + 4     // disk, pg, has after, after, limit
	infoRowBytes   = keyBytes + 1 + 1 + 4 + 4

	listWhole = 1 // in the head of an answer: the disk knows of no loss

	maxShardsPerCall = 256
	maxKeysPerCall   = 1 << 16
)

func appendKey(b []byte, k cluster.ShardKey) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(k.PG))
	b = append(b, k.Blob[:]...)
	b = binary.LittleEndian.AppendUint32(b, k.Chunk)
	return append(b, byte(k.Index))
}

func parseKey(b []byte) cluster.ShardKey {
	k := cluster.ShardKey{PG: cluster.PG(binary.LittleEndian.Uint16(b)), Chunk: binary.LittleEndian.Uint32(b[18:]), Index: cluster.ShardIndex(b[22])}
	copy(k.Blob[:], b[2:18])
	return k
}

func encodeAppend(disks []cluster.DiskID, shards []cluster.Shard) ([]byte, error) {
	if len(shards) == 0 || len(shards) > maxShardsPerCall || len(disks) != len(shards) {
		return nil, fmt.Errorf("%w: %d shards for %d disks", cluster.ErrInvalid, len(shards), len(disks))
	}
	size := 2
	for i := range shards {
		size += appendRowBytes + 8*len(shards[i].Sums)
	}
	b := binary.LittleEndian.AppendUint16(make([]byte, 0, size), uint16(len(shards)))
	for i := range shards {
		s := &shards[i]
		if n := len(s.Payload); n == 0 || n > cluster.MaxShardBytes || len(s.Sums) != cluster.Blocks(n) {
			return nil, fmt.Errorf("%w: %s of %d bytes with %d checksums", cluster.ErrInvalid, s.Key, n, len(s.Sums))
		}
		b = append(b, disks[i][:]...)
		b = appendKey(b, s.Key)
		b = append(b, s.Profile.K, s.Profile.M)
		b = binary.LittleEndian.AppendUint32(b, s.Generation)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s.Payload)))
		for _, sum := range s.Sums {
			b = binary.LittleEndian.AppendUint64(b, sum)
		}
	}
	return b, nil
}

// appendRows walks the rows of an append head and checks every length, also
// that the payloads make up bodyLen.
func appendRows(b []byte, bodyLen int, row func(disk cluster.DiskID, s cluster.Shard, size int)) error {
	if len(b) < 2 {
		return fmt.Errorf("append head of %d bytes", len(b))
	}
	n := int(binary.LittleEndian.Uint16(b))
	b = b[2:]
	if n == 0 || n > maxShardsPerCall {
		return fmt.Errorf("append of %d shards", n)
	}
	for range n {
		if len(b) < appendRowBytes {
			return fmt.Errorf("append head is cut short")
		}
		var disk cluster.DiskID
		copy(disk[:], b)
		s := cluster.Shard{Key: parseKey(b[16:])}
		p := b[16+keyBytes:]
		s.Profile = cluster.Profile{K: p[0], M: p[1]}
		s.Generation = binary.LittleEndian.Uint32(p[2:])
		size := binary.LittleEndian.Uint32(p[6:])
		b = b[appendRowBytes:]
		if size == 0 || size > cluster.MaxShardBytes {
			return fmt.Errorf("shard of %d bytes", size)
		}
		blocks := cluster.Blocks(int(size))
		if len(b) < 8*blocks {
			return fmt.Errorf("append head is cut short")
		}
		s.Sums = make([]uint64, blocks)
		for i := range s.Sums {
			s.Sums[i] = binary.LittleEndian.Uint64(b[8*i:])
		}
		b = b[8*blocks:]
		if bodyLen -= int(size); bodyLen < 0 {
			return fmt.Errorf("append body is too short for its shards")
		}
		row(disk, s, int(size))
	}
	if len(b) != 0 || bodyLen != 0 {
		return fmt.Errorf("append has %d bytes of head and %d of body too many", len(b), bodyLen)
	}
	return nil
}

// splitAppend gives each shard a buffer of its own.
func splitAppend(head []byte, bodyLen int) ([]int, error) {
	var sizes []int
	err := appendRows(head, bodyLen, func(_ cluster.DiskID, _ cluster.Shard, n int) { sizes = append(sizes, n) })
	return sizes, err
}

type readHead struct {
	disk cluster.DiskID
	key  cluster.ShardKey
	r    cluster.BlockRange
	room uint32
}

func (h readHead) encode() []byte {
	b := append(make([]byte, 0, readHeadBytes), h.disk[:]...)
	b = appendKey(b, h.key)
	b = binary.LittleEndian.AppendUint32(b, h.r.First)
	b = binary.LittleEndian.AppendUint32(b, h.r.Count)
	return binary.LittleEndian.AppendUint32(b, h.room)
}

func parseReadHead(b []byte) (h readHead, err error) {
	if len(b) != readHeadBytes {
		return h, fmt.Errorf("%w: read head of %d bytes", cluster.ErrInvalid, len(b))
	}
	copy(h.disk[:], b)
	h.key = parseKey(b[16:])
	b = b[16+keyBytes:]
	h.r = cluster.BlockRange{First: binary.LittleEndian.Uint32(b), Count: binary.LittleEndian.Uint32(b[4:])}
	h.room = binary.LittleEndian.Uint32(b[8:])
	return h, nil
}

// need is how many bytes the read may return at most.
func (h readHead) need() int {
	n := min(int64(h.room), cluster.MaxShardBytes)
	if h.r.Count > 0 {
		n = min(n, int64(h.r.Count)*cluster.BlockBytes)
	}
	return int(n)
}

func encodeBlockRead(r cluster.BlockRead) []byte {
	b := make([]byte, 0, 12+8*len(r.Sums))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.ShardBytes))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Bytes))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Sums)))
	for _, s := range r.Sums {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	return b
}

func parseBlockRead(b []byte, bodyLen int) (r cluster.BlockRead, err error) {
	if len(b) < 12 {
		return r, fmt.Errorf("%w: read answer of %d bytes", ErrFrame, len(b))
	}
	r.ShardBytes, r.Bytes = int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:]))
	n := int(binary.LittleEndian.Uint32(b[8:]))
	if r.Bytes != bodyLen || n != cluster.Blocks(bodyLen) || len(b) != 12+8*n || r.ShardBytes > cluster.MaxShardBytes {
		return cluster.BlockRead{}, fmt.Errorf("%w: read answer of %d bytes and %d checksums with a body of %d", ErrFrame, r.Bytes, n, bodyLen)
	}
	r.Sums = make([]uint64, n)
	for i := range r.Sums {
		r.Sums[i] = binary.LittleEndian.Uint64(b[12+8*i:])
	}
	return r, nil
}

type listHead struct {
	disk  cluster.DiskID
	pg    cluster.PG
	after *cluster.ShardKey
	limit uint32
}

func (h listHead) encode() []byte {
	b := append(make([]byte, 0, listHeadBytes), h.disk[:]...)
	b = binary.LittleEndian.AppendUint16(b, uint16(h.pg))
	var after cluster.ShardKey
	if h.after != nil {
		b, after = append(b, 1), *h.after
	} else {
		b = append(b, 0)
	}
	b = appendKey(b, after)
	return binary.LittleEndian.AppendUint32(b, h.limit)
}

func parseListHead(b []byte) (h listHead, err error) {
	if len(b) != listHeadBytes || b[18] > 1 {
		return h, fmt.Errorf("%w: list head of %d bytes", cluster.ErrInvalid, len(b))
	}
	copy(h.disk[:], b)
	h.pg = cluster.PG(binary.LittleEndian.Uint16(b[16:]))
	if b[18] == 1 {
		k := parseKey(b[19:])
		h.after = &k
	}
	h.limit = binary.LittleEndian.Uint32(b[19+keyBytes:])
	return h, nil
}

func encodeInfos(infos []cluster.ShardInfo) []byte {
	b := make([]byte, 0, infoRowBytes*len(infos))
	for _, i := range infos {
		b = appendKey(b, i.Key)
		b = append(b, i.Profile.K, i.Profile.M)
		b = binary.LittleEndian.AppendUint32(b, i.Generation)
		b = binary.LittleEndian.AppendUint32(b, uint32(i.Bytes))
	}
	return b
}

func parseInfos(b []byte) ([]cluster.ShardInfo, error) {
	if len(b)%infoRowBytes != 0 {
		return nil, fmt.Errorf("%w: list of %d bytes", ErrFrame, len(b))
	}
	infos := make([]cluster.ShardInfo, 0, len(b)/infoRowBytes)
	for ; len(b) > 0; b = b[infoRowBytes:] {
		p := b[keyBytes:]
		infos = append(infos, cluster.ShardInfo{
			Key: parseKey(b), Profile: cluster.Profile{K: p[0], M: p[1]},
			Generation: binary.LittleEndian.Uint32(p[2:]), Bytes: int(binary.LittleEndian.Uint32(p[6:])),
		})
	}
	return infos, nil
}

func encodeKeys(keys []cluster.ShardKey) []byte {
	b := make([]byte, 0, keyBytes*len(keys))
	for _, k := range keys {
		b = appendKey(b, k)
	}
	return b
}

func parseKeys(b []byte) ([]cluster.ShardKey, error) {
	if len(b)%keyBytes != 0 || len(b)/keyBytes > maxKeysPerCall {
		return nil, fmt.Errorf("%w: keys of %d bytes", cluster.ErrInvalid, len(b))
	}
	keys := make([]cluster.ShardKey, 0, len(b)/keyBytes)
	for ; len(b) > 0; b = b[keyBytes:] {
		keys = append(keys, parseKey(b))
	}
	return keys, nil
}
