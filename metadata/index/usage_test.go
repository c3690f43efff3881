package index

import (
	"errors"
	"testing"

	"bivalve/metadata"
)

func (h *harness) usage(bucket metadata.BucketID) metadata.Usage {
	h.t.Helper()
	var out metadata.Usages
	h.must(h.query(metadata.QueryUsage, metadata.UsageOf{Buckets: []metadata.BucketID{{77}, bucket}}, &out))
	if out.Usages[0] != (metadata.Usage{}) {
		h.t.Fatalf("a bucket that is not there has %+v", out.Usages[0])
	}
	return out.Usages[1]
}

// TestUsage: what a bucket has is counted as it comes and goes, and survives a restart.
func TestUsage(t *testing.T) {
	h := newHarness(t)
	expect := func(when string, want metadata.Usage) {
		t.Helper()
		audit(t, h.ix)
		if got := h.usage(bucketA); got != want {
			t.Fatalf("%s: %+v, want %+v", when, got, want)
		}
	}
	put := func(key string, bytes int64) {
		t.Helper()
		v := version(key, "e")
		v.Bytes = bytes
		h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: v, Random: metadata.Random{byte(h.next)}}))
	}
	put("a", 10)
	put("b", 20)
	put("a", 7)
	expect("unversioned", metadata.Usage{Objects: 2, Versions: 2, Bytes: 27})
	h.must(h.do(metadata.CmdSetRules, metadata.SetRules{Bucket: bucketA, Revision: 1, Rules: metadata.BucketRules{Versioning: metadata.VersioningEnabled}}))
	put("a", 100)
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "b", Random: metadata.Random{1}}))
	expect("versioned", metadata.Usage{Objects: 1, Versions: 3, Markers: 1, Bytes: 127})
	_, err := h.ix.Flush()
	h.must(err)
	h.must(h.ix.Close())
	h.open()
	expect("opened again", metadata.Usage{Objects: 1, Versions: 3, Markers: 1, Bytes: 127})
	up := metadata.UploadRef{Bucket: bucketA, Key: "u", ID: metadata.UploadID{9}}
	h.must(h.do(metadata.CmdCreateUpload, metadata.Upload{Bucket: bucketA, Key: "u", ID: up.ID}))
	for _, n := range []int{1, 2, 1} {
		h.must(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: up, Part: blobPart(n, byte(h.next), 0)}))
	}
	expect("an upload", metadata.Usage{Objects: 1, Versions: 3, Markers: 1, Bytes: 127, Uploads: 1, UploadBytes: 14})
	h.must(h.do(metadata.CmdAbortUpload, up))
	expect("aborted", metadata.Usage{Objects: 1, Versions: 3, Markers: 1, Bytes: 127})
	f, err := h.ix.current(bucketA, "a")
	h.must(err)
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "a", Version: f.v.ID}))
	expect("the older one is current", metadata.Usage{Objects: 1, Versions: 2, Markers: 1, Bytes: 27})
}

// TestQuota: a commit that would take more than there is room for is refused, exactly;
// what takes no more than it gives back is not, and neither is any deletion.
func TestQuota(t *testing.T) {
	h := newHarness(t)
	put := func(key string, bytes int64, room metadata.Room) error {
		v := version(key, "e", blobPart(0, byte(h.next+1), 0))
		v.Bytes = bytes
		return h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: v, Condition: metadata.Condition{Room: &room}})
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Fatalf("got %v, want %v", err, want)
		}
		audit(t, h.ix)
	}
	room := metadata.Room{Bytes: 100, Versions: 2}
	is(put("a", 101, room), metadata.ErrQuotaExceeded)
	is(put("a", 60, room), nil)
	is(put("b", 41, room), metadata.ErrQuotaExceeded)
	is(put("b", 40, room), nil)
	is(put("c", 0, room), metadata.ErrQuotaExceeded) // a third object
	is(put("a", 61, room), metadata.ErrQuotaExceeded)
	less := metadata.Room{Bytes: -5, Versions: -1} // the quota was lowered, or others have it all
	is(put("a", 60, less), nil)
	is(put("a", 59, less), nil)
	is(put("a", 60, less), metadata.ErrQuotaExceeded)
	up := metadata.UploadRef{Bucket: bucketA, Key: "u", ID: metadata.UploadID{9}}
	is(h.do(metadata.CmdCreateUpload, metadata.Upload{Bucket: bucketA, Key: "u", ID: up.ID}), nil)
	part := blobPart(1, 200, 0)
	is(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: up, Part: part}), nil)
	complete := metadata.CompleteUpload{Upload: up.ID, Version: version("u", "m", part), Condition: metadata.Condition{Room: &room}}
	is(h.do(metadata.CmdCompleteUpload, complete), metadata.ErrQuotaExceeded)
	is(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "b", Condition: metadata.Condition{Room: &less}}), nil)
	is(h.do(metadata.CmdCompleteUpload, complete), nil)
	if got, want := h.usage(bucketA), (metadata.Usage{Objects: 2, Versions: 2, Bytes: 66}); got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
}
