package index

import (
	"bytes"
	"fmt"

	"bivalve/metadata"
)

// Limits of one answer; whoever wants more asks again.
const (
	maxRows    = 10_001
	maxGarbage = 10_000
	// maxAnswer bounds in bytes what no count of rows bounds: notes of missing shards. It
	// is half of what nodes carry.
	maxAnswer = 8 << 20
)

// Query answers a read at the state as applied. Errors that are answers travel
// in the result; an error of this call means that the replica cannot answer.
func (ix *Index) Query(raw []byte) (_ []byte, err error) {
	defer ix.guard(&err)()
	kind, body, err := metadata.ParseQuery(raw)
	if err != nil {
		return metadata.EncodeResult(nil, err), nil
	}
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.closed {
		return nil, fmt.Errorf("index %s: closed", ix.path)
	}
	if err := ix.failure(); err != nil {
		return nil, err
	}
	payload, err := ix.ask(kind, body)
	if err != nil && !metadata.IsAnswer(err) {
		return nil, fmt.Errorf("index %s: query %d: %w", ix.path, kind, err)
	}
	return metadata.EncodeResult(payload, err), nil
}

func (ix *Index) ask(kind metadata.QueryKind, body []byte) ([]byte, error) {
	switch kind {
	case metadata.QueryVersion:
		return ask(body, ix.queryVersion)
	case metadata.QueryObjects:
		return ask(body, ix.queryObjects)
	case metadata.QueryVersions:
		return ask(body, ix.queryVersions)
	case metadata.QueryUpload:
		return ask(body, func(r metadata.UploadRef) (any, error) { return ix.upload(r) })
	case metadata.QueryParts:
		return ask(body, ix.queryParts)
	case metadata.QueryUploads:
		return ask(body, ix.queryUploads)
	case metadata.QueryFinished:
		return ask(body, ix.queryFinished)
	case metadata.QueryGarbage:
		return ask(body, ix.queryGarbage)
	case metadata.QueryStats:
		stats := ix.stats
		stats.Oldest = ix.oldest()
		return metadata.EncodeBody(stats)
	case metadata.QueryBlob:
		return ask(body, ix.queryBlob)
	case metadata.QueryNews:
		return ask(body, ix.queryNews)
	case metadata.QueryBlobs:
		return ask(body, ix.queryBlobs)
	case metadata.QueryLast:
		return ask(body, ix.queryLast)
	case metadata.QueryUnder:
		return ask(body, ix.queryUnder)
	case metadata.QuerySlots:
		return ask(body, ix.querySlots)
	case metadata.QueryPending:
		return ask(body, ix.queryPending)
	case metadata.QueryUsage:
		return ask(body, ix.queryUsage)
	case metadata.QueryReleases:
		return ask(body, ix.queryReleases)
	case metadata.QueryRecovery:
		return ask(body, ix.queryRecovery)
	case metadata.QueryNamings:
		return ask(body, ix.queryNamings)
	case metadata.QueryBucket:
		return ask(body, ix.queryBucket)
	case metadata.QueryBuckets:
		return ask(body, ix.queryBuckets)
	case metadata.QueryConfig:
		return ask(body, ix.queryConfig)
	}
	return nil, fmt.Errorf("%w: query kind %d", metadata.ErrUnsupportedCommand, kind)
}

// ask decodes the question and encodes the answer; raw bytes pass as they are.
func ask[B any](body []byte, answer func(B) (any, error)) ([]byte, error) {
	var b B
	if err := metadata.DecodeBody(body, &b); err != nil {
		return nil, err
	}
	a, err := answer(b)
	if err != nil {
		return nil, err
	}
	if raw, ok := a.([]byte); ok {
		return raw, nil
	}
	return metadata.EncodeBody(a)
}

func (ix *Index) queryVersion(r metadata.KeyRef) (any, error) {
	raw, absent := ix.newest(r.Bucket, r.Key), metadata.ErrNoSuchKey
	if r.Version != "" {
		f, err := ix.find(r.Bucket, r.Key, r.Version)
		if err != nil {
			return nil, err
		}
		raw, absent = f.raw, metadata.ErrNoSuchVersion
	}
	if len(raw) > maxAnswer {
		return placesOnly(r, raw)
	}
	if raw != nil {
		return raw, nil // EncodeResult copies it before the lock is let go
	}
	if err := ix.fenced(r.Bucket); err != nil {
		return nil, err
	}
	return nil, absent
}

