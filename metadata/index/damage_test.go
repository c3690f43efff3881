package index

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"bivalve/metadata"
	"bivalve/metadata/boltfile"
)

// filled is a closed index of some hundred records, cut to the pages in use, and
// what it holds.
func filled(t *testing.T) (path, content string) {
	h := newHarness(t)
	for i := range 300 {
		h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(fmt.Sprintf("k%03d", i), "e", blobPart(1, byte(i), 0))}))
		if i%50 == 0 {
			_, err := h.ix.Flush()
			h.must(err)
		}
	}
	_, err := h.ix.Flush()
	h.must(err)
	var image bytes.Buffer
	_, err = h.ix.StreamSnapshot(&image)
	h.must(err)
	path = filepath.Join(t.TempDir(), "index.db")
	h.must(os.WriteFile(path, image.Bytes(), 0o600))
	return path, dump(t, h.ix)
}

func unzip(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever bit is flipped in a closed file: it is refused as damaged, or holds
// what it held.
func TestFlippedBitsAreSeenAtOpen(t *testing.T) {
	path, want := filled(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	rnd := rand.New(rand.NewPCG(11, 1))
	const flips = 400
	for range flips {
		b := bytes.Clone(whole)
		at := rnd.IntN(len(b))
		b[at] ^= 1 << rnd.IntN(8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		ix, err := Open(path)
		if errors.Is(err, ErrDamaged) {
			seen++
			continue
		}
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		if got := dump(t, ix); got != want {
			t.Fatalf("byte %d: opened with another content", at)
		}
		if err := ix.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d flips in %d bytes were refused; the others hit free space", seen, flips, len(whole))
	if seen < flips/4 {
		t.Error("too few")
	}
}

func TestOtherDamageIsSeenAtOpen(t *testing.T) {
	path, _ := filled(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": {}, "garbage": bytes.Repeat([]byte{0x5a}, 64<<10), "zeros": make([]byte, len(whole)),
		"half": whole[:len(whole)/2], "one byte less": whole[:len(whole)-1],
	} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Damage that comes while the file is open: an answer is right or an error, and
// after the first error there is no other.
func TestDamageUnderAnOpenIndex(t *testing.T) {
	for name, harm := range map[string]func(f *os.File, size int64) error{
		"bits": func(f *os.File, size int64) error {
			rnd := rand.New(rand.NewPCG(5, 5))
			for at := int64(8192); at < size; at += 64 {
				if _, err := f.WriteAt([]byte{byte(rnd.Uint32())}, at+rnd.Int64N(64)); err != nil {
					return err
				}
			}
			return nil
		},
		"garbage": func(f *os.File, size int64) error {
			_, err := f.WriteAt(bytes.Repeat([]byte{0xff}, int(size)-8192), 8192)
			return err
		},
		"cut short": func(f *os.File, size int64) error { return f.Truncate(8192) },
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := filled(t)
			ix, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if err := harm(f, st.Size()); err != nil {
				t.Fatal(err)
			}
			q, err := metadata.NewQuery(metadata.QueryObjects, metadata.ObjectPage{Bucket: bucketA, Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ix.Query(q); !errors.Is(err, ErrDamaged) {
				t.Fatalf("a listing: %v", err)
			}
			if _, err := ix.ApplyBatch([]Entry{{Index: 9999, Term: 1}}, nil); !errors.Is(err, ErrDamaged) {
				t.Fatalf("an entry: %v", err)
			}
			if _, err := ix.Flush(); !errors.Is(err, ErrDamaged) {
				t.Fatalf("a flush: %v", err)
			}
			if _, err := ix.StreamSnapshot(io.Discard); !errors.Is(err, ErrDamaged) {
				t.Fatalf("a snapshot: %v", err)
			}
			// It may not be possible to close it, but that does not hang either.
			if err := ix.Close(); err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
		})
	}
}

// Pages that bbolt has taken apart for a change are spoilt under it: what they held
// is found, or is an error, and never absent.
func TestSpoiltPagesHideNothing(t *testing.T) {
	for n := 1; n <= 12; n++ {
		h := newHarness(t)
		put := func(key string, id byte) error {
			h.next++
			raw := h.command(metadata.CmdPutVersion, metadata.PutVersion{Version: version(key, "e", blobPart(0, id, 0))})
			_, err := h.ix.ApplyBatch([]Entry{{Index: h.next, Term: 1, Data: raw}}, nil)
			return err
		}
		for i := range n {
			h.must(put(fmt.Sprintf("k%02d", i), byte(i+1)))
		}
		_, err := h.ix.Flush()
		h.must(err)
		h.must(put("after", 200)) // its page is in memory now, and points into the file
		path := filepath.Join(h.dir, "index.db")
		st, err := os.Stat(path)
		h.must(err)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		h.must(err)
		_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, int(st.Size())-8192), 8192)
		h.must(errors.Join(err, f.Close()))
		if err := put("later", 201); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		for i := range n {
			q, err := metadata.NewQuery(metadata.QueryVersion, metadata.KeyRef{Bucket: bucketA, Key: fmt.Sprintf("k%02d", i)})
			h.must(err)
			raw, err := h.ix.Query(q)
			if err == nil {
				_, err = metadata.DecodeResult(raw)
			}
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("key %d of %d: %v", i, n, err)
			}
		}
		if err := h.ix.Close(); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		h.dir = t.TempDir()
		h.open()
	}
}

// Applying meets the damage as well.
func TestApplyOnADamagedPage(t *testing.T) {
	path, _ := filled(t)
	ix, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, ix: ix, rng: rand.New(rand.NewPCG(8, 8)), next: 300}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	raw := h.command(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k100", "e2")})
	if _, err := ix.ApplyBatch([]Entry{{Index: 301, Term: 1, Data: raw}}, nil); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	_ = ix.Close() // as far as that is possible
}

func TestRestoreKeepsOneDamagedFile(t *testing.T) {
	image, want := filled(t)
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(image), "group.db")
	for _, bad := range []string{"first damage", "second damage"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		from := filepath.Join(filepath.Dir(image), "received")
		if err := os.WriteFile(from, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(path, from); !errors.Is(err, ErrBadSnapshot) {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != bad {
			t.Fatalf("%q %v", b, err)
		}
		if err := os.WriteFile(from, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		ix, err := Restore(path, from)
		if err != nil {
			t.Fatal(err)
		}
		if got := dump(t, ix); got != want {
			t.Fatal("restored another content")
		}
		if err := ix.Close(); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(boltfile.Aside(path)); err != nil || string(b) != bad {
			t.Fatalf("%q %v", b, err)
		}
	}
}

// A commit without room leaves the file as it was.
func TestNoSpace(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("first", "e")}))
	_, err := h.ix.Flush()
	h.must(err)
	want := dump(t, h.ix)
	st, err := os.Stat(h.ix.path)
	h.must(err)
	h.ix.db.MaxSize = int(st.Size())
	for i := 0; err == nil; i++ {
		for n := range 200 {
			v := version(fmt.Sprintf("k%d-%d", i, n), "e")
			v.Inline = make([]byte, 8000)
			h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: v}))
		}
		if i == 0 {
			i = 1
		}
		if _, err = h.ix.Flush(); err == nil {
			want = dump(t, h.ix)
		}
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	if _, err := h.ix.ApplyBatch([]Entry{{Index: 9999, Term: 1}}, nil); !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	h.must(h.ix.Close())
	h.open()
	if got := dump(t, h.ix); got != want {
		t.Fatal("the file is not as it was before the commit")
	}
}

