package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"bivalve/metadata"
)

// How many buckets there are is the same to every replica, whenever it was flushed and
// whether it was opened again: otherwise the last that there is room for would be made
// on some of them and refused on others.
func TestBucketLimitOfEveryReplica(t *testing.T) {
	var replicas []*harness
	for range 3 {
		replicas = append(replicas, newHarness(t))
	}
	create := func(n int) []error {
		b := metadata.Bucket{Name: fmt.Sprintf("bucket-%05d", n)}
		binary.BigEndian.PutUint64(b.ID[:], uint64(n))
		var out []error
		for _, h := range replicas {
			out = append(out, h.do(metadata.CmdCreateBucket, b))
		}
		return out
	}
	all := func(what string, got []error, want error) {
		t.Helper()
		for i, err := range got {
			if !errors.Is(err, want) {
				t.Errorf("%s: replica %d says %v, want %v", what, i, err, want)
			}
		}
	}
	flush := func(h *harness) {
		t.Helper()
		_, err := h.ix.Flush()
		h.must(err)
	}
	for n := range maxBuckets - 1 {
		all("room for all", create(n), nil)
	}
	for _, h := range replicas {
		flush(h)
	}
	all("the last", create(maxBuckets), nil)
	flush(replicas[0])
	flush(replicas[1])
	replicas[1].must(replicas[1].ix.Close())
	replicas[1].open()
	all("one too many", create(maxBuckets+1), metadata.ErrTooManyBuckets)

	for _, h := range replicas {
		b := metadata.BucketMark{Name: "bucket-00000", Mark: true}
		h.must(h.do(metadata.CmdMarkBucket, b))
		var is metadata.Bucket
		h.must(h.query(metadata.QueryBucket, metadata.BucketName{Name: b.Name}, &is))
		b.Attempt = is.Deleting
		h.must(h.do(metadata.CmdDropBucket, b))
	}
	all("after one is gone", create(maxBuckets+1), nil)
	all("one too many again", create(maxBuckets+2), metadata.ErrTooManyBuckets)
}
