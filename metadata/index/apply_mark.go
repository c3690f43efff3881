package index

import (
	"bivalve/metadata"
)

// mostMarked bounds the parts of owners' records that one command writes again, but for
// those of its first mark: a blob has up to MaxOwners owners, and every replica has them
// all in memory at once.
const mostMarked = 30_000

// markShards changes what is known to be missing, in the records of all owners. A
// mark of a blob that is not held changes nothing: what is deleted stays deleted. The
// answer ends before the first mark that is too much for one command.
func (ix *Index) markShards(c metadata.MarkShards) (any, error) {
	if len(c.Marks) > metadata.MaxMarks {
		return nil, metadata.ErrMalformed
	}
	out := metadata.BlobStates{States: make([]metadata.BlobState, len(c.Marks))}
	marks := map[metadata.BlobID][]metadata.ShardMark{}
	held := map[metadata.BlobID]holding{}
	var blobs []metadata.BlobID     // in the order of the marks
	var owners []metadata.BlobOwner // each once, in the same order
	recs := ownerRecords{ix: ix}
	parts := 0
	for i, m := range c.Marks {
		h, ok, err := ix.holding(m.Blob)
		if err != nil {
			return nil, err
		}
		if out.States[i] = stateOf(h, ok); out.States[i] != metadata.BlobHeld {
			continue
		}
		if len(m.Zones) != 2 {
			return nil, metadata.ErrMalformed
		}
		if marks[m.Blob] == nil {
			fresh, n, err := recs.unread(h.Owners)
			if err != nil {
				return nil, err
			}
			if parts += n; parts > mostMarked && i > 0 {
				out.States = out.States[:i]
				break
			}
			owners = append(owners, fresh...)
			held[m.Blob] = h
			blobs = append(blobs, m.Blob)
		}
		marks[m.Blob] = append(marks[m.Blob], m)
	}
	was := map[metadata.BlobID]metadata.Blob{}
	for _, id := range blobs {
		b, err := recs.blob(id, held[id])
		if err != nil {
			return nil, err
		}
		was[id] = b
	}
	for _, o := range owners {
		if err := ix.markOwner(&recs, o, marks); err != nil {
			return nil, err
		}
	}
	for _, id := range blobs {
		h, old := held[id], was[id]
		now, err := recs.blob(id, h)
		if err != nil {
			return nil, err
		}
		if err := ix.queue(&h, &old, &now); err != nil {
			return nil, err
		}
		if err := ix.putHolding(id, h); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// queryNews tells which marks would set what is not set.
func (ix *Index) queryNews(c metadata.MarkShards) (any, error) {
	if len(c.Marks) > metadata.MaxMarks {
		return nil, metadata.ErrMalformed
	}
	out := metadata.MarkNews{News: make([]bool, len(c.Marks))}
	recs := ownerRecords{ix: ix}
	for i, m := range c.Marks {
		h, _, err := ix.holding(m.Blob)
		if err != nil {
			return nil, err
		}
		if len(h.Owners) == 0 {
			continue
		}
		b, err := recs.blob(m.Blob, h)
		if err != nil {
			return nil, err
		}
		out.News[i] = !b.Lacks(m)
	}
	return out, nil
}

// markOwner changes the record of one owner.
func (ix *Index) markOwner(recs *ownerRecords, o metadata.BlobOwner, marks map[metadata.BlobID][]metadata.ShardMark) error {
	rec, err := recs.owner(o)
	if err != nil {
		return err
	}
	if err := ix.count(rec.parts, rec.size, -1); err != nil {
		return err
	}
	for i, p := range rec.parts {
		if !p.Held() || marks[p.Blob.ID] == nil {
			continue
		}
		b := *p.Blob // was keeps the old one
		for _, m := range marks[b.ID] {
			b.Mark(m, ix.lastTime)
		}
		rec.parts[i].Blob = &b
	}
	if err := ix.count(rec.parts, rec.size, 1); err != nil {
		return err
	}
	return rec.store()
}
