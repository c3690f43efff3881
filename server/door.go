package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/s3api"
	"bivalve/server/object"
)

// door fits the object engine to what s3api asks for: the two know only
// metadata's nouns in common. It also turns the engine's and the cluster's
// errors into those of the door.
type door struct{ *object.Store }

func (d door) PutObject(ctx context.Context, r s3api.PutRequest) (metadata.Version, error) {
	v, err := d.Store.PutObject(ctx, object.PutRequest{Bucket: r.Bucket, Key: r.Key, Bytes: r.Bytes,
		Body: r.Body, Attributes: r.Attributes, Tags: r.Tags, Lock: r.Lock, Condition: r.Condition, Seal: r.Seal})
	return v, outward(err)
}

func (d door) HeadObject(ctx context.Context, bucket, key, version string) (metadata.Version, error) {
	v, err := d.Store.HeadObject(ctx, bucket, key, version)
	return v, outward(err)
}

func (d door) OpenObject(ctx context.Context, v metadata.Version, offset, length int64) (io.ReadCloser, error) {
	r, err := d.Store.OpenObject(ctx, v, offset, length)
	return r, outward(err)
}

func (d door) CheckKey(v metadata.Version, clientKey []byte) error {
	return outward(d.Store.CheckKey(v, clientKey))
}

func (d door) OpenSealed(ctx context.Context, v metadata.Version, clientKey []byte, offset, length int64) (io.ReadCloser, error) {
	r, err := d.Store.OpenSealed(ctx, v, clientKey, offset, length)
	return r, outward(err)
}

func (d door) DeleteObject(ctx context.Context, r s3api.DeleteRequest) (metadata.Deleted, error) {
	done, err := d.Store.DeleteObject(ctx, object.DeleteRequest(r))
	return done, outward(err)
}

func (d door) AmendObject(ctx context.Context, r s3api.AmendRequest) (string, error) {
	id, err := d.Store.AmendObject(ctx, object.AmendRequest(r))
	return id, outward(err)
}

func (d door) ListVersions(ctx context.Context, q s3api.VersionQuery) (s3api.VersionPage, error) {
	page, err := d.Store.ListVersions(ctx, object.VersionQuery(q))
	return s3api.VersionPage(page), outward(err)
}

func (d door) ListBuckets(ctx context.Context, q s3api.BucketQuery) ([]metadata.Bucket, bool, error) {
	buckets, more, err := d.Store.ListBuckets(ctx, object.BucketQuery(q))
	return buckets, more, outward(err)
}

func (d door) ListObjects(ctx context.Context, r s3api.ListRequest) (s3api.ListPage, error) {
	page, err := d.Store.ListObjects(ctx, object.ListRequest(r))
	return s3api.ListPage(page), outward(err)
}

func (d door) CreateUpload(ctx context.Context, r s3api.CreateUploadRequest) (metadata.Upload, error) {
	u, err := d.Store.CreateUpload(ctx, object.CreateUploadRequest(r))
	return u, outward(err)
}

func (d door) PutPart(ctx context.Context, r s3api.PutPartRequest) (metadata.Part, error) {
	p, err := d.Store.PutPart(ctx, object.PutPartRequest{Bucket: r.Bucket, Key: r.Key, Upload: r.Upload,
		Number: r.Number, Bytes: r.Bytes, Body: r.Body, ClientKey: r.ClientKey})
	return p, outward(err)
}

func (d door) ListParts(ctx context.Context, bucket, key string, id metadata.UploadID, after, limit int) (s3api.PartPage, error) {
	page, err := d.Store.ListParts(ctx, bucket, key, id, after, limit)
	return s3api.PartPage(page), outward(err)
}

func (d door) CompleteUpload(ctx context.Context, r s3api.CompleteRequest) (metadata.Version, error) {
	v, err := d.Store.CompleteUpload(ctx, object.CompleteRequest(r))
	return v, outward(err)
}

func (d door) CopyObject(ctx context.Context, r s3api.CopyRequest) (metadata.Version, error) {
	v, err := d.Store.CopyObject(ctx, object.CopyRequest(r))
	return v, outward(err)
}

func (d door) CopyPart(ctx context.Context, r s3api.CopyPartRequest) (metadata.Part, error) {
	p, err := d.Store.CopyPart(ctx, object.CopyPartRequest(r))
	return p, outward(err)
}

func (d door) ListUploads(ctx context.Context, q s3api.UploadQuery) (s3api.UploadPage, error) {
	page, err := d.Store.ListUploads(ctx, object.UploadQuery(q))
	return s3api.UploadPage(page), outward(err)
}

// outward translates what only the inner rooms know.
func outward(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, object.ErrStorageClass):
		return fmt.Errorf("%w: %w", s3api.ErrInvalidStorageClass, err)
	case errors.Is(err, object.ErrWrongKey):
		return fmt.Errorf("%w: %w", s3api.ErrWrongKey, err)
	case errors.Is(err, object.ErrNotShared):
		return fmt.Errorf("%w: %w", s3api.ErrNotShared, err)
	case errors.Is(err, object.ErrNoKeyring):
		return fmt.Errorf("%w: %w", s3api.ErrNotImplemented, err)
	case errors.Is(err, object.ErrFull):
		return fmt.Errorf("%w: %w", s3api.ErrInsufficientStorage, err)
	case errors.Is(err, object.ErrBusy), errors.Is(err, cluster.ErrOverloaded):
		return fmt.Errorf("%w: %w", s3api.ErrSlowDown, err)
	case errors.Is(err, object.ErrNoQuorum):
		return fmt.Errorf("%w: %w", s3api.ErrServiceUnavailable, err)
	}
	return err
}

// rootCredentials knows the one user that a region begins with.
type rootCredentials struct{ access, secret string }

func (c rootCredentials) Secret(_ context.Context, accessKey string) (string, error) {
	if subtle.ConstantTimeCompare([]byte(accessKey), []byte(c.access)) != 1 {
		return "", s3api.ErrNoSuchAccessKey
	}
	return c.secret, nil
}