// On a real file system that is full; see replica's test of the same name.
func TestIndexOnAFullDisk(t *testing.T) {
	base := os.Getenv("BIVALVE_SMALL_DIR")
	if base == "" {
		t.Skip("BIVALVE_SMALL_DIR is not set")
	}
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	h := &harness{t: t, dir: dir, rng: rand.New(rand.NewPCG(1, 2))}
	filler := filepath.Join(dir, "filler")
	h.must(os.WriteFile(filler, make([]byte, 8<<20), 0o600))
	h.open()
	flushed, want := uint64(0), dump(t, h.ix)
	for err == nil {
		for range 60 {
			v := version(fmt.Sprint("k", h.next), "e")
			v.Inline = make([]byte, 8000)
			h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: v}))
		}
		if _, err = h.ix.Flush(); err == nil {
			flushed, want = h.next, dump(t, h.ix)
		}
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	h.must(h.ix.Close())
	h.open() // while it is full
	if got := dump(t, h.ix); got != want {
		t.Fatal("the file is not as it was before the commit")
	}
	h.must(os.Remove(filler))
	_, err = h.ix.ApplyBatch(h.log[flushed:], nil) // as the raft log does
	h.must(err)
	want = dump(t, h.ix)
	h.must(h.ix.Close())
	h.open()
	if got := dump(t, h.ix); got != want || h.ix.Applied().Index != h.next {
		t.Fatal("lost")
	}
	h.must(h.ix.Close())
	t.Logf("full behind entry %d", flushed)
}
