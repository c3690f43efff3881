package disk

import (
	"io"

	"bivalve/cluster"
)

// resume goes on with the last segment after a restart. What follows its last
// record is a preallocated tail or a torn batch, and is cut off. What may not
// have been synced is written again first: after a crash of the process alone it
// may be in the page cache only, after a failed sync even marked as written. A
// damaged segment takes no more records.
func (w *writer) resume(s *segment, size, durable int64, torn []tornRecord, damaged bool) error {
	if err := w.close(); err != nil { // two were open: damage kept an earlier one from being sealed
		return err
	}
	if w.seg != nil {
		w.seg.sealed = true
	}
	if err := w.openFile(s); err != nil {
		return err
	}
	w.seg, w.pos, w.allocated = s, s.end, max(size, s.end)
	if err := w.writeAgain(durable, w.pos); err != nil {
		return w.d.fence("write tail again", err)
	}
	for _, t := range torn {
		if t.off < w.pos {
			if err := w.void(t); err != nil {
				return w.d.fence("void torn record", err)
			}
		}
	}
	if err := w.file.Sync(); err != nil {
		return w.d.fence("sync", err)
	}
	if damaged {
		s.sealed = true // in memory; the manifest does not say so, and it is found again
		w.seg, w.pos, w.allocated = nil, 0, 0
		return w.close()
	}
	return w.trim()
}

func (w *writer) writeAgain(from, to int64) error {
	if from >= to {
		return nil
	}
	f, err := w.d.fs.OpenRead(w.seg.path)
	if err != nil {
		return err
	}
	defer closeReader(f)
	const part = 1 << 20
	b := GetBuffer(part)
	defer PutBuffer(b)
	for from < to {
		n := min(to-from, part)
		got, err := f.ReadVec([][]byte{b[:n]}, from)
		if err != nil && err != io.EOF {
			return err
		}
		clear(b[got:n]) // the padding of the last record may not have reached the file
		if _, err := w.file.WriteVec([][]byte{b[:n]}, from); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// void turns the header of a torn record into one that only says how long it is,
// so that no later replay takes it for a shard.
func (w *writer) void(t tornRecord) error {
	t.header.kind = kindVoid
	clear(t.header.sums)
	at := w.seg.shape.payloadAt(t.header.length) // whole pages where writes are direct
	b := GetBuffer(int(at))
	defer PutBuffer(b)
	clear(b[t.header.put(b, w.seg.seed, t.off):])
	_, err := w.file.WriteVec([][]byte{b}, t.off)
	return err
}

// voids are records that together are as long as a stretch of a torn batch in
// which no header is whole. Left as it is, the stretch would look like damage as
// soon as a later batch says that all before it was synced.
func voids(s shape, from, to int64) []tornRecord {
	const most = 1 << 20
	var all []tornRecord
	for to-from >= s.size(0) {
		n := to - from
		if n > 2*most {
			n = most
		}
		h := header{kind: kindVoid}
		if length, ok := s.lengthOf(n); ok {
			h.length, h.sums = length, make([]uint64, cluster.Blocks(int(length)))
		} // else the smallest, as there is no single record of that size
		all = append(all, tornRecord{h, from})
		from += s.size(h.length)
	}
	return all
}

// closeReader closes a file that was only read: nothing can be lost by it.
func closeReader(f io.Closer) { _ = f.Close() }
