package disk

import (
	"encoding/binary"
	"fmt"

	"bivalve/cluster"
)

// manifest says which segments live. A segment file that it does not list is
// dead, even if it is there: an unlink is not durable, this file is.
type manifest struct {
	owner owner
	// incarnation counts the openings of the disk, 48 bits.
	incarnation uint64
	next        uint64 // the number of the next segment; numbers are never used again
	segments    []manifestSegment
}

type manifestSegment struct {
	number uint64
	kind   segmentKind
	sealed bool
	length int64 // bytes of a sealed segment
}

const manifestEntryBytes = 24

func (m *manifest) encode() []byte {
	size := padTo(int64(pageHead+16+manifestEntryBytes*len(m.segments)+8), pageBytes)
	b := make([]byte, size)
	putPage(b, magicManifest, m.owner)
	le := binary.LittleEndian
	le.PutUint32(b[10:], uint32(m.incarnation))
	le.PutUint16(b[14:], uint16(m.incarnation>>32))
	le.PutUint64(b[48:], m.next)
	le.PutUint64(b[56:], uint64(len(m.segments)))
	for i, s := range m.segments {
		e := b[64+i*manifestEntryBytes:]
		le.PutUint64(e, s.number)
		e[8] = uint8(s.kind)
		if s.sealed {
			e[9] = 1
		}
		le.PutUint64(e[16:], uint64(s.length))
	}
	sealPage(b)
	return twice(b)
}

func parseManifest(b []byte) (manifest, error) {
	var m manifest
	o, err := checkPage(b, magicManifest)
	if err != nil {
		return m, err
	}
	le := binary.LittleEndian
	m.owner, m.next = o, le.Uint64(b[48:])
	m.incarnation = uint64(le.Uint32(b[10:])) | uint64(le.Uint16(b[14:]))<<32
	n := le.Uint64(b[56:])
	if n > uint64(len(b)-72)/manifestEntryBytes {
		return m, fmt.Errorf("%w: manifest of %d segments in %d bytes", cluster.ErrCorrupt, n, len(b))
	}
	for i := range int(n) {
		e := b[64+i*manifestEntryBytes:]
		s := manifestSegment{number: le.Uint64(e), kind: segmentKind(e[8]), sealed: e[9] == 1, length: int64(le.Uint64(e[16:]))}
		if s.number >= m.next || s.kind != smallSegment && s.kind != largeSegment || s.length < 0 {
			return m, fmt.Errorf("%w: manifest entry %+v", cluster.ErrCorrupt, s)
		}
		m.segments = append(m.segments, s)
	}
	return m, nil
}
