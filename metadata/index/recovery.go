package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"bivalve/metadata"
)

// Bounds of one step of a comparison after a forced recovery.
const (
	doubtedRows  = 10_000   // references that one command looks at,
	doubtedBytes = 16 << 20 // unless their rows have more than this
	namedParts   = 10_000   // beyond which a page ends
	// namedBytes bounds a page of more than one reference: it becomes a command, which
	// the log bounds. Those of one reference came in a command.
	namedBytes = 1 << 20

	maxPartitions = 4096
)

func peerKey(partition uint16) []byte { return binary.BigEndian.AppendUint16(nil, partition) }

func namedKey(home uint16, id metadata.RefID) []byte { return append(peerKey(home), id[:]...) }

func (ix *Index) peer(partition uint16) (p metadata.PeerState, err error) {
	if raw := ix.t.peers.Get(peerKey(partition)); raw != nil {
		err = decodeRow(raw, &p)
	}
	return p, err
}

// changePeer keeps the counts in step.
func (ix *Index) changePeer(partition uint16, change func(*metadata.PeerState)) error {
	p, err := ix.peer(partition)
	if err != nil {
		return err
	}
	was := p
	if change(&p); p == was {
		return nil
	}
	ix.stats.Awaited += one(p.Awaited) - one(was.Awaited)
	ix.stats.Untold += one(p.Untold) - one(was.Untold)
	raw, err := metadata.EncodeBody(p)
	if err != nil {
		return err
	}
	return ix.t.peers.Put(peerKey(partition), raw)
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// recovered begins what follows a forced recovery: all partitions are awaited, and untold,
// and every reference is asked about again. This one is as well: what it goes on with may
// end with entries of a leader that was none any more.
func (ix *Index) recovered(r metadata.Recovered) (any, error) {
	if r.Partitions < 1 || r.Partitions > maxPartitions {
		return nil, metadata.ErrMalformed
	}
	if r.Epoch <= ix.stats.Epoch {
		return nil, metadata.ErrConflict
	}
	ix.stats.Epoch = r.Epoch
	for n := uint16(1); n <= r.Partitions; n++ {
		if err := ix.changePeer(n, func(p *metadata.PeerState) { p.Awaited, p.Untold = true, true }); err != nil {
			return nil, err
		}
	}
	for after, more := (metadata.RefID{}), true; more; {
		d, err := ix.doubt(after, func(uint16) bool { return true })
		if err != nil {
			return nil, err
		}
		after, more = d.Last, d.More
	}
	return nil, nil
}

func (ix *Index) fenceHome(f metadata.FenceHome) (any, error) {
	return nil, ix.changePeer(f.Home, func(p *metadata.PeerState) { p.Epoch = max(p.Epoch, f.Epoch) })
}

func (ix *Index) doubtReferences(d metadata.DoubtReferences) (any, error) {
	return ix.doubt(d.After, func(to uint16) bool { return to == d.To })
}

// doubt makes references pending again.
func (ix *Index) doubt(after metadata.RefID, about func(to uint16) bool) (metadata.Doubted, error) {
	d := metadata.Doubted{Last: after}
	var pending [][]byte
	looked, size := 0, 0
	cur := ix.t.references.Cursor()
	for k, raw := cur.Seek(append(after[:], 0)); k != nil; k, raw = cur.Next() {
		if looked == doubtedRows || size > doubtedBytes {
			d.More = true
			break
		}
		looked, size = looked+1, size+len(raw)
		d.Last = metadata.RefID(k)
		var r struct { // of a metadata.HeldReference, which may have 10,000 parts
			To    uint16 `cbor:"1,keyasint"`
			Until int64  `cbor:"2,keyasint"`
		}
		if err := decodeRow(raw, &r); err != nil {
			return d, err
		}
		if about(r.To) {
			pending = append(pending, timeKey(r.Until, k))
		}
	}
	for _, k := range pending {
		if err := ix.t.pending.Put(k, []byte{}); err != nil {
			return d, err
		}
	}
	return d, nil
}

// assertReferences takes in what another partition's records name.
func (ix *Index) assertReferences(a metadata.AssertReferences) (any, error) {
	parts := 0
	for _, n := range a.Refs {
		if parts += len(n.Blobs); len(n.Blobs) == 0 || n.Ref.ID == (metadata.RefID{}) {
			return nil, metadata.ErrMalformed
		}
	}
	if len(a.Refs) > metadata.MaxReferences || parts > mostDropped {
		return nil, metadata.ErrMalformed
	}
	if a.Epoch != ix.stats.Epoch {
		return nil, fmt.Errorf("%w: this partition is in epoch %d", metadata.ErrConflict, ix.stats.Epoch)
	}
	from, err := ix.peer(a.From)
	if err != nil {
		return nil, err
	}
	var out metadata.Asserted
	var garbage map[metadata.BlobID]garbageRow
	for _, n := range a.Refs {
		if _, exists, err := ix.reference(n.Ref.ID); err != nil {
			return nil, err
		} else if exists {
			continue
		}
		lost, err := ix.lost(n.Blobs)
		if err != nil {
			return nil, err
		}
		switch {
		case len(lost) == 0:
		case !from.Awaited:
			out.Gone = append(out.Gone, n.Ref.ID)
			continue
		case garbage == nil:
			if garbage, err = ix.garbageOf(a.Refs); err != nil {
				return nil, err
			}
		}
		if err := ix.makeAgain(a.From, n, lost, garbage); err != nil {
			return nil, err
		}
		out.Made++
		out.Revived += len(lost)
	}
	if a.Last {
		err = ix.changePeer(a.From, func(p *metadata.PeerState) { p.Awaited = false })
	}
	return out, err
}

// lost are those of blobs that nobody holds here, each once.
func (ix *Index) lost(blobs []metadata.Blob) (map[metadata.BlobID]bool, error) {
	var out map[metadata.BlobID]bool
	for _, b := range blobs {
		h, _, err := ix.holding(b.ID)
		if err != nil {
			return nil, err
		}
		if len(h.Owners) == 0 {
			if out == nil {
				out = map[metadata.BlobID]bool{}
			}
			out[b.ID] = true
		}
	}
	return out, nil
}

type garbageRow struct {
	key  []byte
	blob metadata.Blob
}

// garbageOf is what of the queue is of blobs that references name, by blob. While
// partitions are awaited the queue only grows, so it is not taken into memory whole.
func (ix *Index) garbageOf(refs []metadata.Naming) (map[metadata.BlobID]garbageRow, error) {
	named := map[metadata.BlobID]bool{}
	for _, n := range refs {
		for _, b := range n.Blobs {
			named[b.ID] = true
		}
	}
	out := map[metadata.BlobID]garbageRow{}
	cur := ix.t.garbage.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var b metadata.Blob
		if err := decodeRow(raw, &b); err != nil {
			return nil, err
		}
		if named[b.ID] {
			out[b.ID] = garbageRow{bytes.Clone(k), b}
		}
	}
	return out, nil
}