// placesOnly is a version record without what is noted of missing shards, for one that
// has more than an answer can carry: a reader then comes upon them by itself.
func placesOnly(r metadata.KeyRef, raw []byte) (any, error) {
	v, err := metadata.DecodeVersion(r.Bucket, r.Key, raw)
	if err != nil {
		return nil, err
	}
	for i, p := range v.Parts {
		if p.Blob != nil {
			v.Parts[i].Blob = p.Blob.PlacesOnly()
		}
	}
	return metadata.EncodeVersion(&v)
}

func (ix *Index) queryParts(q metadata.PartPage) (any, error) {
	u, err := ix.upload(q.Upload)
	if err != nil {
		return nil, err
	}
	out := metadata.Parts{Upload: u}
	size := 0
	cur := ix.t.parts.Cursor()
	for k, raw := cur.Seek(partKey(q.Upload.ID, q.After+1)); len(k) == 18 && metadata.UploadID(k[:16]) == q.Upload.ID; k, raw = cur.Next() {
		if size += len(raw); len(out.Parts) == clamp(q.Limit) || len(out.Parts) > 0 && size > maxAnswer {
			out.More = true
			break
		}
		var p metadata.Part
		if err := decodeRow(raw, &p); err != nil {
			return nil, err
		}
		out.Parts = append(out.Parts, p)
	}
	return out, nil
}

func (ix *Index) queryFinished(r metadata.UploadRef) (any, error) {
	var f metadata.Finished
	raw := ix.t.finished.Get(r.ID[:])
	if raw == nil {
		return nil, metadata.ErrNoSuchUpload
	}
	if err := decodeRow(raw, &f); err != nil {
		return nil, err
	}
	if f.Bucket != r.Bucket || f.Key != r.Key {
		return nil, metadata.ErrNoSuchUpload
	}
	return f, nil
}

func (ix *Index) queryGarbage(q metadata.GarbagePage) (any, error) {
	var out metadata.GarbageItems
	if ix.stats.Awaited > 0 {
		return out, nil // some of it may be needed
	}
	cur := ix.t.garbage.Cursor()
	first := []byte{}
	if len(q.After) > 0 {
		first = append(bytes.Clone(q.After), 0)
	}
	for k, raw := cur.Seek(first); len(k) == 10 && len(out.Items) < min(q.Limit, maxGarbage); k, raw = cur.Next() {
		g := metadata.Garbage{ID: metadata.GarbageID(k)}
		if g.ID.QueuedAt() >= q.Before {
			break
		}
		if err := decodeRow(raw, &g.Blob); err != nil {
			return nil, err
		}
		out.Items = append(out.Items, g)
	}
	return out, nil
}

func (ix *Index) queryBucket(q metadata.BucketName) (any, error) {
	if raw := ix.t.buckets.Get([]byte(q.Name)); raw != nil {
		return raw, nil
	}
	return nil, metadata.ErrNoSuchBucket
}

func (ix *Index) queryBuckets(q metadata.BucketPage) (any, error) {
	var out metadata.Buckets
	cur := ix.t.buckets.Cursor()
	from := []byte(q.Prefix)
	if q.After >= q.Prefix && q.After != "" {
		from = append([]byte(q.After), 0)
	}
	for k, raw := cur.Seek(from); k != nil && bytes.HasPrefix(k, []byte(q.Prefix)); k, raw = cur.Next() {
		if len(out.Buckets) == clamp(q.Limit) {
			out.More = true
			break
		}
		var b metadata.Bucket
		if err := decodeRow(raw, &b); err != nil {
			return nil, err
		}
		for field := range b.Settings { // order does not matter
			b.Settings[field] = nil
		}
		out.Buckets = append(out.Buckets, b)
	}
	return out, nil
}

func (ix *Index) queryConfig(q metadata.ConfigPrefix) (any, error) {
	var out metadata.ConfigValues
	cur := ix.t.config.Cursor()
	for k, raw := cur.Seek([]byte(q.Prefix)); k != nil && bytes.HasPrefix(k, []byte(q.Prefix)); k, raw = cur.Next() {
		var v metadata.ConfigValue
		if err := decodeRow(raw, &v); err != nil {
			return nil, err
		}
		out.Values = append(out.Values, v)
	}
	return out, nil
}

func clamp(limit int) int { return max(1, min(limit, maxRows)) }
