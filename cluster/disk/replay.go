package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
)

// replay brings the index up from the records of the live segments that follow
// their checkpoint; with an empty table that is all of them. It is the only way
// in which Open learns of records (L6).
type replay struct {
	d     *Disk
	tombs map[cluster.ShardKey]uint64 // highest sequence number of a tombstone
	// torn are records of the segment at hand that were not whole, in its last,
	// perhaps unsynced batch, and voids for what has no header there.
	torn []tornRecord
	// damaged counts places before the durable mark that do not hold a record.
	damaged int
	// losses say in words what of it, or of whole segments, is lost.
	losses []string
}

type tornRecord struct {
	header header
	off    int64
}

// maxReasons bounds the damage that is told one by one.
const maxReasons = 16

// flushRows is how many rows a rebuild gathers before it writes them away.
const flushRows = 256 << 10

// segment replays one segment. end is that of its last record, durable the
// offset before which all of it is known to have been synced; synced is what the
// manifest knows of that.
func (r *replay) segment(s *segment, f vfs.File, size, synced int64) (end, durable int64, err error) {
	sc := scanner{f: f, s: s, size: size}
	r.torn = nil
	durable = size
	if !s.sealed {
		// The last header says what was synced before it: all damage after that
		// may be a batch that a crash tore.
		if durable, err = sc.durableMark(s.end); err != nil {
			return 0, 0, err
		}
		durable = max(durable, synced)
	}
	end = s.end
	err = sc.each(s.end, func(h header, off int64) error {
		if h.kind == kindShard && off >= durable {
			// Nobody was told that this one is durable. It counts only if it is whole,
			// else a retry of the append would find it and be told that all is well.
			ok, err := sc.payloadChecks(h, off)
			if err != nil {
				return err
			}
			if !ok {
				h.sums = slices.Clone(h.sums)
				r.torn = append(r.torn, tornRecord{h, off})
				return nil
			}
		}
		r.apply(s, h, off)
		end = off + s.shape.size(h.length)
		if r.d.index.count >= flushRows {
			return r.d.flushRebuild()
		}
		return nil
	}, func(from, to int64) {
		if from < durable {
			r.damaged++
			if r.damaged <= maxReasons {
				r.losses = append(r.losses, fmt.Sprintf("segment %d is damaged from %d to %d", s.number, from, to))
			}
			r.d.log.Error("segment is damaged", "segment", s.number, "from", from, "to", to)
		} else {
			r.torn = append(r.torn, voids(s.shape, from, to)...)
		}
	})
	return end, durable, err
}

