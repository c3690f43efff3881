package index

import (
	"fmt"

	"bivalve/metadata"
)

// ownerRecord is the stored record of an owner of blobs.
type ownerRecord struct {
	parts []metadata.Part
	size  int64
	at    map[metadata.BlobID]int // of the blobs that it owns; the last of parts with that blob
	// store writes the record again with its parts as they are in parts.
	store func() error
}

// owner reads the record of an owner.
func (ix *Index) owner(o metadata.BlobOwner) (*ownerRecord, error) {
	if o.Upload != (metadata.UploadID{}) {
		p, exists, err := ix.part(o.Upload, o.Part)
		if err != nil || !exists {
			return nil, missingOwner(o, err)
		}
		r := &ownerRecord{parts: []metadata.Part{p}, size: p.Bytes}
		r.store = func() error { return ix.storePart(o.Upload, r.parts[0]) }
		return r, nil
	}
	if o.Reference != (metadata.RefID{}) {
		h, exists, err := ix.reference(o.Reference)
		if err != nil || !exists {
			return nil, missingOwner(o, err)
		}
		r := &ownerRecord{parts: h.Parts, size: sizeOf(h.Parts)}
		r.store = func() error { return ix.storeReference(o.Reference, h) } // whose parts are those of r
		return r, nil
	}
	f, err := ix.find(o.Bucket, o.Key, o.Version)
	if err != nil || !f.exists {
		return nil, missingOwner(o, err)
	}
	r := &ownerRecord{parts: f.v.Parts, size: f.v.Bytes}
	r.store = func() error { return ix.storeAgain(f) }
	return r, nil
}

func missingOwner(o metadata.BlobOwner, err error) error {
	if err == nil {
		err = fmt.Errorf("%w: the owner %+v of a blob has no record", ErrDamaged, o)
	}
	return err
}

func (ix *Index) storePart(id metadata.UploadID, p metadata.Part) error {
	raw, err := metadata.EncodeBody(p)
	if err != nil {
		return err
	}
	return ix.t.parts.Put(partKey(id, p.Number), raw)
}

// ownerRecords reads each owner once.
type ownerRecords struct {
	ix   *Index
	read map[metadata.BlobOwner]*ownerRecord
}

func (r *ownerRecords) owner(o metadata.BlobOwner) (*ownerRecord, error) {
	if got := r.read[o]; got != nil {
		return got, nil
	}
	got, err := r.ix.owner(o)
	if err == nil {
		if r.read == nil {
			r.read = map[metadata.BlobOwner]*ownerRecord{}
		}
		r.read[o] = got
	}
	return got, err
}

// unread reads those of owners that were not read before, each once, and tells how many
// parts they have.
func (r *ownerRecords) unread(owners []metadata.BlobOwner) (fresh []metadata.BlobOwner, parts int, err error) {
	for _, o := range owners {
		if r.read[o] != nil {
			continue
		}
		rec, err := r.owner(o)
		if err != nil {
			return nil, 0, err
		}
		fresh, parts = append(fresh, o), parts+len(rec.parts)
	}
	return fresh, parts, nil
}

// blob is what is stored of a held blob; all its owners have the same of it.
func (r *ownerRecords) blob(id metadata.BlobID, h holding) (metadata.Blob, error) {
	rec, err := r.owner(h.Owners[0])
	if err != nil {
		return metadata.Blob{}, err
	}
	if i, there := rec.index()[id]; there {
		return *rec.parts[i].Blob, nil
	}
	return metadata.Blob{}, fmt.Errorf("%w: %+v owns blob %s and does not name it", ErrDamaged, h.Owners[0], id)
}

// index finds the parts of a record by their blobs.
func (r *ownerRecord) index() map[metadata.BlobID]int {
	if r.at == nil {
		r.at = make(map[metadata.BlobID]int, len(r.parts))
		for i, p := range r.parts {
			if p.Held() {
				r.at[p.Blob.ID] = i
			}
		}
	}
	return r.at
}
