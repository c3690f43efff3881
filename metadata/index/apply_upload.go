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
	return u, metadata.DecodeBody(raw, &u)
}

// part is one part of an upload, if it was stored.
func (ix *Index) part(id metadata.UploadID, number int) (metadata.Part, bool, error) {
	var p metadata.Part
	raw := ix.t.parts.Get(partKey(id, number))
	if raw == nil {
		return p, false, nil
	}
	err := metadata.DecodeBody(raw, &p)
	return p, err == nil, err
}

func (ix *Index) createUpload(u metadata.Upload) (any, error) {
	if err := ix.fenced(u.Bucket); err != nil {
		return nil, err
	}
	u.Initiated = int64(binary.BigEndian.Uint64(u.ID[:8]))
	raw, err := metadata.EncodeBody(u)
	if err != nil {
		return nil, err
	}
	ix.stats.Uploads++
	return nil, ix.t.uploads.Put(uploadKey(u.Bucket, u.Key, u.ID), raw)
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
	if exists {
		if err := ix.discardParts([]metadata.Part{old}); err != nil {
			return nil, err
		}
	}
	p.Part.Modified = ix.lastTime
	raw, err := metadata.EncodeBody(p.Part)
	if err != nil {
		return nil, err
	}
	ix.count([]metadata.Part{p.Part}, p.Part.Bytes, 1)
	if err := ix.t.parts.Put(partKey(p.Upload.ID, p.Part.Number), raw); err != nil {
		return nil, err
	}
	return metadata.Committed{Modified: ix.lastTime}, nil
}

// discardParts takes uploaded parts out of the counts and queues their blobs.
func (ix *Index) discardParts(parts []metadata.Part) error {
	for _, p := range parts {
		ix.count([]metadata.Part{p}, p.Bytes, -1)
	}
	return ix.queueGarbage(parts)
}

func (ix *Index) completeUpload(c metadata.CompleteUpload) (any, error) {
	ref := metadata.UploadRef{Bucket: c.Version.Bucket, Key: c.Version.Key, ID: c.Upload}
	if _, err := ix.upload(ref); err != nil {
		return nil, err
	}
	listed := make(map[int]bool, len(c.Version.Parts))
	for _, want := range c.Version.Parts {
		have, exists, err := ix.part(c.Upload, want.Number)
		if err != nil {
			return nil, err
		}
		if !exists || !sameBlob(have.Blob, want.Blob) {
			return nil, metadata.ErrPartChanged
		}
		listed[want.Number] = true
	}
	answer, err := ix.commitVersion(c.Version, c.Condition)
	if err != nil {
		return nil, err
	}
	var unlisted []metadata.Part
	err = ix.removeParts(c.Upload, func(p metadata.Part) {
		if listed[p.Number] {
			ix.count([]metadata.Part{p}, p.Bytes, -1) // counted with the version from now on
		} else {
			unlisted = append(unlisted, p)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := ix.discardParts(unlisted); err != nil {
		return nil, err
	}
	ix.stats.Uploads--
	if err := ix.t.uploads.Delete(uploadKey(ref.Bucket, ref.Key, ref.ID)); err != nil {
		return nil, err
	}
	return answer, ix.finish(c)
}

func sameBlob(a, b *metadata.Blob) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ID == b.ID
}

// removeParts deletes every part record of an upload, showing each to see.
func (ix *Index) removeParts(id metadata.UploadID, see func(metadata.Part)) error {
	var keys [][]byte // deleted after the walk: a cursor does not survive a delete
	cur := ix.t.parts.Cursor()
	for k, raw := cur.Seek(id[:]); len(k) == 18 && metadata.UploadID(k[:16]) == id; k, raw = cur.Next() {
		var p metadata.Part
		if err := metadata.DecodeBody(raw, &p); err != nil {
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
func (ix *Index) finish(c metadata.CompleteUpload) error {
	v := c.Version
	raw, err := metadata.EncodeBody(metadata.Finished{Bucket: v.Bucket, Key: v.Key, ETag: v.ETag,
		Checksum: v.Checksum, Modified: ix.lastTime, Bytes: v.Bytes})
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
	if err := ix.discardParts(parts); err != nil {
		return nil, err
	}
	ix.stats.Uploads--
	return nil, ix.t.uploads.Delete(uploadKey(r.Bucket, r.Key, r.ID))
}
