package index

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"bivalve/metadata"
)

// Every blob enters a record through hold and leaves it through letGo, so that
// what is kept beside the records (who owns a blob, the counts, the queue of the
// healer) is always what they say.

// holding is a row of the table of blobs. One without owners is garbage.
type holding struct {
	Owners []metadata.BlobOwner `cbor:"1,keyasint,omitempty"` // one entry for each part of theirs that it is
	Since  int64                `cbor:"2,keyasint,omitempty"` // log time at which it began to lack shards; 0: whole
	Place  []byte               `cbor:"3,keyasint,omitempty"` // in the healer's queue
}

func (ix *Index) holding(id metadata.BlobID) (h holding, known bool, err error) {
	raw := ix.t.blobs.Get(id[:])
	if raw == nil {
		return h, false, nil
	}
	return h, true, decodeRow(raw, &h)
}

func (ix *Index) putHolding(id metadata.BlobID, h holding) error {
	raw, err := metadata.EncodeBody(h)
	if err != nil {
		return err
	}
	return ix.t.blobs.Put(id[:], raw)
}

// hold makes owner an owner of the blobs of its parts; size is what it counts for.
// What is noted of a blob that is held already goes into parts: the caller stores
// them after this. An error that is an answer has changed nothing.
func (ix *Index) hold(owner metadata.BlobOwner, parts []metadata.Part, size int64) error {
	if err := ix.checkReferences(parts); err != nil {
		return err
	}
	if err := ix.catchUp(parts); err != nil {
		return err
	}
	if err := ix.nameReferences(parts); err != nil {
		return err
	}
	return ix.enter(owner, parts, size)
}

// enter adds the owner to what is kept of each blob.
func (ix *Index) enter(owner metadata.BlobOwner, parts []metadata.Part, size int64) error {
	for _, p := range parts {
		if !p.Held() {
			continue
		}
		h, _, err := ix.holding(p.Blob.ID)
		if err != nil {
			return err
		}
		if len(h.Owners) == 0 {
			if err := ix.queue(&h, nil, p.Blob); err != nil {
				return err
			}
		}
		h.Owners = append(h.Owners, owner)
		if err := ix.putHolding(p.Blob.ID, h); err != nil {
			return err
		}
	}
	return ix.count(parts, size, 1)
}

// catchUp gives parts what is noted by now of blobs that are held already, and
// refuses blobs that are being removed, or may have been swept as orphans.
func (ix *Index) catchUp(parts []metadata.Part) error {
	seen := ownerRecords{ix: ix}
	for i, p := range parts {
		if !p.Held() {
			continue
		}
		h, known, err := ix.holding(p.Blob.ID)
		switch {
		case err != nil:
			return err
		case known && len(h.Owners) == 0:
			return fmt.Errorf("%w: blob %s is being removed", metadata.ErrConflict, p.Blob.ID)
		case !known && time.Unix(0, ix.proposed).Sub(p.Blob.ID.Minted()) > metadata.MaxUncommitted:
			return fmt.Errorf("%w: blob %s was begun too long ago, its shards may be gone", metadata.ErrConflict, p.Blob.ID)
		case known:
			now, err := seen.blob(p.Blob.ID, h)
			if err != nil {
				return err
			}
			parts[i].Blob = &now
		}
	}
	return nil
}

// letGo ends what hold began; parts are as they are stored. A blob without owners
// becomes garbage (law L3). One entry queues at most 65,536.
func (ix *Index) letGo(owner metadata.BlobOwner, parts []metadata.Part, size int64) error {
	if err := ix.unnameReferences(parts); err != nil {
		return err
	}
	number := ix.garbageNumber()
	for _, p := range parts {
		if !p.Held() {
			continue
		}
		h, _, err := ix.holding(p.Blob.ID)
		if err != nil {
			return err
		}
		at := slices.Index(h.Owners, owner)
		if at < 0 {
			return fmt.Errorf("%w: blob %s is not held by %+v", ErrDamaged, p.Blob.ID, owner)
		}
		h.Owners = slices.Delete(h.Owners, at, at+1)
		if len(h.Owners) == 0 {
			if err := ix.queue(&h, p.Blob, nil); err != nil {
				return err
			}
			raw, err := metadata.EncodeBody(p.Blob)
			if err != nil {
				return err
			}
			k := binary.BigEndian.AppendUint16(timeKey(ix.lastTime, nil), number)
			if err := ix.t.garbage.Put(k, raw); err != nil {
				return err
			}
			number++
			ix.stats.Garbage++
		}
		if err := ix.putHolding(p.Blob.ID, h); err != nil {
			return err
		}
	}
	return ix.count(parts, size, -1)
}

// forget ends what is known of garbage whose shards are gone.
func (ix *Index) forget(id metadata.GarbageID) error {
	raw := ix.t.garbage.Get(id[:])
	if raw == nil {
		return nil
	}
	var b metadata.Blob
	if err := decodeRow(raw, &b); err != nil {
		return err
	}
	if err := ix.t.garbage.Delete(id[:]); err != nil {
		return err
	}
	ix.stats.Garbage--
	if h, _, err := ix.holding(b.ID); err != nil || len(h.Owners) > 0 {
		return err
	}
	return ix.t.blobs.Delete(b.ID[:])
}

// queryBlob tells of each blob whether it is held here, or garbage, or unknown. What is
// unknown may have been lost, as long as partitions are awaited after a forced recovery.
func (ix *Index) queryBlob(q metadata.BlobIDs) (any, error) {
	if len(q.IDs) > maxRows {
		return nil, fmt.Errorf("%w: %d blobs in one question", metadata.ErrMalformed, len(q.IDs))
	}
	out := metadata.BlobStates{States: make([]metadata.BlobState, len(q.IDs))}
	for i, id := range q.IDs {
		h, known, err := ix.holding(id)
		if err != nil {
			return nil, err
		}
		if !known && ix.stats.Awaited > 0 {
			return nil, metadata.ErrRecovering
		}
		out.States[i] = stateOf(h, known)
	}
	return out, nil
}

func stateOf(h holding, known bool) metadata.BlobState {
	switch {
	case !known:
		return metadata.BlobUnknown
	case len(h.Owners) == 0:
		return metadata.BlobGarbage
	}
	return metadata.BlobHeld
}
