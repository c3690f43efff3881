package object

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

var geometries = []erasure.Geometry{{K: 1}, {K: 2}, {K: 2, M: 1}, {K: 3, M: 1}, {K: 4, M: 1}}

const chunk = erasure.ChunkBytes

func TestRoundTrip(t *testing.T) {
	for _, geo := range geometries {
		t.Run(fmt.Sprintf("%d+%d", geo.K, geo.M), func(t *testing.T) {
			r := newRig(t, geo)
			block := erasure.BlockBytes
			sizes := []int{0, 1, 2, 16<<10 - 1, 16 << 10, 16<<10 + 1, 16<<10 + geo.K, block - 1, block, block + 1,
				geo.K*block - 1, geo.K * block, geo.K*block + 1, 3*geo.K*block + 5,
				chunk - 1, chunk, chunk + 1, 2*chunk + 1, 3*chunk - 7}
			for i, n := range sizes {
				data := pattern(n, uint64(i))
				v := r.mustPut("k", data)
				head, err := r.HeadObject(t.Context(), "bucket", "k", "")
				if err != nil || head.Bytes != int64(n) || head.ETag != newBody(data).md5 || head.Modified != v.Modified || v.Modified == 0 {
					t.Fatalf("%d bytes: head %+v, %v", n, head, err)
				}
				if inline := n <= metadata.MaxInlineBytes; inline != (len(head.Parts) == 0) {
					t.Errorf("%d bytes: parts %+v", n, head.Parts)
				}
				for _, p := range head.Parts {
					if p.Blob.UnderProtected() || len(p.Blob.Notes) > 0 || len(p.Blob.AtRisk) > 0 {
						t.Errorf("%d bytes: %+v in a whole region", n, p.Blob)
					}
				}
				r.check(head, data, 0, int64(n))
				for _, at := range []int{0, 1, n / 3, n / 2, block - 1, block, n/geo.K - 1, n / geo.K, chunk - 1, chunk, n - 1} {
					for _, length := range []int{1, 2, 4096, block, block + 1} {
						if at >= 0 && at < n && n > 16<<10 {
							r.check(head, data, int64(at), int64(min(length, n-at)))
						}
					}
				}
			}
			if want := 0; r.damage.count() != want {
				t.Errorf("damage was reported where there is none: %v", r.damage.seen)
			}
		})
	}
}

func TestBytesStored(t *testing.T) {
	for _, geo := range geometries {
		r := newRig(t, geo)
		const n = 9 << 20
		r.mustPut("k", pattern(n, 1))
		sum := 0
		for _, d := range r.shards.disks {
			for _, s := range d {
				sum += len(s.payload)
			}
		}
		if ideal := float64(n) * float64(geo.Shards()) / float64(geo.K); float64(sum) > ideal*1.001 || float64(sum) < ideal {
			t.Errorf("%+v: %d bytes on disks for %d, ideal %.0f", geo, sum, n, ideal)
		}
	}
}

// TestRangeReadsWhatItNeeds counts the blocks that are asked for.
func TestRangeReadsWhatItNeeds(t *testing.T) {
	geo := erasure.Geometry{K: 4, M: 1}
	r := newRig(t, geo, with(func(c *Config) { c.HedgeFloor = time.Hour })) // whatever else the machine does
	data := pattern(chunk+100_000, 3)
	near, far := r.putInto(zoneA, data), r.putInto(zoneB, data)
	const shard = chunk / 4
	for _, c := range []struct {
		name    string
		v       metadata.Version
		off, n  int64
		reads   int
		blocks  int
		ownZone bool
	}{
		{"4 KiB in one block", near, 3 * 65536, 4096, 1, 1, true},
		{"4 KiB over two blocks", near, 65536 - 100, 4096, 1, 2, true},
		{"one byte", near, shard - 1, 1, 1, 1, true},
		{"two bytes over two shards", near, shard - 1, 2, 2, 2, true},
		{"one shard", near, shard, shard, 1, shard / 65536, true},
		{"whole chunk", near, 0, chunk, 4, 4 * shard / 65536, true},
		{"4 KiB, systematic shards in the other zone", far, 3 * 65536, 4096, 4, 4, true},
		{"one byte of the last block", far, shard - 1, 1, 4, 4, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.shards.setHook(nil)
			r.check(c.v, data, c.off, c.n)
			reads, blocks := r.shards.callsOf(opRead), 0
			for _, call := range reads {
				blocks += int(call.rows.Count)
				if (r.region.zoneOf[call.node] == zoneA) != c.ownZone {
					t.Errorf("asked %s in the other zone", call.node)
				}
				if call.bytes > int(call.rows.Count)*erasure.BlockBytes {
					t.Errorf("%d bytes for %d blocks", call.bytes, call.rows.Count)
				}
			}
			if len(reads) != c.reads || blocks != c.blocks {
				t.Errorf("%d reads of %d blocks, want %d of %d", len(reads), blocks, c.reads, c.blocks)
			}
		})
	}
}

