package index

import (
	"bytes"
	"strings"

	"bivalve/metadata"
)

// walk goes through the rows of one table that lie under a bucket and prefix,
// in byte order. Names that contain the delimiter behind the prefix collapse
// into one common prefix each, which is left by a seek, so that the cost follows
// the rows of the answer and not the keys under a prefix.
type walk struct {
	bucket            metadata.BucketID
	prefix, delimiter string
	from              []byte // where to start, bucket id included
	// name is the object key within a table key.
	name func(k []byte) string
	// after is skipped when a common prefix is not behind it.
	after string
}

// cursor goes through a table, or through two as one.
type cursor interface {
	Seek(from []byte) (k, raw []byte)
	Next() (k, raw []byte)
}

// each calls row for every name or common prefix (raw nil) until it says stop.
func (w walk) each(cur cursor, row func(name string, raw []byte, prefix bool) (more bool, err error)) error {
	scope := append(append([]byte(nil), w.bucket[:]...), w.prefix...)
	from := w.from
	if bytes.Compare(from, scope) < 0 {
		from = scope
	}
	k, raw := cur.Seek(from)
	for k != nil && bytes.HasPrefix(k, scope) {
		name := w.name(k)
		if common, ok := w.common(name); ok {
			if common > w.after {
				if more, err := row(common, nil, true); err != nil || !more {
					return err
				}
			}
			next := successor(append(append([]byte(nil), w.bucket[:]...), common...))
			if next == nil {
				return nil
			}
			k, raw = cur.Seek(next)
			continue
		}
		if more, err := row(name, raw, false); err != nil || !more {
			return err
		}
		k, raw = cur.Next()
	}
	return nil
}

// common is the common prefix that a name collapses into.
func (w walk) common(name string) (string, bool) {
	if w.delimiter == "" || len(name) < len(w.prefix) {
		return "", false
	}
	i := strings.Index(name[len(w.prefix):], w.delimiter)
	if i < 0 {
		return "", false
	}
	return name[:len(w.prefix)+i+len(w.delimiter)], true
}

func (ix *Index) queryObjects(q metadata.ObjectPage) (any, error) {
	var out metadata.ObjectRows
	w := walk{
		bucket: q.Bucket, prefix: q.Prefix, delimiter: q.Delimiter, after: q.After,
		from: objectKey(q.Bucket, q.After),
		name: func(k []byte) string { return string(k[16:]) },
	}
	if q.After != "" {
		w.from = append(w.from, 0)
	}
	err := w.each(ix.t.objects.Cursor(), func(name string, raw []byte, prefix bool) (bool, error) {
		if len(out.Rows) == clamp(q.Limit) {
			out.More = true
			return false, nil
		}
		row := metadata.ObjectRow{Name: name}
		if !prefix {
			var err error
			if row.Record, err = metadata.SummaryOnly(raw); err != nil {
				return false, err
			}
		}
		out.Rows = append(out.Rows, row)
		return true, nil
	})
	return out, err
}

func (ix *Index) queryUploads(q metadata.UploadPage) (any, error) {
	var out metadata.UploadRows
	w := walk{
		bucket: q.Bucket, prefix: q.Prefix, delimiter: q.Delimiter, after: q.AfterKey,
		from: objectKey(q.Bucket, q.AfterKey),
		name: func(k []byte) string { return string(k[16 : len(k)-17]) },
	}
	switch {
	case q.AfterKey == "":
	case q.AfterKeyOnly:
		w.from = append(w.from, 1) // behind the separator: all uploads of the key are passed
	default:
		w.from = append(uploadKey(q.Bucket, q.AfterKey, q.AfterUpload), 0)
	}
	err := w.each(ix.t.uploads.Cursor(), func(name string, raw []byte, prefix bool) (bool, error) {
		if len(out.Rows) == clamp(q.Limit) {
			out.More = true
			return false, nil
		}
		row := metadata.UploadRow{Name: name}
		if !prefix {
			row.Upload = new(metadata.Upload)
			if err := decodeRow(raw, row.Upload); err != nil {
				return false, err
			}
		}
		out.Rows = append(out.Rows, row)
		return true, nil
	})
	return out, err
}
