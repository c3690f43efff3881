package s3test

import (
	"context"

	"bivalve/metadata"
	"bivalve/s3api"
)

// What Memory shares is what a region does: bytes that stay encrypted in the same way
// (but with no client's key), in the same class, and no small objects.
const sharedBytes = metadata.MaxInlineBytes + 1

func (m *Memory) CopyObject(_ context.Context, r s3api.CopyRequest) (metadata.Version, error) {
	if err := m.enter("CopyObject", r.Bucket, r.Key); err != nil {
		return metadata.Version{}, err
	}
	defer m.mu.Unlock()
	b, err := m.find(r.Bucket)
	if err != nil {
		return metadata.Version{}, err
	}
	src := r.Source
	if src.Bytes < sharedBytes || src.Attributes.StorageClass != r.Attributes.StorageClass || !sameSeal(src.Parts, m.seal(b, r.Seal)) {
		return metadata.Version{}, s3api.ErrNotShared
	}
	if err := check(r.Condition, b.current(r.Key)); err != nil {
		return metadata.Version{}, err
	}
	return m.commit(b, &object{data: src.Inline, Version: metadata.Version{Bucket: b.ID, Key: r.Key, ID: metadata.NullVersion,
		Modified: m.Now().UnixNano(), Bytes: src.Bytes, ETag: src.ETag, Checksum: src.Checksum, Attributes: r.Attributes,
		Tags: r.Tags, Lock: r.Lock, Parts: src.Parts}})
}

func sameSeal(parts []metadata.Part, want *metadata.Seal) bool {
	kind := metadata.SealNone
	if want != nil {
		kind = want.Kind
	}
	return metadata.SealOf(parts) == kind && kind != metadata.SealClient
}

func (m *Memory) CopyPart(_ context.Context, r s3api.CopyPartRequest) (metadata.Part, error) {
	if err := m.enter("CopyPart", r.Bucket, r.Key); err != nil {
		return metadata.Part{}, err
	}
	defer m.mu.Unlock()
	_, u, err := m.findUpload(r.Bucket, r.Key, r.Upload)
	if err != nil {
		return metadata.Part{}, err
	}
	at := int64(0)
	for _, p := range r.Source.Parts {
		if at == r.Offset && p.Bytes == r.Bytes && (r.Algorithm == "" || p.Checksum.Algorithm == r.Algorithm) &&
			r.Source.Attributes.StorageClass == u.Attributes.StorageClass && sameSeal([]metadata.Part{p}, u.Seal) {
			p.Number, p.Modified = r.Number, m.Now().UnixNano()
			u.parts[r.Number] = &part{Part: p, data: r.Source.Inline[at : at+p.Bytes]}
			return p, nil
		}
		at += p.Bytes
	}
	return metadata.Part{}, s3api.ErrNotShared
}
