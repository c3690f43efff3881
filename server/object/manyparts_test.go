package object

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"bivalve/erasure"
	"bivalve/metadata"
)

// TestTenThousandSealedParts: the largest record that there can be, each part with a
// blob and a key of its own, is committed, read back and read through; it stays far
// below what an entry of the log may hold.
func TestTenThousandSealedParts(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, keyed)
	ctx := t.Context()
	u, err := r.CreateUpload(ctx, CreateUploadRequest{Bucket: "bucket", Key: "k", Seal: byClient})
	if err != nil {
		t.Fatal(err)
	}
	parts := make([]metadata.Part, metadata.MaxParts)
	var all bytes.Buffer
	for n := range parts {
		fmt.Fprintf(&all, "%05d", n+1)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := w; n < len(parts); n += 8 {
				var err error
				parts[n], err = r.PutPart(ctx, PutPartRequest{Bucket: "bucket", Key: "k", Upload: u.ID, Number: n + 1, Bytes: 5,
					Body: newBody(all.Bytes()[5*n : 5*n+5]), ClientKey: clientKey})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if _, err := r.CompleteUpload(ctx, CompleteRequest{Bucket: "bucket", Key: "k", Upload: u.ID, Parts: parts, ETag: "etag-10000"}); err != nil {
		t.Fatal(err)
	}
	v, err := r.HeadObject(ctx, "bucket", "k", "")
	if err != nil || len(v.Parts) != metadata.MaxParts {
		t.Fatalf("%d parts, %v", len(v.Parts), err)
	}
	if raw, err := metadata.EncodeVersion(&v); err != nil || len(raw) > 2<<20 {
		t.Errorf("a record of %d bytes, %v", len(raw), err)
	} else {
		t.Logf("a record of %d bytes", len(raw))
	}
	for _, c := range [][2]int{{0, 50_000}, {49_998, 2}, {24_996, 11}} {
		got, err := r.open(v, clientKey, int64(c[0]), int64(c[1]))
		if err != nil || !bytes.Equal(got, all.Bytes()[c[0]:c[0]+c[1]]) {
			t.Errorf("[%d, +%d): %d bytes, %v", c[0], c[1], len(got), err)
		}
	}
}
