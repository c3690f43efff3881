package index

import (
	"bytes"
	"encoding/binary"

	"bivalve/metadata"
)

// history goes through the tables objects and versions as if they were one, with
// the keys of versions. A row of objects takes the place of the version that it is.
type history struct {
	objects, versions records
	ok, vk            []byte // the rows at which the two stand; ok is as versionKey
	oraw, vraw        []byte
}

// Seek goes to the first row at or behind from.
func (h *history) Seek(from []byte) (k, raw []byte) {
	if len(from) == 16 { // a whole bucket
		h.object(h.objects.Seek(from))
	} else {
		h.seekObject(from)
	}
	h.vk, h.vraw = h.versions.Seek(from)
	return h.least()
}

// seekObject: in objects a key has no tail, so that a place between the versions of
// a key is compared with the time of the row.
func (h *history) seekObject(from []byte) {
	key := from
	if n := len(from) - 9; n >= 16 && from[n] == 0 {
		key = from[:n]
	}
	h.object(h.objects.Seek(key))
	if h.ok != nil && bytes.Compare(h.ok, from) < 0 {
		h.object(h.objects.Next())
	}
}

func (h *history) object(k, raw []byte) {
	h.ok, h.oraw = nil, raw
	if k == nil {
		return
	}
	// A record that does not decode is found by whoever reads it; here it only has
	// to keep its place.
	var at int64
	if s, err := metadata.DecodeSummary("", raw); err == nil {
		at = s.Modified
	}
	h.ok = binary.BigEndian.AppendUint64(append(append(make([]byte, 0, len(k)+9), k...), 0), ^uint64(at))
}

// Next leaves the row that was answered last.
func (h *history) Next() (k, raw []byte) {
	if h.vk == nil || h.ok != nil && bytes.Compare(h.ok, h.vk) < 0 {
		h.object(h.objects.Next())
	} else {
		h.vk, h.vraw = h.versions.Next()
	}
	return h.least()
}

func (h *history) least() (k, raw []byte) {
	if h.vk == nil || h.ok != nil && bytes.Compare(h.ok, h.vk) < 0 {
		return h.ok, h.oraw
	}
	return h.vk, h.vraw
}

func (ix *Index) queryVersions(q metadata.VersionPage) (any, error) {
	var out metadata.VersionRows
	w := walk{bucket: q.Bucket, prefix: q.Prefix, delimiter: q.Delimiter, after: q.AfterKey, name: nameOf, from: ix.versionsFrom(q)}
	last := ""
	err := w.each(&history{objects: ix.t.objects.Cursor(), versions: ix.t.versions.Cursor()}, func(name string, raw []byte, prefix bool) (bool, error) {
		if len(out.Rows) == clamp(q.Limit) {
			out.More = true
			return false, nil
		}
		row := metadata.VersionRow{Name: name}
		if !prefix {
			var err error
			if row.Record, err = metadata.SummaryOnly(raw); err != nil {
				return false, err
			}
			// Only the first row of a key can be its newest; the page may begin in the
			// midst of a key.
			row.Latest = name != last && bytes.Equal(ix.newest(q.Bucket, name), raw)
			last = name
		}
		out.Rows = append(out.Rows, row)
		return true, nil
	})
	return out, err
}

// versionsFrom is the first place behind the marker of a page.
func (ix *Index) versionsFrom(q metadata.VersionPage) []byte {
	at := q.AfterTime
	if at < 0 {
		// The null version that the page before ended with. If it is gone, the key is
		// listed from its newest version on: better twice than not at all.
		at = -1
		if f, err := ix.find(q.Bucket, q.AfterKey, metadata.NullVersion); err == nil && f.exists {
			at = f.v.Modified
		}
	}
	switch {
	case q.AfterKey == "":
		return objectKey(q.Bucket, "")
	case at == 0:
		return append(objectKey(q.Bucket, q.AfterKey), 1) // behind all that 0x00 follows
	case at < 0:
		return versionKey(q.Bucket, q.AfterKey, -1)
	}
	return versionKey(q.Bucket, q.AfterKey, at-1)
}
