package disk

import (
	"encoding/binary"
	"fmt"

	"bivalve/cluster"

	"github.com/zeebo/xxh3"
)

// A page is 4096 bytes that name what a file is; every kind of file of a disk
// starts with one. FORMAT.md has the table.
const (
	pageVersion = 1
	pageSumAt   = pageBytes - 8

	magicIdentity = "BVDISK\x00\x01"
	magicCanary   = "BVCANA\x00\x01"
	magicLoss     = "BVLOSS\x00\x01"
	magicSegment  = "BVSEGM\x00\x01"
	magicManifest = "BVMANI\x00\x01"
)

// owner is the cluster and the disk that a file belongs to.
type owner struct {
	cluster [16]byte
	disk    cluster.DiskID
}

// pageHead is the common start of a page: magic, version, owner; body follows.
const pageHead = 48

func putPage(b []byte, magic string, o owner) {
	clear(b)
	copy(b, magic)
	binary.LittleEndian.PutUint16(b[8:], pageVersion)
	copy(b[16:32], o.cluster[:])
	copy(b[32:48], o.disk[:])
}

func sealPage(b []byte) {
	binary.LittleEndian.PutUint64(b[len(b)-8:], xxh3.Hash(b[:len(b)-8]))
}

// checkPage tells whether b is a page of that magic. Damage and a version of
// another build are both ErrCorrupt: neither may be written to.
func checkPage(b []byte, magic string) (owner, error) {
	var o owner
	if len(b) < pageBytes || binary.LittleEndian.Uint64(b[len(b)-8:]) != xxh3.Hash(b[:len(b)-8]) {
		return o, fmt.Errorf("%w: page does not check", cluster.ErrCorrupt)
	}
	if string(b[:8]) != magic {
		return o, fmt.Errorf("%w: magic %q, want %q", cluster.ErrCorrupt, b[:8], magic)
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != pageVersion {
		return o, fmt.Errorf("%w: version %d, this build reads %d", cluster.ErrCorrupt, v, pageVersion)
	}
	copy(o.cluster[:], b[16:32])
	copy(o.disk[:], b[32:48])
	return o, nil
}

type segmentKind uint8

const (
	smallSegment segmentKind = 1
	largeSegment segmentKind = 2
)

func (k segmentKind) String() string {
	if k == largeSegment {
		return "large"
	}
	return "small"
}

// superblock is the first page of a segment.
func putSuperblock(b []byte, o owner, number uint64, kind segmentKind, unixMilli int64) {
	putPage(b, magicSegment, o)
	binary.LittleEndian.PutUint64(b[48:], number)
	b[56] = uint8(kind)
	binary.LittleEndian.PutUint64(b[64:], uint64(unixMilli))
	sealPage(b[:pageBytes])
}

func checkSuperblock(b []byte, o owner, number uint64, kind segmentKind) error {
	got, err := checkPage(b, magicSegment)
	switch {
	case err != nil:
		return err
	case got != o:
		return fmt.Errorf("%w: segment of disk %s", cluster.ErrCorrupt, got.disk)
	case binary.LittleEndian.Uint64(b[48:]) != number || segmentKind(b[56]) != kind:
		return fmt.Errorf("%w: superblock of segment %d, kind %d", cluster.ErrCorrupt, binary.LittleEndian.Uint64(b[48:]), b[56])
	}
	return nil
}
