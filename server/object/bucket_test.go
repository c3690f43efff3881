package object

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
)

// behind makes the node's own copy of the root group say what it says now, from
// now on, whatever happens elsewhere.
func (r *rig) behind(name string) {
	r.t.Helper()
	q, err := metadata.NewQuery(metadata.QueryBucket, metadata.BucketName{Name: name})
	if err != nil {
		r.t.Fatal(err)
	}
	old, err := r.groups.Query(context.Background(), catalog.Root, q)
	if err != nil {
		r.t.Fatal(err)
	}
	old = bytes.Clone(old)
	r.groups.Local = func(replica.GroupID, []byte) ([]byte, error) { return old, nil }
}

// TestBucketMadeAgain through another node: what this node knows is of the bucket
// before it. Nothing says "no such bucket" that an acknowledged create made.
func TestBucketMadeAgain(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1})
	ctx := t.Context()
	r.behind("bucket")
	if err := r.DeleteBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.put("k", []byte("x")); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Error(err)
	}
	if _, err := r.HeadObject(ctx, "bucket", "k", ""); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Error(err)
	}
	if _, err := r.CreateUpload(ctx, CreateUploadRequest{Bucket: "bucket", Key: "k"}); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Error(err)
	}
	if _, err := r.CreateBucket(ctx, "bucket"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.HeadObject(ctx, "bucket", "k", ""); !errors.Is(err, metadata.ErrNoSuchKey) {
		t.Error(err)
	}
	v := r.mustPut("k", []byte("small"))
	r.check(v, []byte("small"), 0, 5)
	data := pattern(50_000, 1)
	if _, err := r.put("large", data); !errors.Is(err, metadata.ErrUnavailable) { // to be sent again
		t.Error(err)
	}
	r.absent("large", 0)
	if _, err := r.DeleteObject(ctx, DeleteRequest{Bucket: "bucket", Key: "k", Condition: metadata.Condition{}}); err != nil {
		t.Error(err)
	}
	u, err := r.CreateUpload(ctx, CreateUploadRequest{Bucket: "bucket", Key: "m"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.PutPart(ctx, PutPartRequest{Bucket: "bucket", Key: "m", Upload: u.ID, Number: 1, Bytes: 50_000, Body: newBody(data)})
	if err != nil {
		t.Fatal(err)
	}
	if page, err := r.ListParts(ctx, "bucket", "m", u.ID, 0, 10); err != nil || len(page.Parts) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
	if _, err := r.CompleteUpload(ctx, CompleteRequest{Bucket: "bucket", Key: "m", Upload: u.ID, Parts: []metadata.Part{p}, ETag: "e-1"}); err != nil {
		t.Error(err)
	}
	if v, err := r.FinishedUpload(ctx, "bucket", "m", u.ID); err != nil || v.ETag != "e-1" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err = r.HeadObject(ctx, "bucket", "m", ""); err != nil {
		t.Fatal(err)
	}
	r.check(v, data, 0, v.Bytes)
	if err := r.AbortUpload(ctx, "bucket", "m", u.ID); !errors.Is(err, metadata.ErrNoSuchUpload) {
		t.Error(err)
	}
}

// TestBucketBeingDeleted may yet stay: no answer may say that it is gone.
func TestBucketBeingDeleted(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1})
	asked := false
	r.groups.OnPropose = func(_ context.Context, _ replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
		if kind == metadata.CmdDropBucket {
			asked = true
			if _, err := r.put("k", pattern(50_000, 1)); !errors.Is(err, metadata.ErrConflict) || errors.Is(err, metadata.ErrNoSuchBucket) {
				t.Errorf("put: %v", err)
			}
			if _, err := r.HeadObject(t.Context(), "bucket", "k", ""); !errors.Is(err, metadata.ErrConflict) {
				t.Errorf("head: %v", err)
			}
			r.groups.OnQuery = func(context.Context, replica.GroupID, metadata.QueryKind) error { return replica.ErrUnavailable }
			if _, err := r.put("k", []byte("x")); !errors.Is(err, metadata.ErrUnavailable) || errors.Is(err, metadata.ErrNoSuchBucket) {
				t.Errorf("put without the root group: %v", err)
			}
			r.groups.OnQuery = nil
		}
		return true, nil
	}
	if err := r.DeleteBucket(t.Context(), "bucket"); err != nil || !asked {
		t.Fatal(err, asked)
	}
	if _, err := r.put("k", []byte("x")); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Error(err)
	}
}
