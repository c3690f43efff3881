package disk

import (
	"fmt"

	"bivalve/cluster"
)

func (d *Disk) full() error {
	return fmt.Errorf("disk %s: %w", d.owner.disk, cluster.ErrDiskFull)
}

// commit writes and syncs one batch and enters it into the index. full tells
// that the requests with data were left out because the disk is at its reserve.
func (w *writer) commit(batch []*request) (err error, full bool) {
	d := w.d
	capacity, free, err := d.space()
	if err != nil {
		return fmt.Errorf("disk %s: %w: %w", d.owner.disk, cluster.ErrDiskFailed, err), false
	}
	full = free < d.cfg.reserve(capacity)
	var total int64
	for _, q := range batch {
		if !full || !q.data {
			total += q.bytes
		}
	}
	if total == 0 {
		return nil, full
	}
	if err := w.makeRoom(total, free-d.cfg.reserve(capacity)); err != nil {
		return err, full
	}
	started := d.cfg.Now()
	end := w.layOut(batch, full)
	_, err = w.file.WriteVec(w.bufs, w.pos)
	if err == nil {
		err = w.file.SyncData()
	}
	w.releaseBuffers()
	if err != nil {
		return d.fence("append to segment "+fmt.Sprint(w.seg.number), err), full
	}
	d.metrics.batch(w.kind, end-w.pos, d.cfg.Now().Sub(started))
	w.enter(batch, full, end)
	w.pos = end
	return nil, full
}

// layOut fills w.bufs with the bytes of the batch and tells each write where it
// will lie.
func (w *writer) layOut(batch []*request, full bool) (end int64) {
	pos := w.pos
	var small []byte
	if w.kind == smallSegment {
		var total int64
		for _, q := range batch {
			if !full || !q.data {
				total += q.bytes
			}
		}
		small = w.buffer(int(total))
		w.bufs = append(w.bufs, small)
	}
	for _, q := range batch {
		if full && q.data {
			continue
		}
		for i := range q.writes {
			wr := &q.writes[i]
			wr.at = pos
			wr.header.durable = uint64(w.pos)
			if !wr.moves {
				wr.header.seq = w.d.seq.Add(1)
			}
			size := w.seg.shape.size(wr.header.length)
			if w.kind == smallSegment {
				b := small[pos-w.pos:][:size]
				n := wr.header.put(b, w.seg.seed, pos)
				clear(b[n+copy(b[n:], wr.payload):])
			} else {
				w.layOutLarge(wr)
			}
			pos += size
		}
	}
	return pos
}

// layOutLarge adds header page, payload and padding. A payload that lies on a
// page boundary goes out from the caller's memory, save for its last part page.
func (w *writer) layOutLarge(wr *write) {
	head := w.buffer(int(w.seg.shape.payloadAt(wr.header.length)))
	clear(head[wr.header.put(head, w.seg.seed, wr.at):])
	w.bufs = append(w.bufs, head)
	payload := wr.payload
	if !w.direct || isAligned(payload) {
		whole := len(payload) &^ (pageBytes - 1)
		w.bufs = append(w.bufs, payload[:whole])
		payload = payload[whole:]
	}
	if len(payload) > 0 {
		b := w.buffer(int(padTo(int64(len(payload)), pageBytes)))
		clear(b[copy(b, payload):])
		w.bufs = append(w.bufs, b)
	}
}

func (w *writer) buffer(n int) []byte {
	b := GetBuffer(n)
	w.pooled = append(w.pooled, b)
	return b
}

func (w *writer) releaseBuffers() {
	for _, b := range w.pooled {
		PutBuffer(b)
	}
	clear(w.pooled)
	clear(w.bufs)
	w.pooled, w.bufs = w.pooled[:0], w.bufs[:0]
}

// enter makes a durable batch visible.
func (w *writer) enter(batch []*request, full bool, end int64) {
	d := w.d
	d.mu.Lock()
	for _, q := range batch {
		if full && q.data {
			continue
		}
		for i := range q.writes {
			wr := &q.writes[i]
			h := &wr.header
			if wr.replaces {
				d.retire(wr.old)
				d.damage.forget(h.key)
				if !wr.moves {
					d.addPunch(wr.old)
				}
			}
			if h.kind == kindTombstone {
				w.seg.tombs += w.seg.shape.size(0)
				if wr.replaces {
					d.index.drop(h.key)
				}
				continue
			}
			d.settle(w.seg, h.key, place{
				segment: w.seg.number, offset: wr.at, length: h.length, gen: h.gen, profile: h.profile,
				flags: h.flags, prior: h.target, seq: h.seq, content: wr.content,
			})
		}
	}
	w.seg.end = end
	rows := d.index.count
	d.mu.Unlock()
	switch {
	case rows >= maxOverlayRows:
		// Run is not running or cannot keep up: better slow than out of memory.
		if err := d.checkpoint(true); err != nil {
			d.log.Warn("checkpoint failed", "err", err)
		}
	case rows >= checkpointRows:
		d.kick()
	}
}
