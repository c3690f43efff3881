package object

import (
	"context"

	"bivalve/metadata"
)

// inUpload does something with an upload of the bucket of that name.
func (s *Store) inUpload(ctx context.Context, bucket, key string, id metadata.UploadID, do func(metadata.UploadRef) error) error {
	return s.inBucket(ctx, bucket, func(b metadata.Bucket) error {
		return do(metadata.UploadRef{Bucket: b.ID, Key: key, ID: id})
	})
}

// CreateUpload starts a multipart upload.
func (s *Store) CreateUpload(ctx context.Context, r CreateUploadRequest) (u metadata.Upload, err error) {
	if err := s.checkClass(r.Attributes.StorageClass); err != nil {
		return u, err
	}
	err = s.inBucket(ctx, r.Bucket, func(b metadata.Bucket) error {
		sealed, err := s.uploadSeal(sealing(b, r.Seal))
		if err != nil {
			return err
		}
		u, err = s.cfg.Uploads.CreateUpload(ctx, metadata.Upload{
			Bucket: b.ID, Key: r.Key, Attributes: r.Attributes, Tags: r.Tags, Lock: r.Lock,
			ChecksumAlgorithm: r.ChecksumAlgorithm, ChecksumType: r.ChecksumType, Seal: sealed,
		})
		s.describeUpload(&u, b)
		return err
	})
	return u, err
}

// PutPart stores one part: bytes first, then the commit, as PutObject does.
func (s *Store) PutPart(ctx context.Context, r PutPartRequest) (metadata.Part, error) {
	var ref metadata.UploadRef
	var u metadata.Upload
	// Asked before the bytes are taken; the commit asks again.
	err := s.inUpload(ctx, r.Bucket, r.Key, r.Upload, func(found metadata.UploadRef) (err error) {
		ref = found
		u, err = s.cfg.Uploads.GetUpload(ctx, ref)
		return err
	})
	if err != nil {
		return metadata.Part{}, err
	}
	with, err := partSealing(u, r.ClientKey)
	if err != nil {
		return metadata.Part{}, err
	}
	x, err := s.newSealer(with)
	if err != nil {
		return metadata.Part{}, err
	}
	body, size, err := x.encrypt(r.Body, r.Bytes)
	if err != nil {
		return metadata.Part{}, err
	}
	p := metadata.Part{Number: r.Number, Bytes: r.Bytes}
	if r.Bytes == 0 {
		err = readEnd(body)
	} else {
		p.Blob, err = s.writeBlob(ctx, s.cfg.Versions.PartitionOf(ref.Bucket, r.Key), u.Attributes.StorageClass, body, size)
	}
	if err != nil {
		return metadata.Part{}, err
	}
	if p.Seal, err = x.seal(p.Blob); err == nil {
		p.ETag, err = x.etag(r.Body.Sums())
	}
	if err != nil {
		s.discardIf(p.Blob)
		return metadata.Part{}, err
	}
	p.Checksum = r.Body.Sums().Checksum
	done, err := s.cfg.Uploads.PutPart(ctx, ref, p)
	if err != nil {
		s.abandon(p.Blob, err)
		return metadata.Part{}, err
	}
	return done, nil
}

// GetUpload is an upload in progress.
func (s *Store) GetUpload(ctx context.Context, bucket, key string, id metadata.UploadID) (u metadata.Upload, err error) {
	err = s.inUpload(ctx, bucket, key, id, func(ref metadata.UploadRef) error {
		u, err = s.cfg.Uploads.GetUpload(ctx, ref)
		return err
	})
	return u, err
}

// ListParts is one page of the parts of an upload.
func (s *Store) ListParts(ctx context.Context, bucket, key string, id metadata.UploadID, after, limit int) (PartPage, error) {
	var page metadata.Parts
	err := s.inBucket(ctx, bucket, func(b metadata.Bucket) (err error) {
		page, err = s.cfg.Uploads.ListParts(ctx, metadata.UploadRef{Bucket: b.ID, Key: key, ID: id}, after, limit)
		s.describeUpload(&page.Upload, b)
		return err
	})
	return PartPage{Upload: page.Upload, Parts: page.Parts, More: page.More}, err
}

// CompleteUpload commits the object. The parts' blobs become the version's.
func (s *Store) CompleteUpload(ctx context.Context, r CompleteRequest) (done metadata.Version, err error) {
	err = s.inBucket(ctx, r.Bucket, func(b metadata.Bucket) error {
		ref := metadata.UploadRef{Bucket: b.ID, Key: r.Key, ID: r.Upload}
		u, err := s.cfg.Uploads.GetUpload(ctx, ref)
		if err != nil {
			return err
		}
		v := metadata.Version{Bucket: ref.Bucket, Key: r.Key, ID: metadata.NullVersion, ETag: r.ETag,
			Checksum: r.Checksum, Attributes: u.Attributes, Tags: u.Tags, Lock: u.Lock, Parts: r.Parts}
		for _, p := range r.Parts {
			v.Bytes += p.Bytes
		}
		return s.inQuota(ctx, b, r.Key, v.Bytes, r.Condition, func(c metadata.Condition) (err error) {
			done, err = s.cfg.Uploads.CompleteUpload(ctx, r.Upload, v, c)
			s.describe(&done, b, true)
			return err
		})
	})
	return done, err
}

// FinishedUpload answers for an upload that was completed before.
func (s *Store) FinishedUpload(ctx context.Context, bucket, key string, id metadata.UploadID) (metadata.Version, error) {
	var f metadata.Finished
	err := s.inUpload(ctx, bucket, key, id, func(ref metadata.UploadRef) (err error) {
		f, err = s.cfg.Uploads.Finished(ctx, ref)
		return err
	})
	if f.Version == "" {
		f.Version = metadata.NullVersion
	}
	return metadata.Version{Bucket: f.Bucket, Key: f.Key, ID: f.Version, Modified: f.Modified,
		Bytes: f.Bytes, ETag: f.ETag, Checksum: f.Checksum}, err
}

// AbortUpload drops an upload and its parts.
func (s *Store) AbortUpload(ctx context.Context, bucket, key string, id metadata.UploadID) error {
	return s.inUpload(ctx, bucket, key, id, func(ref metadata.UploadRef) error {
		return s.cfg.Uploads.AbortUpload(ctx, ref)
	})
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
