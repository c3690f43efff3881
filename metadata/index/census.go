package index

import (
	"bytes"
	"slices"

	"bivalve/metadata"
)

// Bounds of one answer beside that of its rows: a blob of 5 GiB may have 1,280 notes,
// and one that was copied often MaxOwners owners.
const (
	maxPageNotes  = 16_384
	maxPageOwners = 16_384
)

// queryBlobs lists the blobs that are held or garbage.
func (ix *Index) queryBlobs(q metadata.BlobPage) (any, error) {
	var out metadata.BlobRows
	recs := ownerRecords{ix: ix}
	notes, owners := 0, 0
	cur := ix.t.blobs.Cursor()
	var from []byte
	if q.After != nil {
		from = append(bytes.Clone(q.After), 0)
	}
	for k, raw := cur.Seek(from); len(k) == len(metadata.BlobID{}); k, raw = cur.Next() {
		if len(out.Rows) == clamp(q.Limit) || notes > maxPageNotes || owners > maxPageOwners {
			out.More = true
			break
		}
		var h holding
		if err := decodeRow(raw, &h); err != nil {
			return nil, err
		}
		row, err := ix.blobRow(&recs, metadata.BlobID(k), h)
		if err != nil {
			return nil, err
		}
		notes, owners = notes+len(row.Blob.Notes), owners+len(row.Owners)
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

func (ix *Index) blobRow(recs *ownerRecords, id metadata.BlobID, h holding) (row metadata.BlobRow, err error) {
	row = metadata.BlobRow{Blob: metadata.Blob{ID: id}, Since: h.Since}
	if len(h.Owners) == 0 {
		return row, nil
	}
	if row.Blob, err = recs.blob(id, h); err != nil {
		return row, err
	}
	for i, o := range h.Owners {
		if slices.Index(h.Owners, o) < i {
			continue // it names the blob more than once
		}
		rec, err := recs.owner(o)
		if err != nil {
			return row, err
		}
		info := metadata.OwnerInfo{Owner: o, Bytes: rec.size}
		first := slices.IndexFunc(rec.parts, metadata.Part.Held)
		if first >= 0 && rec.parts[first].Blob.ID == id {
			st, _ := metadata.StandingOf(rec.parts)
			info.Standing = &st
		}
		row.Owners = append(row.Owners, info)
	}
	return row, nil
}

// queryLast goes through the head of the queue: the blobs with no shard to spare. Since
// it names each object once, whoever knows which places are on one disk can count the
// objects that hang on it exactly.
func (ix *Index) queryLast(q metadata.LastPage) (any, error) {
	var out metadata.LastPlaces
	recs := ownerRecords{ix: ix}
	told := map[metadata.BlobOwner]bool{}
	blobs, owners := 0, 0
	cur := ix.t.under.Cursor()
	for k, _ := cur.Seek(nil); len(k) == 18 && k[0] == 0; k, _ = cur.Next() {
		if blobs++; blobs > clamp(q.Limit) || owners > maxPageOwners {
			out.More = true
			break
		}
		h, _, err := ix.holding(metadata.BlobID(k[2:]))
		if err != nil {
			return nil, err
		}
		owners += len(h.Owners)
		for _, o := range h.Owners {
			if told[o] {
				continue
			}
			told[o] = true
			rec, err := recs.owner(o)
			if err != nil {
				return nil, err
			}
			if st, _ := metadata.StandingOf(rec.parts); !st.Unreadable { // else it is lost already
				out.Objects = append(out.Objects, st.Last)
			}
		}
	}
	return out, nil
}
