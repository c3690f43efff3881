package server_test

import (
	"context"
	"testing"

	"bivalve/metadata"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server/servertest"
)

// TestConformance runs the suite of the door's stores on a region that is real in
// every layer below.
func TestConformance(t *testing.T) {
	r := servertest.Start(t, servertest.Options{})
	s3test.Run(t, func(t *testing.T) s3test.Stores {
		s := r.Node("b2").Stores()
		empty(t, s)
		return s
	})
}

// empty takes every object, upload and bucket away.
func empty(t *testing.T, s s3test.Stores) {
	t.Helper()
	ctx := t.Context()
	buckets, _, err := s.Buckets.ListBuckets(ctx, s3api.BucketQuery{Limit: 1000})
	fatal(t, err)
	for _, b := range buckets {
		fatal(t, drain(ctx, s, b))
		fatal(t, s.Buckets.DeleteBucket(ctx, b.Name))
	}
}

func drain(ctx context.Context, s s3test.Stores, b metadata.Bucket) error {
	for {
		page, err := s.Lister.ListVersions(ctx, s3api.VersionQuery{Bucket: b.Name, Limit: 1000})
		if err != nil {
			return err
		}
		for _, o := range page.Versions {
			if _, err := s.Objects.DeleteObject(ctx, s3api.DeleteRequest{Bucket: b.Name, Key: o.Key, Version: o.VersionID}); err != nil {
				return err
			}
		}
		uploads, err := s.Uploads.ListUploads(ctx, s3api.UploadQuery{Bucket: b.Name, Limit: 1000})
		if err != nil {
			return err
		}
		for _, u := range uploads.Uploads {
			if err := s.Uploads.AbortUpload(ctx, b.Name, u.Key, u.ID); err != nil {
				return err
			}
		}
		if !page.More && !uploads.More {
			return nil
		}
	}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
