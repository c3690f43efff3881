package index

import (
	"encoding/binary"
	"errors"
	"fmt"

	"bivalve/metadata"
)

// Where blobs are held, a reference is one more owner of them (references), and it is
// pending until the partition that it was made for is known to use it. Where copies
// live, refs counts the parts that name each reference, in whatever record; they are
// no owners in blobs. The queue of releases is ordered by Until: before that, a release
// is what keeps its reference from being named again.

// mostDropped bounds the parts that one entry lets go, which letGo can number.
const mostDropped = 30_000

func (ix *Index) reference(id metadata.RefID) (r metadata.HeldReference, exists bool, err error) {
	raw := ix.t.references.Get(id[:])
	if raw == nil {
		return r, false, nil
	}
	return r, true, decodeRow(raw, &r)
}

func (ix *Index) storeReference(id metadata.RefID, r metadata.HeldReference) error {
	raw, err := metadata.EncodeBody(r)
	if err != nil {
		return err
	}
	return ix.t.references.Put(id[:], raw)
}

func (ix *Index) addReference(a metadata.AddReference) (any, error) {
	if len(a.Blobs) == 0 || len(a.Blobs) > metadata.MaxParts || a.Lifetime <= 0 || a.ID == (metadata.RefID{}) {
		return nil, metadata.ErrMalformed
	}
	if _, exists, err := ix.reference(a.ID); err != nil || exists {
		return nil, orConflict(err)
	}
	r := metadata.HeldReference{To: a.To, Until: ix.lastTime + a.Lifetime}
	added := make(map[metadata.BlobID]int, len(a.Blobs))
	for _, id := range a.Blobs {
		h, _, err := ix.holding(id)
		if added[id]++; err != nil || len(h.Owners) == 0 || len(h.Owners)+added[id] > metadata.MaxOwners {
			return nil, orConflict(err)
		}
		r.Parts = append(r.Parts, metadata.Part{Blob: &metadata.Blob{ID: id}})
	}
	if err := ix.catchUp(r.Parts); err != nil {
		return nil, err
	}
	if err := ix.enter(metadata.ReferenceOwner(a.ID), r.Parts, sizeOf(r.Parts)); err != nil {
		return nil, err
	}
	if err := ix.storeReference(a.ID, r); err != nil {
		return nil, err
	}
	ix.stats.References++
	return metadata.Added{Until: r.Until, Epoch: ix.stats.Epoch}, ix.t.pending.Put(timeKey(r.Until, a.ID[:]), []byte{})
}

// orConflict is err, or else ErrConflict.
func orConflict(err error) error {
	if err == nil {
		err = metadata.ErrConflict
	}
	return err
}

func (ix *Index) dropReferences(d metadata.RefIDs) (any, error) {
	if len(d.IDs) > metadata.MaxReferences {
		return nil, metadata.ErrMalformed
	}
	parts := 0
	for i, id := range d.IDs {
		r, exists, err := ix.reference(id)
		if err != nil {
			return nil, err
		}
		if !exists {
			continue
		}
		if parts += len(r.Parts); parts > mostDropped && i > 0 {
			return metadata.Dropped{Done: i}, nil
		}
		if err := ix.letGo(metadata.ReferenceOwner(id), r.Parts, sizeOf(r.Parts)); err != nil {
			return nil, err
		}
		if err := ix.t.references.Delete(id[:]); err != nil {
			return nil, err
		}
		if err := ix.t.pending.Delete(timeKey(r.Until, id[:])); err != nil {
			return nil, err
		}
		ix.stats.References--
	}
	return metadata.Dropped{Done: len(d.IDs)}, nil
}

