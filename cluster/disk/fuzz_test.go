package disk

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"

	"github.com/zeebo/xxh3"
)

// Any page is taken for what it says or refused, whatever its sum covers.
func FuzzPages(f *testing.F) {
	o := owner{cluster: [16]byte{1}, disk: cluster.DiskID{2}}
	page := make([]byte, pageBytes)
	putSuperblock(page, o, 7, largeSegment, 5)
	f.Add(page)
	putPage(page, magicIdentity, o)
	f.Add(page)
	m := manifest{owner: o, next: 9, segments: []manifestSegment{{number: 7, kind: largeSegment, sealed: true, length: 4096}}}
	f.Add(m.encode()[:pageBytes])
	m.segments = make([]manifestSegment, 300)
	f.Add(m.encode()[:4*pageBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= pageBytes {
			sealPage(b) // past the sum, so that the rest is reached
		}
		if _, err := checkPage(b, magicIdentity); err != nil && !errors.Is(err, cluster.ErrCorrupt) {
			t.Fatal(err)
		}
		if err := checkSuperblock(b, o, 7, largeSegment); err != nil && !errors.Is(err, cluster.ErrCorrupt) {
			t.Fatal(err)
		}
		m, err := parseManifest(b)
		if err != nil {
			if !errors.Is(err, cluster.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := parseManifest(m.encode()[:len(m.encode())/2])
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v, then %+v, %v", m, again, err)
		}
	})
}

// Any key and value of the index are a row or are refused.
func FuzzRow(f *testing.F) {
	key, value := make([]byte, keyBytes), make([]byte, rowBytes)
	putKey(key, disktest.Key(3, 4))
	putRow(value, key, place{segment: 1, offset: 4096, length: 70_000, gen: 2, seq: 9, content: 11})
	f.Add(key, value)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(value) >= 8 {
			sealValue(key, value)
		}
		k, err := parseKey(key)
		if err != nil {
			if !errors.Is(err, errIndex) {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, keyBytes)
		if putKey(again, k); !bytes.Equal(again, key) {
			t.Fatalf("key %x, then %x", key, again)
		}
		p, err := parseRow(key, value)
		if err != nil {
			if !errors.Is(err, errIndex) {
				t.Fatal(err)
			}
			return
		}
		row := make([]byte, rowBytes)
		putRow(row, key, p)
		if got, err := parseRow(key, row); err != nil || got != p {
			t.Fatalf("%+v, then %+v, %v", p, got, err)
		}
	})
}

// A segment of any bytes is walked to its end, each record within it, once.
func FuzzSegment(f *testing.F) {
	const seed = 42
	s := &segment{kind: smallSegment, shape: shapeOf(smallSegment), seed: seed}
	var body []byte
	for i, n := range []uint32{0, 1, 100, 3000} {
		kind := uint8(kindShard)
		if n == 0 {
			kind = kindTombstone
		}
		h := header{kind: kind, key: disktest.Key(1, i), length: n, sums: make([]uint64, cluster.Blocks(int(n)))}
		b := make([]byte, s.shape.size(n))
		h.put(b, seed, int64(pageBytes+len(body)))
		body = append(body, b...)
	}
	f.Add(body, true)
	f.Add(append(bytes.Clone(body[:200]), make([]byte, 5000)...), false)
	f.Fuzz(func(t *testing.T, body []byte, large bool) {
		s := &segment{kind: smallSegment, shape: shapeOf(smallSegment), seed: seed}
		if large {
			s.kind, s.shape = largeSegment, shapeOf(largeSegment)
		}
		resum(body, s)
		mem := vfs.NewMemFS(1<<30, true)
		file, err := mem.Create("/s")
		if err == nil {
			_, err = file.WriteVec([][]byte{make([]byte, pageBytes), body}, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		sc := scanner{f: file, s: s, size: int64(pageBytes + len(body))}
		at := int64(pageBytes)
		step := func(from, to int64) {
			if from < at || to <= from || from >= sc.size {
				t.Fatalf("from %d to %d, was at %d of %d", from, to, at, sc.size)
			}
			at = to
		}
		err = sc.each(pageBytes, func(h header, off int64) error {
			step(off, off+s.shape.size(h.length))
			return nil
		}, step)
		if err != nil {
			t.Fatal(err)
		}
	})
}

// resum makes the sums of headers that could be ones right, so that more than the
// first check is reached.
func resum(body []byte, s *segment) {
	for i := 0; i+headerFixed <= len(body); i += int(s.shape.align) {
		if h := body[i:]; string(h[:4]) == "BVR1" {
			if n := int(h[6]) | int(h[7])<<8; n >= headerFixed && n <= len(h) && n <= maxHeaderBytes {
				off := uint64(pageBytes + i)
				for j := range 8 {
					h[72+j] = byte(off >> (8 * j))
				}
				sum := xxh3.HashSeed(h[:n-8], s.seed)
				for j := range 8 {
					h[n-8+j] = byte(sum >> (8 * j))
				}
			}
		}
	}
}