// apply does for one record what its writer did, if a later one has not undone
// it. Records come in any order; the sequence number decides.
func (r *replay) apply(s *segment, h header, off int64) {
	d := r.d
	d.seq.Store(max(d.seq.Load(), h.seq))
	size := s.shape.size(h.length)
	d.mu.Lock()
	s.end = off + size
	d.mu.Unlock()
	if h.kind == kindVoid {
		return
	}
	old, found, err := d.lookup(h.key)
	if err != nil {
		found = false // a row that cannot be read is replaced by what the segment says
	}
	if h.kind == kindTombstone {
		r.tombs[h.key] = max(r.tombs[h.key], h.seq)
		d.mu.Lock()
		defer d.mu.Unlock()
		s.tombs += size
		if found && old.seq < h.seq {
			d.bury(h.key, old)
		}
		return
	}
	if r.tombs[h.key] > h.seq || found && old.seq >= h.seq {
		return // dead; or the same record, copied by a compaction that was cut short
	}
	p := place{segment: s.number, offset: off, length: h.length, gen: h.gen, profile: h.profile,
		flags: h.flags, prior: h.target, seq: h.seq, content: contentHash(h.profile, int(h.length), h.sums)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if found {
		d.retire(old)
	}
	d.settle(s, h.key, p)
}

func isRecordError(err error) bool {
	return errors.Is(err, errNoRecord) || errors.Is(err, errBadRecord)
}

// scanner walks the records of a segment.
type scanner struct {
	f    vfs.File
	s    *segment
	size int64
	buf  []byte // a window of the file
	at   int64  // its offset
	n    int    // bytes in it
	sums []uint64
}

const windowBytes = 256 << 10

// view returns at least want bytes at off, or what the file has.
func (c *scanner) view(off int64, want int) ([]byte, error) {
	if off >= c.at && off+int64(want) <= c.at+int64(c.n) {
		return c.buf[off-c.at : c.n], nil
	}
	if c.buf == nil {
		c.buf = make([]byte, windowBytes)
	}
	read := windowBytes
	if c.s.kind == largeSegment && want <= pageBytes {
		read = pageBytes // headers are far apart
	}
	n, err := c.f.ReadVec([][]byte{c.buf[:min(int64(read), max(0, c.size-off))]}, off)
	if err != nil && err != io.EOF {
		c.n = 0
		return nil, err
	}
	c.at, c.n = off, n
	return c.buf[:n], nil
}

// header reads the record header at off.
func (c *scanner) header(off int64) (header, error) {
	b, err := c.view(off, maxHeaderBytes)
	if err != nil {
		return header{}, err
	}
	h, _, err := parseHeader(b, c.s.seed, off, c.sums)
	if err == nil {
		c.sums = h.sums
		if off+c.s.shape.payloadAt(h.length)+int64(h.length) > c.size {
			err = errBadRecord // its payload was cut off
		}
	}
	return h, err
}

// each calls fn for every record from off on, and gap for every stretch that
// holds none but is followed by one, or by other bytes than zeros. h.sums is
// valid until fn returns.
func (c *scanner) each(off int64, fn func(h header, off int64) error, gap func(from, to int64)) error {
	for off < c.size {
		h, err := c.header(off)
		if err == nil {
			if err := fn(h, off); err != nil {
				return err
			}
			off += c.s.shape.size(h.length)
			continue
		}
		if !isRecordError(err) {
			return fmt.Errorf("segment %d at %d: %w", c.s.number, off, err)
		}
		next, data, err := c.resync(off)
		if err != nil {
			return fmt.Errorf("segment %d at %d: %w", c.s.number, off, err)
		}
		if gap != nil && data {
			gap(off, next)
		}
		off = next
	}
	return nil
}

// resync finds the next record after off, where none starts. data tells whether
// there was anything but zeros before it, or a record at all.
func (c *scanner) resync(off int64) (next int64, data bool, err error) {
	align := c.s.shape.align
	for off < c.size {
		at, err := c.f.NextData(off)
		if err != nil {
			return 0, false, err
		}
		if at = at &^ (align - 1); at > off {
			off = at
			continue
		}
		b, err := c.view(off, windowBytes)
		if err != nil || len(b) < headerFixed {
			return c.size, data, err
		}
		// Leave the last header's worth to the next window.
		last := len(b)
		if off+int64(len(b)) < c.size {
			last -= maxHeaderBytes
		}
		if last <= 0 {
			return c.size, data, nil // the file is shorter than it was
		}
		for i := 0; i < last; i += int(align) {
			if len(b)-i >= 8 && binary.LittleEndian.Uint64(b[i:]) != 0 {
				data = true
			}
			if h, _, perr := parseHeader(b[i:], c.s.seed, off+int64(i), c.sums); perr == nil {
				c.sums = h.sums
				if off+int64(i)+c.s.shape.payloadAt(h.length)+int64(h.length) <= c.size {
					return off + int64(i), true, nil
				}
			}
		}
		off += padTo(int64(last), align)
	}
	return c.size, data, nil
}

// durableMark is the durable offset in the last header.
func (c *scanner) durableMark(off int64) (int64, error) {
	mark := off
	err := c.each(off, func(h header, _ int64) error {
		mark = max(mark, int64(h.durable))
		return nil
	}, nil)
	return mark, err
}

func (c *scanner) payloadChecks(h header, off int64) (bool, error) {
	b := GetBuffer(int(h.length))
	defer PutBuffer(b)
	n, err := c.f.ReadVec([][]byte{b}, off+c.s.shape.payloadAt(h.length))
	if err != nil && err != io.EOF {
		return false, err
	}
	if n < len(b) {
		return false, nil
	}
	_, ok := verifyPayload(b, h.sums)
	return ok, nil
}
