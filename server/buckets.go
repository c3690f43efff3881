package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"bivalve/metadata"
	"bivalve/server/admin"
)

// BucketReport is a bucket as an operator sees it. Bytes and numbers are exact as of
// the answer, partition by partition.
type BucketReport struct {
	Name        string    `json:"name"`
	Created     time.Time `json:"created"`
	Versioning  string    `json:"versioning,omitempty"` // Enabled, Suspended
	Deleting    bool      `json:"deleting,omitempty"`
	Objects     int64     `json:"objects"`  // keys with a current version
	Versions    int64     `json:"versions"` // with content, current or not: what a quota of objects counts
	Markers     int64     `json:"delete_markers"`
	Bytes       int64     `json:"bytes"` // of all versions: what a quota of bytes counts
	Uploads     int64     `json:"incomplete_uploads"`
	UploadBytes int64     `json:"incomplete_upload_bytes"`
	MaxBytes    int64     `json:"quota_bytes,omitempty"` // 0: no limit
	MaxObjects  int64     `json:"quota_objects,omitempty"`
}

// BucketsReport is one page of buckets by name; the next begins after the last.
type BucketsReport struct {
	Buckets []BucketReport `json:"buckets"`
	More    bool           `json:"more,omitempty"`
}

// Buckets reports buckets whose names come after a name, 1000 at most.
func (n *Node) Buckets(ctx context.Context, after string) (*BucketsReport, error) {
	page, err := n.catalog.ListBuckets(ctx, metadata.BucketPage{After: after, Limit: metadata.MaxUsages})
	if err != nil {
		return nil, err
	}
	for i, b := range page.Buckets {
		if _, limited := b.Settings[metadata.FieldQuota]; !limited {
			continue
		}
		whole, err := n.catalog.GetBucketNow(ctx, b.Name) // a list has no values of settings
		if err != nil && !errors.Is(err, metadata.ErrNoSuchBucket) {
			return nil, err
		}
		if err == nil {
			page.Buckets[i] = whole
		}
	}
	list, err := n.reportBuckets(ctx, page.Buckets)
	return &BucketsReport{Buckets: list, More: page.More}, err
}

// Bucket reports one bucket.
func (n *Node) Bucket(ctx context.Context, name string) (*BucketReport, error) {
	b, err := n.catalog.GetBucketNow(ctx, name)
	if err != nil {
		return nil, notThere(name, err)
	}
	list, err := n.reportBuckets(ctx, []metadata.Bucket{b})
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

func notThere(name string, err error) error {
	if errors.Is(err, metadata.ErrNoSuchBucket) {
		return fmt.Errorf("%w: there is no bucket %q", admin.ErrRefused, name)
	}
	return err
}

func (n *Node) reportBuckets(ctx context.Context, buckets []metadata.Bucket) ([]BucketReport, error) {
	out := make([]BucketReport, len(buckets))
	ids := make([]metadata.BucketID, len(buckets))
	for i, b := range buckets {
		ids[i] = b.ID
	}
	usages, err := n.catalog.Usage(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i, b := range buckets {
		u := usages[i]
		out[i] = BucketReport{Name: b.Name, Created: time.Unix(0, b.Created).UTC(), Versioning: string(b.Rules.Versioning), Deleting: b.Deleting != 0,
			Objects: u.Objects, Versions: u.Versions, Markers: u.Markers, Bytes: u.Bytes, Uploads: u.Uploads, UploadBytes: u.UploadBytes}
		if raw := b.Settings[metadata.FieldQuota]; len(raw) > 0 {
			var q metadata.Quota
			if err := metadata.DecodeBody(raw, &q); err != nil {
				return nil, fmt.Errorf("quota of bucket %s: %w", b.Name, err)
			}
			out[i].MaxBytes, out[i].MaxObjects = q.Bytes, q.Objects
		}
	}
	return out, nil
}

// SetQuota limits a bucket; the zero quota takes its limits away. What the bucket has
// already stays, whatever the limit.
func (n *Node) SetQuota(ctx context.Context, name string, q metadata.Quota) (*BucketReport, error) {
	var value []byte
	var err error
	if q.Bytes < 0 || q.Objects < 0 {
		return nil, fmt.Errorf("%w: a quota below nothing", admin.ErrBad)
	}
	if q != (metadata.Quota{}) {
		if value, err = metadata.EncodeBody(q); err != nil {
			return nil, err
		}
	}
	if _, err := n.catalog.ConfigureBucket(ctx, name, metadata.FieldQuota, value); err != nil {
		return nil, notThere(name, err)
	}
	return n.Bucket(ctx, name)
}

func (n *Node) bucketOrders(out map[string]admin.Order) {
	out["GET /v1/buckets"] = func(ctx context.Context, r *http.Request) (any, error) {
		return n.Buckets(ctx, r.URL.Query().Get("after"))
	}
	out["GET /v1/buckets/{name}"] = func(ctx context.Context, r *http.Request) (any, error) {
		return n.Bucket(ctx, r.PathValue("name"))
	}
	out["POST /v1/buckets/{name}/quota"] = func(ctx context.Context, r *http.Request) (any, error) {
		var q metadata.Quota
		for name, at := range map[string]*int64{"bytes": &q.Bytes, "objects": &q.Objects} {
			text := r.URL.Query().Get(name)
			if text == "" {
				continue
			}
			v, err := strconv.ParseInt(text, 10, 64)
			if err != nil || v < 1 {
				return nil, fmt.Errorf("%w: %s=%q, want a whole number above 0", admin.ErrBad, name, text)
			}
			*at = v
		}
		if none := r.URL.Query().Get("none") == "true"; none != (q == metadata.Quota{}) {
			return nil, fmt.Errorf("%w: want bytes, objects or both, or else none=true", admin.ErrBad)
		}
		return n.SetQuota(ctx, r.PathValue("name"), q)
	}
}
