package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"path/filepath"
	"reflect"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"

	"github.com/zeebo/xxh3"
)

func sampleHeader() header {
	return header{
		kind: kindShard, flags: flagSole, key: disktest.Key(77, 5), profile: cluster.Profile{K: 4, M: 1}, gen: 3,
		length: 70_000, seq: 99, durable: 8192, sums: []uint64{11, 22},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	h := sampleHeader()
	b := make([]byte, 4096)
	n := h.put(b, 42, 12288)
	got, size, err := parseHeader(b, 42, 12288, nil)
	if err != nil || size != n || !reflect.DeepEqual(got, h) {
		t.Fatalf("%+v, %d, %v", got, size, err)
	}
	// Another place, another segment, disk or cluster, a header that is cut off.
	if _, _, err := parseHeader(b, 42, 16384, nil); !errors.Is(err, errBadRecord) {
		t.Error("other offset:", err)
	}
	if _, _, err := parseHeader(b, 43, 12288, nil); !errors.Is(err, errBadRecord) {
		t.Error("other seed:", err)
	}
	if _, _, err := parseHeader(b[:n-1], 42, 12288, nil); !errors.Is(err, errBadRecord) {
		t.Error("cut off:", err)
	}
	for bit := range 8 * n { // every bit counts
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := parseHeader(b, 42, 12288, nil); !isRecordError(err) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	// Well-formed, of another version or kind: refused all the same.
	for _, c := range []struct {
		at   int
		with byte
	}{{4, recordVersion + 1}, {5, 0}, {5, 4}, {5, kindTombstone}, {40, 0}, {43, 1}} {
		bad := bytes.Clone(b[:n])
		bad[c.at] = c.with
		if c.at == 40 {
			clear(bad[40:44])
		}
		binary.LittleEndian.PutUint64(bad[n-8:], xxh3.HashSeed(bad[:n-8], 42))
		if _, _, err := parseHeader(bad, 42, 12288, nil); !errors.Is(err, errBadRecord) {
			t.Errorf("byte %d = %d: %v", c.at, c.with, err)
		}
	}
}

// Every byte of every page is covered; a version or magic of another build is
// refused although its sum is right.
func TestPages(t *testing.T) {
	o := owner{cluster: [16]byte{1}, disk: cluster.DiskID{2}}
	super := make([]byte, pageBytes)
	putSuperblock(super, o, 7, largeSegment, 5)
	identity := make([]byte, pageBytes)
	putPage(identity, magicIdentity, o)
	sealPage(identity)
	m := manifest{owner: o, next: 9, segments: []manifestSegment{{number: 7, kind: largeSegment, sealed: true, length: 4096}}}
	for name, page := range map[string]struct {
		bytes []byte
		check func([]byte) error
	}{
		"superblock": {super, func(b []byte) error { return checkSuperblock(b, o, 7, largeSegment) }},
		"identity":   {identity, func(b []byte) error { _, err := checkPage(b, magicIdentity); return err }},
		"manifest": {m.encode()[:pageBytes], func(b []byte) error {
			got, err := parseManifest(b)
			if err == nil && !reflect.DeepEqual(got, m) {
				t.Errorf("manifest %+v", got)
			}
			return err
		}},
	} {
		if err := page.check(page.bytes); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for at := range page.bytes {
			page.bytes[at] ^= 0x20
			if err := page.check(page.bytes); !errors.Is(err, cluster.ErrCorrupt) {
				t.Fatalf("%s, byte %d broken: %v", name, at, err)
			}
			if at < 10 { // magic and version, sealed again
				sealed := bytes.Clone(page.bytes)
				sealPage(sealed)
				if err := page.check(sealed); !errors.Is(err, cluster.ErrCorrupt) {
					t.Fatalf("%s, byte %d changed: %v", name, at, err)
				}
			}
			page.bytes[at] ^= 0x20
		}
		if err := page.check(page.bytes[:100]); !errors.Is(err, cluster.ErrCorrupt) {
			t.Fatalf("%s cut short: %v", name, err)
		}
	}
	if err := checkSuperblock(super, o, 8, largeSegment); !errors.Is(err, cluster.ErrCorrupt) {
		t.Error("other segment:", err)
	}
	if err := checkSuperblock(super, owner{}, 7, largeSegment); !errors.Is(err, cluster.ErrCorrupt) {
		t.Error("other disk:", err)
	}
}

// One flipped bit anywhere in a record is found by whoever reads it, and the
// records beside it are not harmed, with the index and after a rebuild.
func TestBitFlips(t *testing.T) {
	for _, size := range []int{3000, 140_000} {
		mem := vfs.NewMemFS(1<<30, true)
		cfg := testConfig(t, mem)
		index := &memTable{}
		cfg.table = index
		mustFormat(t, cfg)
		d := mustOpen(t, cfg)
		var all []cluster.Shard
		for i := range 9 {
			all = append(all, disktest.Shard(disktest.Key(1, i), size, uint64(i)))
			add(t, d, all[i])
		}
		p, _, err := d.lookup(all[4].Key)
		if err != nil {
			t.Fatal(err)
		}
		s := d.segments[p.segment]
		mustClose(t, d)
		payload := p.offset + s.shape.payloadAt(p.length)
		for _, at := range []int64{p.offset, p.offset + 5, p.offset + 20, p.offset + 82, payload, payload + int64(size)/2, payload + int64(size) - 1} {
			flip(t, mem, s.path, at)
			for _, table := range []table{index, nil} {
				cfg.table = table
				d := mustOpen(t, cfg)
				_, err := disktest.ReadWhole(t.Context(), d, all[4].Key)
				if !errors.Is(err, cluster.ErrCorrupt) && (table != nil || at >= payload || !errors.Is(err, cluster.ErrNotFound)) {
					t.Fatalf("%d bytes, flip at +%d: %v", size, at-p.offset, err)
				}
				for i := range all {
					if i != 4 {
						have(t, d, all[i])
					}
				}
				mustClose(t, d)
			}
			flip(t, mem, s.path, at)
		}
		// Of identity and manifest either copy does.
		for _, name := range []string{identityName, manifestName} {
			path := filepath.Join(cfg.Dir, name)
			flip(t, mem, path, 20)
			mustClose(t, mustOpen(t, cfg)) // and it is made whole
			flip(t, mem, path, 20)
			flip(t, mem, path, 20+pageBytes)
			if _, err := Open(cfg); !errors.Is(err, cluster.ErrCorrupt) {
				t.Fatalf("both copies of %s broken: %v", name, err)
			}
			flip(t, mem, path, 20)
			flip(t, mem, path, 20+pageBytes)
		}
		// A broken superblock loses no shard, and takes no more of them.
		flip(t, mem, s.path, 3)
		cfg.table = nil
		d = mustOpen(t, cfg)
		more := disktest.Shard(disktest.Key(1, 50), size, 50)
		add(t, d, more)
		for _, sh := range append(all, more) {
			have(t, d, sh)
		}
		if p, _, err := d.lookup(more.Key); err != nil || p.segment == s.number {
			t.Fatalf("%+v, %v", p, err)
		}
		mustClose(t, d)
	}
}

// A segment that lost its synced end says so: what the index knows is corrupt
// there, not absent, and what is before it is served.
func TestTruncatedSegment(t *testing.T) {
	for _, zero := range []bool{false, true} {
		mem := vfs.NewMemFS(1<<30, true)
		cfg := testConfig(t, mem)
		cfg.table = &memTable{}
		mustFormat(t, cfg)
		d := mustOpen(t, cfg)
		first, second := disktest.Shard(disktest.Key(1, 1), 5000, 1), disktest.Shard(disktest.Key(1, 2), 5000, 2)
		add(t, d, first)
		add(t, d, second)
		p, _, err := d.lookup(second.Key)
		if err != nil {
			t.Fatal(err)
		}
		path := d.segments[p.segment].path
		mustClose(t, d)
		f, err := mem.OpenWrite(path, false)
		if err != nil {
			t.Fatal(err)
		}
		if zero {
			_, err = f.WriteVec([][]byte{make([]byte, 5096)}, p.offset)
		} else {
			err = f.Truncate(p.offset + 50)
		}
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		d = mustOpen(t, cfg)
		have(t, d, first)
		if _, err := disktest.ReadWhole(t.Context(), d, second.Key); !errors.Is(err, cluster.ErrCorrupt) {
			t.Fatalf("zeroed %v: %v", zero, err)
		}
		second.Generation = 1
		add(t, d, second)
		have(t, d, second)
		mustClose(t, d)
	}
}

var update = flag.Bool("update", false, "write testdata/v1 again; only before it is released")

func sampleShards() []cluster.Shard {
	var all []cluster.Shard
	for i, n := range []int{1, 4096, 40_000, 65_536, 70_001} {
		s := disktest.Shard(disktest.Key(cluster.PG(i), i), n, 0)
		for j := range s.Payload {
			s.Payload[j] = byte(j>>8 + i)
		}
		s.Sums = disktest.Sums(s.Payload)
		all = append(all, s)
	}
	return all
}

func FuzzRecord(f *testing.F) {
	h := sampleHeader()
	b := make([]byte, 256)
	n := h.put(b, 42, 4096)
	f.Add(b[:n], uint64(42), int64(4096))
	tomb := header{kind: kindTombstone, key: disktest.Key(1, 1), target: 3}
	f.Add(b[:tomb.put(b, 1, 8)], uint64(1), int64(8))
	f.Add([]byte("BVR1"), uint64(0), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, off int64) {
		if len(b) >= headerFixed { // past the checksum, so that the rest is reached
			n := min(len(b), int(binary.LittleEndian.Uint16(b[6:])))
			if n >= headerFixed {
				binary.LittleEndian.PutUint64(b[72:], uint64(off))
				binary.LittleEndian.PutUint64(b[n-8:], xxh3.HashSeed(b[:n-8], seed))
			}
		}
		h, n, err := parseHeader(b, seed, off, nil)
		if err != nil {
			if !isRecordError(err) {
				t.Fatalf("unknown error %v", err)
			}
			return
		}
		if n > len(b) || h.length > cluster.MaxShardBytes || len(h.sums) != cluster.Blocks(int(h.length)) {
			t.Fatalf("%+v of %d bytes", h, n)
		}
		again := make([]byte, n)
		h.put(again, seed, off)
		if got, _, err := parseHeader(again, seed, off, nil); err != nil || !reflect.DeepEqual(got, h) {
			t.Fatalf("%+v, then %+v, %v", h, got, err)
		}
	})
}
