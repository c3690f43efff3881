package index

import (
	"encoding/binary"

	"bivalve/metadata"
)

// upload is the one at that place, or ErrNoSuchUpload.
func (ix *Index) upload(r metadata.UploadRef) (metadata.Upload, error) {
	var u metadata.Upload
	raw := ix.t.uploads.Get(uploadKey(r.Bucket, r.Key, r.ID))
	if raw == nil {
		return u, metadata.ErrNoSuchUpload
	}
	return u, decodeRow(raw, &u)
}

// part is one part of an upload, if it was stored.
func (ix *Index) part(id metadata.UploadID, number int) (metadata.Part, bool, error) {
	var p metadata.Part
	raw := ix.t.parts.Get(partKey(id, number))
	if raw == nil {
		return p, false, nil
	}
	err := decodeRow(raw, &p)
	return p, err == nil, err
}

func (ix *Index) createUpload(u metadata.Upload) (any, error) {
	if err := ix.fenced(u.Bucket); err != nil {
		return nil, err
	}
	kind := metadata.SealNone
	if u.Seal != nil {
		kind = u.Seal.Kind
	}
	if err := ix.sealed(u.Bucket, kind); err != nil {
		return nil, err
	}
	u.Initiated = int64(binary.BigEndian.Uint64(u.ID[:8]))
	raw, err := metadata.EncodeBody(u)
	if err != nil {
		return nil, err
	}
	k := uploadKey(u.Bucket, u.Key, u.ID)
	if ix.t.uploads.Get(k) == nil {
		ix.stats.Uploads++
		ix.use(u.Bucket).Uploads++
	}
	return nil, ix.t.uploads.Put(k, raw)
}

func (ix *Index) putPart(p metadata.PutPart) (any, error) {
	if _, err := ix.upload(p.Upload); err != nil {
		return nil, err
	}
	if p.Part.Number < 1 || p.Part.Number > metadata.MaxParts {
		return nil, metadata.ErrMalformed
	}
	old, exists, err := ix.part(p.Upload.ID, p.Part.Number)
	if err != nil {
		return nil, err
	}
	p.Part.Modified = ix.lastTime
	parts := []metadata.Part{p.Part}
	if err := ix.hold(metadata.PartOwner(p.Upload.ID, p.Part.Number), parts, p.Part.Bytes); err != nil {
		return nil, err
	}
	ix.use(p.Upload.Bucket).UploadBytes += p.Part.Bytes
	if exists {
		if err := ix.letGoParts(p.Upload, []metadata.Part{old}); err != nil {
			return nil, err
		}
	}
	if err := ix.storePart(p.Upload.ID, parts[0]); err != nil {
		return nil, err
	}
	return metadata.Committed{Modified: ix.lastTime}, nil
}

// letGoParts lets the blobs of uploaded parts go, each with its part.
func (ix *Index) letGoParts(r metadata.UploadRef, parts []metadata.Part) error {
	for _, p := range parts {
		ix.use(r.Bucket).UploadBytes -= p.Bytes
		if err := ix.letGo(metadata.PartOwner(r.ID, p.Number), []metadata.Part{p}, p.Bytes); err != nil {
			return err
		}
	}
	return nil
}

func (ix *Index) completeUpload(c metadata.CompleteUpload) (any, error) {
	ref := metadata.UploadRef{Bucket: c.Version.Bucket, Key: c.Version.Key, ID: c.Upload}
	if _, err := ix.upload(ref); err != nil {
		return nil, err
	}
	for i, want := range c.Version.Parts {
		have, exists, err := ix.part(c.Upload, want.Number)
		if err != nil {
			return nil, err
		}
		if !exists || !sameBlob(have, want) {
			return nil, metadata.ErrPartChanged
		}
		c.Version.Parts[i].Blob = have.Blob // with its notes, which the command leaves out
	}
	done, err := ix.commitVersion(metadata.PutVersion{Version: c.Version, Condition: c.Condition, Random: c.Random, Clock: c.Clock})
	if err != nil {
		return nil, err
	}
	// The version holds the blobs of the listed parts from now on; the others become
	// garbage.
	var parts []metadata.Part
	if err := ix.removeParts(c.Upload, func(p metadata.Part) { parts = append(parts, p) }); err != nil {
		return nil, err
	}
	if err := ix.letGoParts(ref, parts); err != nil {
		return nil, err
	}
	ix.stats.Uploads--
	ix.use(ref.Bucket).Uploads--
	if err := ix.t.uploads.Delete(uploadKey(ref.Bucket, ref.Key, ref.ID)); err != nil {
		return nil, err
	}
	return done, ix.finish(c, done.ID)
}

// sameBlob tells whether two parts have the same blob, held in the same way.
func sameBlob(a, b metadata.Part) bool {
	if a.Blob == nil || b.Blob == nil {
		return a.Blob == b.Blob
	}
	if a.Ref == nil || b.Ref == nil {
		return a.Blob.ID == b.Blob.ID && a.Ref == b.Ref
	}
	return a.Blob.ID == b.Blob.ID && a.Ref.ID == b.Ref.ID
}

// removeParts deletes every part record of an upload, showing each to see.
func (ix *Index) removeParts(id metadata.UploadID, see func(metadata.Part)) error {
	var keys [][]byte // deleted after the walk: a cursor does not survive a delete
	cur := ix.t.parts.Cursor()
	for k, raw := cur.Seek(id[:]); len(k) == 18 && metadata.UploadID(k[:16]) == id; k, raw = cur.Next() {
		var p metadata.Part
		if err := decodeRow(raw, &p); err != nil {
			return err
		}
		see(p)
		keys = append(keys, append([]byte(nil), k...))
	}
	for _, k := range keys {
		if err := ix.t.parts.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// finish keeps the outcome for clients that ask again, and forgets old ones.
func (ix *Index) finish(c metadata.CompleteUpload, id string) error {
	v := c.Version
	raw, err := metadata.EncodeBody(metadata.Finished{Bucket: v.Bucket, Key: v.Key, ETag: v.ETag,
		Checksum: v.Checksum, Modified: ix.lastTime, Bytes: v.Bytes, Version: id})
	if err != nil {
		return err
	}
	if err := ix.t.finished.Put(c.Upload[:], raw); err != nil {
		return err
	}
	if err := ix.t.finishedQ.Put(timeKey(ix.lastTime, c.Upload[:]), []byte{}); err != nil {
		return err
	}
	cur := ix.t.finishedQ.Cursor()
	for range 2 {
		k, _ := cur.First()
		if len(k) != 24 || ix.lastTime-int64(binary.BigEndian.Uint64(k)) < int64(finishedKeptFor) {
			return nil
		}
		if err := ix.t.finished.Delete(k[8:]); err != nil {
			return err
		}
		if err := ix.t.finishedQ.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func (ix *Index) abortUpload(r metadata.UploadRef) (any, error) {
	if _, err := ix.upload(r); err != nil {
		return nil, err
	}
	var parts []metadata.Part
	if err := ix.removeParts(r.ID, func(p metadata.Part) { parts = append(parts, p) }); err != nil {
		return nil, err
	}
	if err := ix.letGoParts(r, parts); err != nil {
		return nil, err
	}
	ix.stats.Uploads--
	ix.use(r.Bucket).Uploads--
	return nil, ix.t.uploads.Delete(uploadKey(r.Bucket, r.Key, r.ID))
}
