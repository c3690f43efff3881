package object

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

func partitions(n int) rigOption { return func(c *rigConfig) { c.partitions = n } }

// elsewhere is a key whose partition is not that of key.
func (r *rig) elsewhere(key string) string {
	r.t.Helper()
	b, err := r.catalog.GetBucketNow(r.t.Context(), "bucket")
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range 100 {
		if k := fmt.Sprint("copy", i); r.catalog.PartitionOf(b.ID, k) != r.catalog.PartitionOf(b.ID, key) {
			return k
		}
	}
	r.t.Fatal("100 keys in one partition")
	return ""
}

func (r *rig) head(key string) metadata.Version {
	r.t.Helper()
	v, err := r.HeadObject(r.t.Context(), "bucket", key, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rig) remove(key string) {
	r.t.Helper()
	if _, err := r.DeleteObject(r.t.Context(), DeleteRequest{Bucket: "bucket", Key: key}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) copy(src metadata.Version, key string) (metadata.Version, error) {
	return r.CopyObject(r.t.Context(), CopyRequest{Source: src, Bucket: "bucket", Key: key})
}

func (r *rig) stats() metadata.Stats {
	r.t.Helper()
	s, err := catalogtest.Stats(r.t.Context(), r.catalog)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// A copy moves no bytes, outlives its source, and can itself be copied.
func TestCopySharesBlobs(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1}, partitions(4), keyed)
	for name, seal := range map[string]metadata.SealWith{"plain": {}, "sealed": byRegion} {
		t.Run(name, func(t *testing.T) {
			data := pattern(2*chunk+77, 3)
			src := r.putSealed(seal, "src", data)
			to := r.elsewhere("src")
			r.shards.setHook(nil) // forgets the calls so far
			if _, err := r.CopyObject(t.Context(), CopyRequest{Source: src, Bucket: "bucket", Key: to, Seal: seal,
				Attributes: metadata.Attributes{ContentType: "text/x"}, Tags: map[string]string{"a": "b"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := r.CopyObject(t.Context(), CopyRequest{Source: r.head(to), Bucket: "bucket", Key: "second", Seal: seal}); err != nil {
				t.Fatal(err)
			}
			if n := len(r.shards.callsOf(opRead)) + len(r.shards.callsOf(opAppend)); n != 0 {
				t.Fatalf("%d shards were read or written", n)
			}
			v := r.head(to)
			if v.ETag != src.ETag || v.Bytes != src.Bytes || v.Attributes.ContentType != "text/x" || v.Tags["a"] != "b" || v.Parts[0].Ref == nil {
				t.Fatalf("the copy is %+v", v)
			}
			r.remove("src")
			r.check(v, data, 0, v.Bytes)
			r.remove(to)
			r.check(r.head("second"), data, chunk-3, 10)
			if s := r.stats(); s.Garbage != 0 || s.Objects != 1 {
				t.Fatalf("stats %+v", s)
			}
			// Onto itself, as a change of attributes is made.
			if _, err := r.CopyObject(t.Context(), CopyRequest{Source: r.head("second"), Bucket: "bucket", Key: "second", Seal: seal}); err != nil {
				t.Fatal(err)
			}
			r.check(r.head("second"), data, 0, v.Bytes)
			r.remove("second")
		})
	}
}

// What differs in class or encryption, what a client's key seals and what is small
// has to be read and written.
func TestCopiesThatAreNotShared(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1}, keyed)
	big, small := pattern(100_000, 1), pattern(100, 2)
	lean := func(c *CopyRequest) { c.Attributes.StorageClass = storageLean }
	for name, c := range map[string]struct {
		data   []byte
		seal   metadata.SealWith
		change func(*CopyRequest)
		want   error
	}{
		"alike":            {big, metadata.SealWith{}, func(*CopyRequest) {}, nil},
		"class by name":    {big, metadata.SealWith{}, func(c *CopyRequest) { c.Attributes.StorageClass = storageStandard }, nil},
		"other class":      {big, metadata.SealWith{}, lean, ErrNotShared},
		"to be sealed":     {big, metadata.SealWith{}, func(c *CopyRequest) { c.Seal = byRegion }, ErrNotShared},
		"to be opened":     {big, byRegion, func(*CopyRequest) {}, ErrNotShared},
		"sealed alike":     {big, byRegion, func(c *CopyRequest) { c.Seal = byRegion }, nil},
		"client's key":     {big, byClient, func(c *CopyRequest) { c.Seal = byClient }, ErrNotShared},
		"small":            {small, metadata.SealWith{}, func(*CopyRequest) {}, ErrNotShared},
		"small and sealed": {small, byRegion, func(c *CopyRequest) { c.Seal = byRegion }, ErrNotShared},
		"empty":            {nil, metadata.SealWith{}, func(*CopyRequest) {}, ErrNotShared},
		"no such class":    {big, metadata.SealWith{}, func(c *CopyRequest) { c.Attributes.StorageClass = "GLACIER" }, ErrStorageClass},
		"condition":        {big, metadata.SealWith{}, func(c *CopyRequest) { c.Condition.IfMatch = "other" }, metadata.ErrNoSuchKey},
	} {
		req := CopyRequest{Source: r.putSealed(c.seal, "src", c.data), Bucket: "bucket", Key: "to"}
		c.change(&req)
		if _, err := r.CopyObject(t.Context(), req); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		r.remove("to")
	}
	gone := r.putSealed(metadata.SealWith{}, "src", big)
	r.remove("src")
	if _, err := r.copy(gone, "to"); !errors.Is(err, ErrNotShared) {
		t.Errorf("a source that is gone: %v", err)
	}
}

// TestCopyFaults: a copy is two commits in two partitions. Whatever is said of either,
// done or not, a copy that exists can be read, and what failed for certain leaves no
// reference.
func TestCopyFaults(t *testing.T) {
	for _, c := range []struct {
		kind       metadata.CommandKind
		apply      bool
		err        error
		want       error
		references int64 // that are left
	}{
		{metadata.CmdAddReference, false, replica.ErrUnavailable, metadata.ErrUnavailable, 0},
		{metadata.CmdAddReference, false, replica.ErrUnknown, metadata.ErrUnavailable, 0},
		{metadata.CmdAddReference, true, replica.ErrUnknown, metadata.ErrUnavailable, 1},
		{metadata.CmdPutVersion, false, replica.ErrUnavailable, metadata.ErrUnavailable, 0},
		{metadata.CmdPutVersion, false, replica.ErrUnknown, metadata.ErrUnknownOutcome, 1},
		{metadata.CmdPutVersion, true, replica.ErrUnknown, metadata.ErrUnknownOutcome, 1},
	} {
		t.Run(fmt.Sprint(c.kind, c.apply, c.err), func(t *testing.T) {
			r := newRig(t, erasure.Geometry{K: 2, M: 1}, partitions(4))
			data := pattern(50_000, 9)
			src := r.mustPut("src", data)
			to := r.elsewhere("src")
			r.groups.OnPropose = func(_ context.Context, _ replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
				if kind == c.kind {
					return c.apply, c.err
				}
				return true, nil
			}
			if _, err := r.copy(src, to); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			r.cleaning.Wait()
			r.groups.OnPropose = nil
			r.remove("src")
			v, err := r.HeadObject(t.Context(), "bucket", to, "")
			exists := c.kind == metadata.CmdPutVersion && c.apply
			if exists != (err == nil) {
				t.Fatalf("the copy: %+v, %v", v, err)
			}
			if exists {
				r.check(v, data, 0, v.Bytes)
			}
			if s := r.stats(); s.References != c.references || s.Garbage != 1-c.references {
				t.Fatalf("stats %+v", s)
			}
		})
	}
}

// Parts are shared where the range is a part of the source.
func TestCopyPartSharesBlobs(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1}, partitions(4))
	ctx := t.Context()
	create := func(key string) metadata.UploadID {
		u, err := r.CreateUpload(ctx, CreateUploadRequest{Bucket: "bucket", Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return u.ID
	}
	finish := func(key string, id metadata.UploadID) metadata.Version {
		page, err := r.ListParts(ctx, "bucket", key, id, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		v, err := r.CompleteUpload(ctx, CompleteRequest{Bucket: "bucket", Key: key, Upload: id, Parts: page.Parts, ETag: "e-2"})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	one, two := pattern(60_000, 1), pattern(70_000, 2)
	id := create("src")
	for n, data := range [][]byte{one, two} {
		if _, err := r.PutPart(ctx, PutPartRequest{Bucket: "bucket", Key: "src", Upload: id, Number: n + 1, Bytes: int64(len(data)), Body: newBody(data)}); err != nil {
			t.Fatal(err)
		}
	}
	src := finish("src", id)
	simple := r.mustPut("simple", one)
	to := r.elsewhere("src")
	id = create(to)
	part := func(from metadata.Version, n int, offset, size int64) error {
		_, err := r.CopyPart(ctx, CopyPartRequest{Source: from, Offset: offset, Bytes: size, Bucket: "bucket", Key: to, Upload: id, Number: n})
		return err
	}
	for _, c := range []struct {
		n         int
		from      metadata.Version
		off, size int64
		want      error
	}{
		{1, src, 60_000, 70_000, nil}, {2, simple, 0, 60_000, nil}, {1, src, 60_000, 70_000, nil}, {3, src, 0, 130_000, ErrNotShared},
		{3, src, 0, 59_999, ErrNotShared}, {3, src, 1, 60_000, ErrNotShared}, {3, simple, 0, 1, ErrNotShared},
	} {
		if err := part(c.from, c.n, c.off, c.size); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("part %d, [%d, +%d): %v, want %v", c.n, c.off, c.size, err, c.want)
		}
	}
	if err := part(metadata.Version{Parts: src.Parts, Bytes: src.Bytes, Attributes: metadata.Attributes{StorageClass: storageLean}}, 4, 0, 60_000); !errors.Is(err, ErrNotShared) {
		t.Errorf("a part of another class: %v", err)
	}
	v := finish(to, id)
	r.remove("src")
	r.remove("simple")
	r.check(v, append(append([]byte(nil), two...), one...), 0, 130_000)
	if s := r.stats(); s.References != 3 || s.Releases != 1 || s.Garbage != 1 {
		t.Fatalf("stats %+v", s) // the part that was copied twice; the first part of src
	}
	id = metadata.UploadID{1}
	if err := part(r.head(to), 1, 0, 70_000); !errors.Is(err, metadata.ErrNoSuchUpload) {
		t.Errorf("an upload that is not there: %v", err)
	}
}
