package object

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/server/object/seal"
)

// ring is a keyring of one key.
type ring struct{ master seal.Key }

func (k ring) Seal(d seal.Key, context []byte) (string, []byte, error) {
	s, err := seal.Wrap(k.master[:], d, context, fill)
	return "one", s, err
}

func (k ring) Open(id string, sealed, context []byte) (seal.Key, error) {
	if id != "one" {
		return seal.Key{}, fmt.Errorf("no key %q", id)
	}
	return seal.Unwrap(k.master[:], sealed, context)
}

func fill(p []byte) error { copy(p, pattern(len(p), uint64(len(p)))); return nil }

var clientKey = bytes.Repeat([]byte{7}, seal.KeyBytes)

func keyed(c *rigConfig) { c.Keyring = ring{seal.Key{1, 2, 3}} }

var (
	byRegion = metadata.SealWith{Kind: metadata.SealRegion}
	byClient = metadata.SealWith{Kind: metadata.SealClient, ClientKey: clientKey}
)

func (r *rig) putSealed(w metadata.SealWith, key string, data []byte) metadata.Version {
	r.t.Helper()
	v, err := r.PutObject(r.t.Context(), PutRequest{Bucket: "bucket", Key: key, Bytes: int64(len(data)), Body: newBody(data), Seal: w})
	if err != nil {
		r.t.Fatal(err)
	}
	head, err := r.HeadObject(r.t.Context(), "bucket", key, "")
	if err != nil || head.ETag != v.ETag || metadata.SealOf(head.Parts) != w.Kind {
		r.t.Fatalf("%+v, %v", head, err)
	}
	return head
}

func (r *rig) open(v metadata.Version, key []byte, off, n int64) ([]byte, error) {
	rd, err := r.OpenSealed(r.t.Context(), v, key, off, n)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(rd)
	return out, errors.Join(err, rd.Close())
}

func TestSealedRoundTrip(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1}, keyed)
	for kind, w := range map[string]metadata.SealWith{"region": byRegion, "client": byClient} {
		for i, n := range []int{0, 1, 16 << 10, 16<<10 + 1, seal.PackageBytes - 1, seal.PackageBytes, seal.PackageBytes + 1, 300_000, chunk - 1, chunk, 2*chunk + 77} {
			data := pattern(n, uint64(i))
			v := r.putSealed(w, "k", data)
			sum := md5.Sum(data)
			if isMD5 := v.ETag == hex.EncodeToString(sum[:]); isMD5 != (kind == "region") || len(v.ETag) != 32 {
				t.Errorf("%s, %d bytes: ETag %s", kind, n, v.ETag)
			}
			if v.Bytes != int64(n) || v.Parts[0].Bytes != int64(n) {
				t.Errorf("%s: %d bytes are %d", kind, n, v.Bytes)
			}
			for _, c := range [][2]int{{0, n}, {0, 1}, {n / 2, 1}, {n / 3, n / 2}, {n - 1, 1}, {65_530, 20}, {chunk - 10, 20}} {
				if c[0] < 0 || c[0]+c[1] > n {
					continue
				}
				got, err := r.open(v, w.ClientKey, int64(c[0]), int64(c[1]))
				if err != nil || !bytes.Equal(got, data[c[0]:c[0]+c[1]]) {
					t.Fatalf("%s: [%d, +%d) of %d: %v", kind, c[0], c[1], n, err)
				}
			}
			if kind == "region" {
				r.check(v, data, 0, int64(n))
			}
		}
	}
}

// Plain text is nowhere: neither in a shard nor in a record, whatever its size.
func TestSealedLeavesNoPlainText(t *testing.T) {
	const canary = "the canary sings where it should not "
	r := newRig(t, erasure.Geometry{K: 1}, keyed)
	found := func(v metadata.Version) bool {
		if strings.Contains(string(v.Inline), canary) {
			return true
		}
		for _, d := range r.shards.disks {
			for _, s := range d {
				if bytes.Contains(s.payload, []byte(canary)) {
					return true
				}
			}
		}
		return false
	}
	for _, n := range []int{1000, 200_000} {
		data := []byte(strings.Repeat(canary, n/len(canary)))
		for _, w := range []metadata.SealWith{byRegion, byClient} {
			if v := r.putSealed(w, "k", data); found(v) {
				t.Errorf("%d bytes, kind %d: the canary is there", n, w.Kind)
			}
		}
		if v := r.mustPut("plain", data); !found(v) {
			t.Errorf("%d bytes in plain are not found: the search is broken", n)
		}
	}
}

// A flipped bit below the checksums of the disks is an error, never another byte.
func TestSealedDamage(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, keyed)
	data := pattern(3*seal.PackageBytes, 1)
	v := r.putSealed(byRegion, "k", data)
	for _, at := range []int{20, seal.PackageBytes + 100} {
		for _, d := range r.shards.disks {
			for key, s := range d {
				s.payload = bytes.Clone(s.payload)
				s.payload[at] ^= 4
				s.sums = erasure.Sums(nil, s.payload)
				d[key] = s
			}
		}
		got, err := r.get(v, 0, v.Bytes)
		if !errors.Is(err, seal.ErrDamaged) || !bytes.HasPrefix(data, got) || len(got) > at {
			t.Errorf("flipped at %d: %d bytes, %v", at, len(got), err)
		}
		for _, d := range r.shards.disks {
			for key, s := range d {
				s.payload[at] ^= 4
				s.sums = erasure.Sums(nil, s.payload)
				d[key] = s
			}
		}
	}
	r.check(v, data, 0, v.Bytes)
	small := r.putSealed(byRegion, "small", pattern(100, 2))
	small.Inline = bytes.Clone(small.Inline)
	small.Inline[50] ^= 1
	if got, err := r.get(small, 0, 100); !errors.Is(err, seal.ErrDamaged) || len(got) > 0 {
		t.Errorf("in the record: %d bytes, %v", len(got), err)
	}
}