func TestManyParts(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1})
	ctx := t.Context()
	u, err := r.CreateUpload(ctx, CreateUploadRequest{Bucket: "bucket", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	var whole []byte
	var parts []metadata.Part
	for i, n := range []int{5 << 20, 70_000, 0, chunk, 1, 20_000} {
		data := pattern(n, uint64(i))
		p, err := r.PutPart(ctx, PutPartRequest{Bucket: "bucket", Key: "k", Upload: u.ID, Number: i + 1, Bytes: int64(n), Body: newBody(data)})
		if err != nil {
			t.Fatal(err)
		}
		whole, parts = append(whole, data...), append(parts, p)
	}
	v, err := r.CompleteUpload(ctx, CompleteRequest{Bucket: "bucket", Key: "k", Upload: u.ID, Parts: parts, ETag: "e-6"})
	if err != nil {
		t.Fatal(err)
	}
	if v, err = r.HeadObject(ctx, "bucket", "k", ""); err != nil || v.Bytes != int64(len(whole)) {
		t.Fatal(v, err)
	}
	r.check(v, whole, 0, v.Bytes)
	for off := int64(0); off < v.Bytes; off += 1_234_567 {
		r.check(v, whole, off, min(v.Bytes-off, 2_000_000))
	}
	r.check(v, whole, v.Bytes-20_002, 20_002) // over the part of one byte
	if _, err := r.OpenObject(ctx, v, v.Bytes, 1); err == nil {
		t.Error("a range behind the end was opened")
	}
}

// TestWriteTo hands over without a copy, and stops at a writer that fails.
func TestWriteTo(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1})
	data := pattern(3*chunk+5, 9)
	v := r.mustPut("k", data)
	var out bytes.Buffer
	rd, err := r.OpenObject(t.Context(), v, 10, v.Bytes-20)
	if err != nil {
		t.Fatal(err)
	}
	n, err := rd.(io.WriterTo).WriteTo(&out)
	if err != nil || n != v.Bytes-20 || !bytes.Equal(out.Bytes(), data[10:len(data)-10]) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := rd.Close(); err != nil {
		t.Error(err)
	}
	for _, limit := range []int{0, 1, chunk / 2, chunk, chunk + 1, 2*chunk + 17} {
		rd, err := r.OpenObject(t.Context(), v, 0, v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		w := &shortWriter{left: limit}
		if n, err := rd.(io.WriterTo).WriteTo(w); err != io.ErrShortWrite || n != int64(limit) {
			t.Errorf("writer for %d bytes: %d, %v", limit, n, err)
		}
		if err := rd.Close(); err != nil {
			t.Error(err)
		}
	}
	r.settled()
}

type shortWriter struct{ left int }

func (w *shortWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		n := w.left
		w.left = 0
		return n, io.ErrShortWrite
	}
	w.left -= len(p)
	return len(p), nil
}

// TestCloseInTheMidst: a reader may be closed at any point, and after that reads
// nothing.
func TestCloseInTheMidst(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2})
	data := pattern(4*chunk, 5)
	v := r.mustPut("k", data)
	for _, n := range []int64{0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 4 * chunk} {
		rd, err := r.OpenObject(t.Context(), v, 0, v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.CopyN(io.Discard, struct{ io.Reader }{rd}, n); got != n || err != nil {
			t.Fatal(got, err)
		}
		if err := rd.Close(); err != nil {
			t.Error(err)
		}
		if err := rd.Close(); err != nil {
			t.Error(err)
		}
		if got, err := rd.Read(make([]byte, 10)); got != 0 || err == nil || err == io.EOF && n < 4*chunk {
			t.Errorf("after Close at %d: %d, %v", n, got, err)
		}
		r.settled()
	}
}

// TestBlobIDs carry the partition of their key, by which they are reclaimed.
func TestBlobIDs(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, func(c *rigConfig) { c.partitions = 4 })
	for i := range 20 {
		key := fmt.Sprint(i)
		v := r.mustPut(key, pattern(20_000, 1))
		if got := cluster.BlobID(v.Parts[0].Blob.ID).Partition(); got != uint16(r.catalog.Partition(v.Bucket, key)) {
			t.Errorf("blob of partition %d", got)
		}
	}
}
