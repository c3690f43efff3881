package object

import (
	"context"

	"bivalve/metadata"
)

// ref finds the bucket of an upload.
func (s *Store) ref(ctx context.Context, bucket, key string, id metadata.UploadID) (metadata.UploadRef, error) {
	b, err := s.cfg.Buckets.GetBucket(ctx, bucket)
	return metadata.UploadRef{Bucket: b.ID, Key: key, ID: id}, err
}

// CreateUpload starts a multipart upload.
func (s *Store) CreateUpload(ctx context.Context, r CreateUploadRequest) (metadata.Upload, error) {
	b, err := s.cfg.Buckets.GetBucket(ctx, r.Bucket)
	if err != nil {
		return metadata.Upload{}, err
	}
	u, err := s.cfg.Uploads.CreateUpload(ctx, metadata.Upload{
		Bucket: b.ID, Key: r.Key, Attributes: r.Attributes,
		ChecksumAlgorithm: r.ChecksumAlgorithm, ChecksumType: r.ChecksumType,
	})
	return u, s.deletingBucket(ctx, b, err)
}

// PutPart stores one part: bytes first, then the commit, as PutObject does.
func (s *Store) PutPart(ctx context.Context, r PutPartRequest) (metadata.Part, error) {
	ref, err := s.ref(ctx, r.Bucket, r.Key, r.Upload)
	if err != nil {
		return metadata.Part{}, err
	}
	// Asked before the bytes are taken; the commit asks again.
	if _, err := s.cfg.Uploads.GetUpload(ctx, ref); err != nil {
		return metadata.Part{}, err
	}
	p := metadata.Part{Number: r.Number, Bytes: r.Bytes}
	if r.Bytes == 0 {
		err = readEnd(r.Body)
	} else {
		p.Blob, err = s.writeBlob(ctx, s.cfg.Versions.PartitionOf(ref.Bucket, r.Key), r.Body, r.Bytes)
	}
	if err != nil {
		return metadata.Part{}, err
	}
	sums := r.Body.Sums()
	p.ETag, p.Checksum = sums.MD5, sums.Checksum
	done, err := s.cfg.Uploads.PutPart(ctx, ref, p)
	if err != nil {
		s.abandon(p.Blob, err)
		return metadata.Part{}, err
	}
	return done, nil
}

// GetUpload is an upload in progress.
func (s *Store) GetUpload(ctx context.Context, bucket, key string, id metadata.UploadID) (metadata.Upload, error) {
	ref, err := s.ref(ctx, bucket, key, id)
	if err != nil {
		return metadata.Upload{}, err
	}
	return s.cfg.Uploads.GetUpload(ctx, ref)
}

// ListParts is one page of the parts of an upload.
func (s *Store) ListParts(ctx context.Context, bucket, key string, id metadata.UploadID, after, limit int) (PartPage, error) {
	ref, err := s.ref(ctx, bucket, key, id)
	if err != nil {
		return PartPage{}, err
	}
	page, err := s.cfg.Uploads.ListParts(ctx, ref, after, limit)
	return PartPage{Upload: page.Upload, Parts: page.Parts, More: page.More}, err
}

// CompleteUpload commits the object. The parts' blobs become the version's.
func (s *Store) CompleteUpload(ctx context.Context, r CompleteRequest) (metadata.Version, error) {
	ref, err := s.ref(ctx, r.Bucket, r.Key, r.Upload)
	if err != nil {
		return metadata.Version{}, err
	}
	u, err := s.cfg.Uploads.GetUpload(ctx, ref)
	if err != nil {
		return metadata.Version{}, err
	}
	v := metadata.Version{Bucket: ref.Bucket, Key: r.Key, ID: metadata.NullVersion, ETag: r.ETag,
		Checksum: r.Checksum, Attributes: u.Attributes, Parts: r.Parts}
	for _, p := range r.Parts {
		v.Bytes += p.Bytes
	}
	return s.cfg.Uploads.CompleteUpload(ctx, r.Upload, v, r.Condition)
}

// FinishedUpload answers for an upload that was completed before.
func (s *Store) FinishedUpload(ctx context.Context, bucket, key string, id metadata.UploadID) (metadata.Version, error) {
	ref, err := s.ref(ctx, bucket, key, id)
	if err != nil {
		return metadata.Version{}, err
	}
	f, err := s.cfg.Uploads.Finished(ctx, ref)
	return metadata.Version{Bucket: f.Bucket, Key: f.Key, ID: metadata.NullVersion, Modified: f.Modified,
		Bytes: f.Bytes, ETag: f.ETag, Checksum: f.Checksum}, err
}

// AbortUpload drops an upload and its parts.
func (s *Store) AbortUpload(ctx context.Context, bucket, key string, id metadata.UploadID) error {
	ref, err := s.ref(ctx, bucket, key, id)
	if err != nil {
		return err
	}
	return s.cfg.Uploads.AbortUpload(ctx, ref)
}

// ListUploads is one page of the uploads in progress. An upload marker that is no
// upload id is passed over, as S3 does when there is no such upload.
func (s *Store) ListUploads(ctx context.Context, q UploadQuery) (UploadPage, error) {
	var page UploadPage
	b, err := s.cfg.Buckets.GetBucketNow(ctx, q.Bucket)
	if err != nil {
		return page, err
	}
	ask := metadata.UploadPage{Bucket: b.ID, Prefix: q.Prefix, Delimiter: q.Delimiter, AfterKey: q.KeyMarker, Limit: q.Limit}
	if ask.AfterUpload, err = metadata.ParseUploadID(q.UploadMarker); err != nil {
		ask.AfterKeyOnly = true
	}
	rows, err := s.cfg.Uploads.ListUploads(ctx, ask)
	if err != nil {
		return page, err
	}
	for _, row := range rows.Rows {
		page.NextKey, page.NextUpload = row.Name, ""
		if row.Upload == nil {
			page.Prefixes = append(page.Prefixes, row.Name)
			continue
		}
		page.Uploads = append(page.Uploads, *row.Upload)
		page.NextUpload = row.Upload.ID.String()
	}
	page.More = rows.More
	return page, nil
}
