package index

import (
	"bytes"
	"encoding/binary"

	"bivalve/metadata"
)

// place is where a blob that lacks shards stands in the healer's queue: by how many
// more shards of its worst chunk may be lost, then those first that the loss of a
// zone would take, then by id. What cannot be read, and so not be healed, is last.
func place(b *metadata.Blob) []byte {
	k := []byte{255, 1}
	if spare := b.Spare(); spare >= 0 {
		k[0] = byte(spare)
	}
	if len(b.AtRisk) > 0 {
		k[1] = 0
	}
	return append(k, b.ID[:]...)
}

// queue puts a blob into the healer's queue, moves it there or takes it out, and
// keeps the counts of the places that lack its shards. was and now are the blob
// before and after; nil: not held.
func (ix *Index) queue(h *holding, was, now *metadata.Blob) error {
	if err := ix.countMissing(was, -1); err != nil {
		return err
	}
	if err := ix.countMissing(now, 1); err != nil {
		return err
	}
	var at []byte
	if now != nil && now.UnderProtected() {
		at = place(now)
	}
	if bytes.Equal(at, h.Place) {
		return nil
	}
	if h.Place != nil {
		if err := ix.t.under.Delete(h.Place); err != nil {
			return err
		}
	}
	id := h.Place
	if at != nil {
		id = at
	}
	id = id[2:]
	switch {
	case h.Place == nil:
		h.Since = ix.lastTime
		ix.stats.Queued++
		if err := ix.t.since.Put(timeKey(h.Since, id), []byte{}); err != nil {
			return err
		}
	case at == nil:
		ix.stats.Queued--
		if err := ix.t.since.Delete(timeKey(h.Since, id)); err != nil {
			return err
		}
		h.Since = 0
	}
	h.Place = at
	if at == nil {
		return nil
	}
	return ix.t.under.Put(at, []byte{})
}

// oldest is when the first of the queue began to lack shards; 0: none does.
func (ix *Index) oldest() int64 {
	k, _ := ix.t.since.Cursor().First()
	if len(k) < 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(k))
}

// count adds what one owner of blobs (sign 1), or its removal (sign -1), means for
// protection.
func (ix *Index) count(parts []metadata.Part, size, sign int64) error {
	st, blobs := metadata.StandingOf(parts)
	if !blobs {
		return nil
	}
	ix.stats.WithBlobs += sign
	ix.stats.Changes++
	if st.Under {
		ix.stats.UnderProtected += sign
		ix.stats.UnderBytes += sign * size
	}
	if st.Unreadable {
		ix.stats.Unreadable += sign
	}
	for _, zone := range st.AtRisk {
		ix.stats.AtRisk[zone] += sign
	}
	for _, s := range st.Last {
		if err := ix.addSlot(metadata.SlotCount{Slot: s, Last: sign}); err != nil {
			return err
		}
	}
	return nil
}

// countMissing adds the shards that a held blob lacks to the places that lack them.
func (ix *Index) countMissing(b *metadata.Blob, sign int64) error {
	if b == nil {
		return nil
	}
	for _, n := range b.Notes {
		if n.Missing == 0 || len(n.Zones) != 2 {
			continue
		}
		for i := range b.Profile.Shards() {
			if n.Missing&(1<<i) == 0 {
				continue
			}
			c := metadata.SlotCount{Slot: metadata.Slot{PG: n.PG, Index: uint8(i)}, Missing: sign, Bytes: sign * b.ShardBytes(n.Chunk)}
			if err := ix.addSlot(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func slotKey(s metadata.Slot) []byte {
	return append(binary.BigEndian.AppendUint16(nil, s.PG), s.Index)
}

// addSlot adds to the row of a place; a row that says nothing is left out.
func (ix *Index) addSlot(add metadata.SlotCount) error {
	k := slotKey(add.Slot)
	var c metadata.SlotCount
	if raw := ix.t.slots.Get(k); raw != nil {
		if err := decodeRow(raw, &c); err != nil {
			return err
		}
	}
	c.Slot = add.Slot
	c.Last, c.Missing, c.Bytes = c.Last+add.Last, c.Missing+add.Missing, c.Bytes+add.Bytes
	if c.Last == 0 && c.Missing == 0 && c.Bytes == 0 {
		return ix.t.slots.Delete(k)
	}
	raw, err := metadata.EncodeBody(c)
	if err != nil {
		return err
	}
	return ix.t.slots.Put(k, raw)
}

// maxSlots bounds the places of one answer: an eighth of what may be decoded at once.
const maxSlots = 1 << 14

func (ix *Index) querySlots(q metadata.SlotPage) (any, error) {
	var out metadata.Slots
	var from []byte
	if q.After != nil {
		from = append(slotKey(*q.After), 0)
	}
	cur := ix.t.slots.Cursor()
	for k, raw := cur.Seek(from); k != nil; k, raw = cur.Next() {
		if len(out.Slots) == maxSlots {
			out.More = true
			break
		}
		var c metadata.SlotCount
		if err := decodeRow(raw, &c); err != nil {
			return nil, err
		}
		out.Slots = append(out.Slots, c)
	}
	return out, nil
}

func (ix *Index) queryUnder(q metadata.UnderPage) (any, error) {
	var out metadata.UnderBlobs
	seen := ownerRecords{ix: ix}
	cur := ix.t.under.Cursor()
	for k, _ := cur.Seek(append(bytes.Clone(q.After), 0)); len(k) == 18; k, _ = cur.Next() {
		if len(out.Blobs) == clamp(q.Limit) {
			out.More = true
			break
		}
		id := metadata.BlobID(k[2:])
		h, _, err := ix.holding(id)
		if err != nil {
			return nil, err
		}
		u := metadata.UnderBlob{Place: bytes.Clone(k), Since: h.Since}
		if u.Blob, err = seen.blob(id, h); err != nil {
			return nil, err
		}
		out.Blobs = append(out.Blobs, u)
	}
	return out, nil
}