func TestSealedWrongKey(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, keyed)
	for _, n := range []int{0, 100, 100_000} {
		v := r.putSealed(byClient, "k", pattern(n, 3))
		for name, key := range map[string][]byte{"none": nil, "another": bytes.Repeat([]byte{8}, 32), "short": clientKey[:16]} {
			if err := r.CheckKey(v, key); !errors.Is(err, ErrWrongKey) {
				t.Errorf("%s key: %v", name, err)
			}
			if _, err := r.open(v, key, 0, int64(n)); n > 0 && !errors.Is(err, ErrWrongKey) {
				t.Errorf("%s key opens: %v", name, err)
			}
		}
		if err := r.CheckKey(v, clientKey); err != nil {
			t.Error(err)
		}
	}
	bare := newRig(t, erasure.Geometry{K: 1})
	if _, err := bare.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Body: newBody(nil), Seal: byRegion}); !errors.Is(err, ErrNoKeyring) {
		t.Errorf("without a keyring: %v", err)
	}
}

// A body that does not hold together leaves nothing behind, encrypted or not.
func TestSealedBrokenBody(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1}, keyed)
	broken := errors.New("wrong signature")
	for _, n := range []int{0, 100, 100_000, chunk + 5} {
		b := newBody(pattern(n, 4))
		b.err = broken
		if _, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Bytes: int64(n), Body: b, Seal: byRegion}); !errors.Is(err, broken) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	r.settled()
	if n := r.shards.count(); n != 0 {
		t.Errorf("%d shards are left", n)
	}
}

func TestSealedUpload(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1}, keyed)
	ctx := t.Context()
	for _, w := range []metadata.SealWith{byRegion, byClient} {
		u, err := r.CreateUpload(ctx, CreateUploadRequest{Bucket: "bucket", Key: "k", Seal: w})
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		var parts []metadata.Part
		for n, size := range []int{200_000, seal.PackageBytes, 1, 70_000} {
			data := pattern(size, uint64(n))
			p, err := r.PutPart(ctx, PutPartRequest{Bucket: "bucket", Key: "k", Upload: u.ID, Number: n + 1, Bytes: int64(size), Body: newBody(data), ClientKey: w.ClientKey})
			if err != nil {
				t.Fatal(err)
			}
			all, parts = append(all, data...), append(parts, p)
		}
		if w.Kind == metadata.SealClient {
			_, err := r.PutPart(ctx, PutPartRequest{Bucket: "bucket", Key: "k", Upload: u.ID, Number: 9, Bytes: 1, Body: newBody([]byte{1}), ClientKey: bytes.Repeat([]byte{9}, 32)})
			if !errors.Is(err, ErrWrongKey) {
				t.Errorf("a part with another key: %v", err)
			}
		}
		if _, err := r.CompleteUpload(ctx, CompleteRequest{Bucket: "bucket", Key: "k", Upload: u.ID, Parts: parts, ETag: "etag-4"}); err != nil {
			t.Fatal(err)
		}
		v, err := r.HeadObject(ctx, "bucket", "k", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range [][2]int{{0, len(all)}, {199_990, 20}, {199_999, seal.PackageBytes + 3}, {len(all) - 1, 1}} {
			got, err := r.open(v, w.ClientKey, int64(c[0]), int64(c[1]))
			if err != nil || !bytes.Equal(got, all[c[0]:c[0]+c[1]]) {
				t.Errorf("[%d, +%d): %v", c[0], c[1], err)
			}
		}
	}
}

// A bucket may have everything encrypted that says nothing of it.
func TestSealedByDefault(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, keyed)
	if _, err := r.ConfigureBucket(t.Context(), "bucket", metadata.FieldEncryption, []byte(metadata.EncryptAES256)); err != nil {
		t.Fatal(err)
	}
	if v := r.mustPut("k", pattern(100, 1)); metadata.SealOf(v.Parts) != metadata.SealRegion {
		t.Errorf("%+v", v.Parts)
	}
	u, err := r.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "bucket", Key: "k"})
	if err != nil || u.Seal == nil || u.Seal.Kind != metadata.SealRegion {
		t.Errorf("%+v, %v", u.Seal, err)
	}
	if v := r.putSealed(byClient, "own", pattern(100, 1)); metadata.SealOf(v.Parts) != metadata.SealClient {
		t.Errorf("%+v", v.Parts)
	}
}

// A small range of a large encrypted object reads the blocks of the package that
// it lies in: two or three of them, not the object.
func TestSealedRangeReadsLittle(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1}, keyed)
	data := pattern(chunk, 6)
	v := r.putSealed(byRegion, "k", data)
	r.shards.setHook(nil)
	r.check(v, data, 20*seal.PackageBytes+100, 4096)
	blocks := 0
	for _, c := range r.shards.callsOf(opRead) {
		blocks += int(c.rows.Count)
	}
	if blocks == 0 || blocks > 3 {
		t.Errorf("%d blocks of %d were read", blocks, cluster.Blocks(len(data)))
	}
}