// confirmReferences ends the wait for those whose use is known.
func (ix *Index) confirmReferences(c metadata.RefIDs) (any, error) {
	if len(c.IDs) > metadata.MaxReferences {
		return nil, metadata.ErrMalformed
	}
	for _, id := range c.IDs {
		r, exists, err := ix.reference(id)
		if err != nil {
			return nil, err
		}
		if exists {
			err = ix.t.pending.Delete(timeKey(r.Until, id[:]))
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// sizeOf is how many bytes the blobs of parts have.
func sizeOf(parts []metadata.Part) (n int64) {
	for _, p := range parts {
		n += p.Blob.Bytes
	}
	return n
}

// namings tells how often parts name each reference, in the order of the parts.
func namings(parts []metadata.Part) (refs []metadata.Reference, times map[metadata.RefID]uint64) {
	for _, p := range parts {
		if p.Blob == nil || p.Ref == nil {
			continue
		}
		if times == nil {
			times = map[metadata.RefID]uint64{}
		}
		if times[p.Ref.ID]++; times[p.Ref.ID] == 1 {
			refs = append(refs, *p.Ref)
		}
	}
	return refs, times
}

// naming is how many parts of all records name a reference.
func (ix *Index) naming(id metadata.RefID) uint64 {
	raw := ix.t.refs.Get(id[:])
	if len(raw) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(raw)
}

// checkReferences refuses parts that begin to name a reference too late, or again after
// it was let go, or after its home was recovered: it may have dropped or lost it. It
// changes nothing.
func (ix *Index) checkReferences(parts []metadata.Part) error {
	refs, _ := namings(parts)
	for _, r := range refs {
		if ix.naming(r.ID) > 0 {
			continue
		}
		home, err := ix.peer(r.Home)
		if err != nil {
			return err
		}
		if ix.lastTime > r.Until || r.Epoch < home.Epoch || ix.t.releases.Get(timeKey(r.Until, r.ID[:])) != nil {
			return fmt.Errorf("%w: a reference to blobs is not valid any more", metadata.ErrConflict)
		}
	}
	return nil
}

// nameReferences counts the references of parts that a record has from now on.
func (ix *Index) nameReferences(parts []metadata.Part) error {
	refs, times := namings(parts)
	for _, r := range refs {
		was := ix.naming(r.ID)
		if was == 0 {
			if err := ix.beginNaming(r, parts); err != nil {
				return err
			}
		}
		if err := ix.t.refs.Put(r.ID[:], binary.BigEndian.AppendUint64(nil, was+times[r.ID])); err != nil {
			return err
		}
	}
	return nil
}

// unnameReferences ends what nameReferences began. One that no record names any more
// is queued to be released.
func (ix *Index) unnameReferences(parts []metadata.Part) error {
	refs, times := namings(parts)
	for _, r := range refs {
		left := ix.naming(r.ID) - times[r.ID]
		var err error
		switch {
		case left > ix.naming(r.ID):
			err = fmt.Errorf("%w: a record names reference %x, which is not counted", ErrDamaged, r.ID)
		case left > 0:
			err = ix.t.refs.Put(r.ID[:], binary.BigEndian.AppendUint64(nil, left))
		default:
			err = errors.Join(ix.t.refs.Delete(r.ID[:]), ix.endNaming(r), ix.queueRelease(r))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (ix *Index) queueRelease(r metadata.Reference) error {
	ix.stats.Releases++
	return ix.t.releases.Put(timeKey(r.Until, r.ID[:]), binary.BigEndian.AppendUint16(nil, r.Home))
}

func (ix *Index) judgeReferences(j metadata.JudgeReferences) (any, error) {
	if len(j.Refs) > metadata.MaxReferences {
		return nil, metadata.ErrMalformed
	}
	out := metadata.RefStates{States: make([]metadata.RefState, len(j.Refs))}
	for i, r := range j.Refs {
		switch {
		case ix.naming(r.ID) > 0:
			out.States[i] = metadata.RefUsed
		case ix.lastTime > r.Until && ix.t.releases.Get(timeKey(r.Until, r.ID[:])) == nil:
			out.States[i] = metadata.RefGone
		}
	}
	return out, nil
}

func (ix *Index) dropReleases(d metadata.DropReleases) (any, error) {
	if len(d.Refs) > metadata.MaxReferences {
		return nil, metadata.ErrMalformed
	}
	for _, r := range d.Refs {
		k := timeKey(r.Until, r.ID[:])
		if ix.lastTime <= r.Until || ix.t.releases.Get(k) == nil {
			continue
		}
		if err := ix.t.releases.Delete(k); err != nil {
			return nil, err
		}
		ix.stats.Releases--
	}
	return nil, nil
}

// behind is the first key that stands behind a place.
func behind(p metadata.RefPlace) []byte {
	return append(timeKey(p.Until, p.ID[:]), 0)
}

func (ix *Index) queryPending(q metadata.RefPage) (any, error) {
	var out metadata.PendingReferences
	cur := ix.t.pending.Cursor()
	for k, _ := cur.Seek(behind(q.After)); len(k) == 24 && len(out.Refs) < min(q.Limit, metadata.MaxReferences); k, _ = cur.Next() {
		p := metadata.PendingReference{ID: metadata.RefID(k[8:]), Until: int64(binary.BigEndian.Uint64(k))}
		if p.Until >= q.Before {
			break
		}
		r, exists, err := ix.reference(p.ID)
		if err != nil {
			return nil, err
		}
		if !exists {
			return nil, fmt.Errorf("%w: reference %x is pending and has no record", ErrDamaged, p.ID)
		}
		p.To = r.To
		out.Refs = append(out.Refs, p)
	}
	return out, nil
}

func (ix *Index) queryReleases(q metadata.RefPage) (any, error) {
	var out metadata.Releases
	cur := ix.t.releases.Cursor()
	for k, home := cur.Seek(behind(q.After)); len(k) == 24 && len(home) == 2 && len(out.Refs) < min(q.Limit, metadata.MaxReferences); k, home = cur.Next() {
		r := metadata.Reference{ID: metadata.RefID(k[8:]), Until: int64(binary.BigEndian.Uint64(k)), Home: binary.BigEndian.Uint16(home)}
		if r.Until >= q.Before {
			break
		}
		out.Refs = append(out.Refs, r)
	}
	return out, nil
}
