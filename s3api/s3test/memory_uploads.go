package s3test

import (
	"context"
	"maps"
	"slices"
	"sort"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api"
)

func (m *Memory) CreateUpload(_ context.Context, r s3api.CreateUploadRequest) (metadata.Upload, error) {
	if err := m.enter("CreateUpload", r.Bucket, r.Key); err != nil {
		return metadata.Upload{}, err
	}
	defer m.mu.Unlock()
	b, err := m.find(r.Bucket)
	if err != nil {
		return metadata.Upload{}, err
	}
	u := &upload{parts: map[int]*part{}, Upload: metadata.Upload{Bucket: b.ID, Key: r.Key, ID: m.next(), Initiated: m.Now().UnixNano(),
		Attributes: r.Attributes, Tags: r.Tags, Lock: r.Lock, ChecksumAlgorithm: r.ChecksumAlgorithm, ChecksumType: r.ChecksumType, Seal: m.seal(b, r.Seal)}}
	b.uploads[u.ID] = u
	return b.described(u.Upload), nil
}

// findUpload is called with the lock held.
func (m *Memory) findUpload(bucket, key string, id metadata.UploadID) (*bucket, *upload, error) {
	b, err := m.find(bucket)
	if err != nil {
		return nil, nil, err
	}
	u := b.uploads[id]
	if u == nil || u.Key != key {
		return nil, nil, metadata.ErrNoSuchUpload
	}
	return b, u, nil
}

func (m *Memory) PutPart(ctx context.Context, r s3api.PutPartRequest) (metadata.Part, error) {
	if _, err := m.GetUpload(ctx, r.Bucket, r.Key, r.Upload); err != nil {
		return metadata.Part{}, err
	}
	data, err := readBody(r.Body, r.Bytes)
	if err != nil {
		return metadata.Part{}, err
	}
	if err := m.enter("PutPart", r.Bucket, r.Key); err != nil {
		return metadata.Part{}, err
	}
	defer m.mu.Unlock()
	_, u, err := m.findUpload(r.Bucket, r.Key, r.Upload)
	if err != nil {
		return metadata.Part{}, err
	}
	if err := sameKey(u.Seal, r.ClientKey); err != nil {
		return metadata.Part{}, err
	}
	sums := r.Body.Sums()
	p := &part{data: data, Part: metadata.Part{Number: r.Number, Bytes: r.Bytes, ETag: sums.MD5, Checksum: sums.Checksum, Modified: m.Now().UnixNano()}}
	p.Seal, p.ETag = u.Seal, etagOf(p.ETag, u.Seal)
	u.parts[r.Number] = p
	return p.Part, nil
}

func (m *Memory) GetUpload(_ context.Context, bucket, key string, id metadata.UploadID) (metadata.Upload, error) {
	if err := m.enter("GetUpload", bucket, key); err != nil {
		return metadata.Upload{}, err
	}
	defer m.mu.Unlock()
	_, u, err := m.findUpload(bucket, key, id)
	if err != nil {
		return metadata.Upload{}, err
	}
	return u.Upload, nil
}

func (m *Memory) ListParts(_ context.Context, bucket, key string, id metadata.UploadID, after, limit int) (s3api.PartPage, error) {
	if err := m.enter("ListParts", bucket, key); err != nil {
		return s3api.PartPage{}, err
	}
	defer m.mu.Unlock()
	b, u, err := m.findUpload(bucket, key, id)
	if err != nil {
		return s3api.PartPage{}, err
	}
	page := s3api.PartPage{Upload: b.described(u.Upload)}
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		if n <= after {
			continue
		}
		if len(page.Parts) == limit {
			page.More = true
			break
		}
		page.Parts = append(page.Parts, u.parts[n].Part)
	}
	return page, nil
}

