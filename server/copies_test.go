//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"bivalve/metadata"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server/servertest"
)

// TestCopiesThroughFailures: copies by reference go on while nodes die between their
// two commits. Every copy that was acknowledged reads right after its source is gone,
// none moves a byte between disks, and when all are deleted nothing is left: no
// reference, no garbage, no shard.
func TestCopiesThroughFailures(t *testing.T) {
	r := servertest.Start(t, servertest.Options{Partitions: 4, Logger: slog.New(slog.DiscardHandler)})
	s := r.Node("a1").Stores()
	ctx := t.Context()
	_, err := s.Buckets.CreateBucket(ctx, "bucket")
	fatal(t, err)
	data := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), 200_000) // two chunks
	for i := range 4 {
		_, err := s.Objects.PutObject(ctx, s3api.PutRequest{Bucket: "bucket", Key: fmt.Sprint("src", i), Bytes: int64(len(data)), Body: s3test.NewBody(data)})
		fatal(t, err)
	}
	before := shards(t, r, "a1", servertest.ZoneA)
	var mu sync.Mutex
	copied := map[string]bool{}
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			src, err := s.Objects.HeadObject(ctx, "bucket", fmt.Sprint("src", w), "")
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 60 {
				key := fmt.Sprintf("copy%d-%d", w, i)
				_, err := s.Copier.CopyObject(ctx, s3api.CopyRequest{Source: src, Bucket: "bucket", Key: key})
				switch {
				case err == nil:
					mu.Lock()
					copied[key] = true
					mu.Unlock()
				case !errors.Is(err, metadata.ErrUnavailable) && !errors.Is(err, metadata.ErrUnknownOutcome):
					t.Errorf("%s: %v", key, err)
				}
			}
		})
	}
	r.Kill("b2")
	r.Kill("a2")
	work.Wait()
	if len(copied) < 100 {
		t.Fatalf("only %d of 240 copies were made", len(copied))
	}
	r.Start("a2", "b2")
	r.WaitReady(r.Nodes()...)
	r.Until("the disks hold what they held", func(context.Context) error {
		if n := shards(t, r, "a1", servertest.ZoneA); n != before {
			return fmt.Errorf("%d shards, %d before", n, before)
		}
		return nil
	})
	for i := range 4 {
		_, err := s.Objects.DeleteObject(ctx, s3api.DeleteRequest{Bucket: "bucket", Key: fmt.Sprint("src", i)})
		fatal(t, err)
	}
	for key := range copied {
		got, err := read(ctx, r.Node("b1").Stores(), "bucket", key)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", key, len(got), err)
		}
	}
	fatal(t, drain(ctx, s, metadata.Bucket{Name: "bucket"}))
	r.Until("nothing is left", func(context.Context) error {
		st := status(t, r, "a1")
		n := shards(t, r, "a1", servertest.ZoneA) + shards(t, r, "a1", servertest.ZoneB)
		if p := st.Protected; p.Garbage != 0 || p.References != 0 || p.Releases != 0 || n != 0 {
			return fmt.Errorf("%+v, %d shards", p, n)
		}
		return nil
	})
}