// makeAgain makes a reference that was lost. What lacks shards of a blob that was garbage
// is known; what lacks of one that was not known is found out by who reads it.
func (ix *Index) makeAgain(to uint16, n metadata.Naming, lost map[metadata.BlobID]bool, garbage map[metadata.BlobID]garbageRow) error {
	r := metadata.HeldReference{To: to, Until: n.Ref.Until}
	seen := ownerRecords{ix: ix}
	for _, b := range n.Blobs {
		switch row, was := garbage[b.ID]; {
		case lost[b.ID] && was:
			b = row.blob
			if ix.t.garbage.Get(row.key) == nil {
				break // taken out for an earlier part
			}
			if err := ix.t.garbage.Delete(row.key); err != nil {
				return err
			}
			ix.stats.Garbage--
		case !lost[b.ID]:
			h, _, err := ix.holding(b.ID)
			if err == nil {
				b, err = seen.blob(b.ID, h)
			}
			if err != nil {
				return err
			}
		}
		r.Parts = append(r.Parts, metadata.Part{Blob: &b})
	}
	if err := ix.enter(metadata.ReferenceOwner(n.Ref.ID), r.Parts, sizeOf(r.Parts)); err != nil {
		return err
	}
	if err := ix.storeReference(n.Ref.ID, r); err != nil {
		return err
	}
	ix.stats.References++
	// It may have been let go while the word of it was under way.
	return ix.t.pending.Put(timeKey(r.Until, n.Ref.ID[:]), []byte{})
}

// toldHome notes what a home answered.
func (ix *Index) toldHome(t metadata.ToldHome) (any, error) {
	if len(t.Broken) > metadata.MaxReferences || len(t.Whole) > metadata.MaxReferences {
		return nil, metadata.ErrMalformed
	}
	if err := errors.Join(ix.callBroken(t.Home, t.Broken, true), ix.callBroken(t.Home, t.Whole, false)); err != nil {
		return nil, err
	}
	if !t.Done || t.Own != ix.stats.Epoch {
		return nil, nil
	}
	return nil, ix.changePeer(t.Home, func(p *metadata.PeerState) {
		if p.Epoch == t.Epoch {
			p.Untold = false
		}
	})
}

func (ix *Index) callBroken(home uint16, ids []metadata.RefID, broken bool) error {
	for _, id := range ids {
		n, named, err := ix.blobsNamed(home, id)
		if err != nil {
			return err
		}
		if !named || n.Broken == broken {
			continue
		}
		n.Broken = broken
		ix.stats.Broken += one(broken) - one(!broken)
		if err := ix.storeNamed(n); err != nil {
			return err
		}
	}
	return nil
}