func (m *Memory) CompleteUpload(_ context.Context, r s3api.CompleteRequest) (metadata.Version, error) {
	if err := m.enter("CompleteUpload", r.Bucket, r.Key); err != nil {
		return metadata.Version{}, err
	}
	defer m.mu.Unlock()
	b, u, err := m.findUpload(r.Bucket, r.Key, r.Upload)
	if err != nil {
		return metadata.Version{}, err
	}
	if err := check(r.Condition, b.current(r.Key)); err != nil {
		return metadata.Version{}, err
	}
	var data []byte
	for _, want := range r.Parts {
		p := u.parts[want.Number]
		if p == nil || p.ETag != want.ETag || p.Modified != want.Modified {
			return metadata.Version{}, metadata.ErrPartChanged
		}
		data = append(data, p.data...)
	}
	o := &object{data: data, Version: metadata.Version{Bucket: b.ID, Key: r.Key, ID: metadata.NullVersion, Modified: m.Now().UnixNano(),
		Bytes: int64(len(data)), ETag: r.ETag, Checksum: r.Checksum, Attributes: u.Attributes, Tags: u.Tags, Lock: u.Lock, Parts: r.Parts}}
	v, err := m.commit(b, o)
	if err != nil {
		return v, err
	}
	delete(b.uploads, r.Upload)
	m.finished[r.Upload] = finished{r.Bucket, r.Key, v}
	return v, nil
}

func (m *Memory) FinishedUpload(_ context.Context, bucket, key string, id metadata.UploadID) (metadata.Version, error) {
	if err := m.enter("FinishedUpload", bucket, key); err != nil {
		return metadata.Version{}, err
	}
	defer m.mu.Unlock()
	f, ok := m.finished[id]
	if !ok || f.bucket != bucket || f.key != key {
		return metadata.Version{}, metadata.ErrNoSuchUpload
	}
	return f.version, nil
}

func (m *Memory) AbortUpload(_ context.Context, bucket, key string, id metadata.UploadID) error {
	if err := m.enter("AbortUpload", bucket, key); err != nil {
		return err
	}
	defer m.mu.Unlock()
	b, _, err := m.findUpload(bucket, key, id)
	if err == nil {
		delete(b.uploads, id)
	}
	return err
}

func (m *Memory) ListUploads(_ context.Context, q s3api.UploadQuery) (s3api.UploadPage, error) {
	var page s3api.UploadPage
	if err := m.enter("ListUploads", q.Bucket, ""); err != nil {
		return page, err
	}
	defer m.mu.Unlock()
	b, err := m.find(q.Bucket)
	if err != nil {
		return page, err
	}
	all := slices.Collect(maps.Values(b.uploads))
	sort.Slice(all, func(i, j int) bool { return uploadLess(&all[i].Upload, &all[j].Upload) })
	var mark *metadata.Upload
	if id, err := metadata.ParseUploadID(q.UploadMarker); err == nil {
		if u := b.uploads[id]; u != nil {
			mark = &u.Upload
		}
	}
	for _, u := range all {
		prefix := ""
		switch {
		case !strings.HasPrefix(u.Key, q.Prefix), u.Key < q.KeyMarker,
			q.KeyMarker != "" && u.Key == q.KeyMarker && (mark == nil || !uploadLess(mark, &u.Upload)):
			continue
		default:
			prefix = common(u.Key, q.Prefix, q.Delimiter)
		}
		if prefix != "" && (prefix <= q.KeyMarker || len(page.Prefixes) > 0 && page.Prefixes[len(page.Prefixes)-1] == prefix) {
			continue
		}
		if len(page.Uploads)+len(page.Prefixes) == q.Limit {
			page.More = true
			return page, nil
		}
		if prefix != "" {
			page.Prefixes = append(page.Prefixes, prefix)
			page.NextKey, page.NextUpload = prefix, ""
			continue
		}
		page.Uploads = append(page.Uploads, u.Upload)
		page.NextKey, page.NextUpload = u.Key, u.ID.String()
	}
	page.NextKey, page.NextUpload = "", ""
	return page, nil
}

func uploadLess(a, b *metadata.Upload) bool {
	if a.Key != b.Key {
		return a.Key < b.Key
	}
	if a.Initiated != b.Initiated {
		return a.Initiated < b.Initiated
	}
	return a.ID.String() < b.ID.String()
}
