package cluster

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// NodeID names one server process for the life of the region, such as "a1".
type NodeID string

// Zone names an availability zone, a failure domain, such as "a".
type Zone string

// Epoch numbers the layouts of a region; it only grows. 0 means "no layout".
type Epoch uint64

// PG is a placement group, in 0..PGs-1 of the layout.
type PG uint16

// ShardIndex is the place of a shard among the 2(k+m) of its chunk.
type ShardIndex uint8

// DiskID identifies one disk; it is written inside the disk.
type DiskID [16]byte

// BlobID names an immutable blob: big-endian partition (2 bytes), milliseconds
// since 1970 (6 bytes), random (8 bytes).
type BlobID [16]byte

// NewBlobID packs a blob id. Only the low 48 bits of unixMilli are kept.
func NewBlobID(partition uint16, unixMilli int64, random [8]byte) BlobID {
	var id BlobID
	binary.BigEndian.PutUint64(id[0:8], uint64(partition)<<48|uint64(unixMilli)&(1<<48-1))
	copy(id[8:], random[:])
	return id
}

// Partition is the metadata partition that the blob was minted for.
func (b BlobID) Partition() uint16 { return binary.BigEndian.Uint16(b[:2]) }

// UnixMilli is when the blob id was minted, by the clock of the node that did.
func (b BlobID) UnixMilli() int64 {
	return int64(binary.BigEndian.Uint64(b[:8]) & (1<<48 - 1))
}

func (b BlobID) String() string { return hex.EncodeToString(b[:]) }

func (d DiskID) String() string { return hex.EncodeToString(d[:]) }

// IsZero tells an id that was never set.
func (d DiskID) IsZero() bool { return d == DiskID{} }

// MarshalText is 32 lower-case hex digits.
func (d DiskID) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts exactly 32 hex digits.
func (d *DiskID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(d) {
		return fmt.Errorf("disk id %q: want 32 hex digits", text)
	}
	copy(d[:], raw)
	return nil
}

// ParseDiskID reads what DiskID.String wrote.
func ParseDiskID(s string) (DiskID, error) {
	var d DiskID
	err := d.UnmarshalText([]byte(s))
	return d, err
}
