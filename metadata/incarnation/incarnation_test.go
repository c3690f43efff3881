package incarnation

import (
	"os"
	"path/filepath"
	"testing"
)

func open(t *testing.T, path string) *Book {
	t.Helper()
	b, damaged, err := Open(path)
	if err != nil || damaged != nil {
		t.Fatal(damaged, err)
	}
	return b
}

func TestSetBackIsFoundOutForGood(t *testing.T) {
	dir := t.TempDir()
	path, peerPath := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	peer := open(t, peerPath)
	var old []byte
	for life := uint64(1); life <= 5; life++ {
		b := open(t, path)
		for range 2 { // it asks twice, perhaps over a broken connection
			before, err := peer.Heard("a", b.Self())
			if err != nil || before != life-1 {
				t.Fatalf("life %d: heard of %d before: %v", life, before, err)
			}
			if err := b.Judge("b", before); err != nil {
				t.Fatal(err)
			}
		}
		if life == 3 {
			var err error
			if old, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
		peer = open(t, peerPath) // peers remember
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, path)
	before, err := peer.Heard("a", b.Self())
	if err != nil || before != 5 {
		t.Fatal(before, err)
	}
	if err := b.Judge("b", before); err == nil {
		t.Fatal("not found out")
	}
	for range 5 { // lives enough to count past what the peer knows
		if b = open(t, path); b.SetBack() == nil {
			t.Fatal("forgotten")
		}
	}
}

// A copy of the very last life is a copy too.
func TestTwinsAreFoundOut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	peer := open(t, filepath.Join(dir, "b"))
	open(t, path)
	copied, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second := open(t, path)
	if before, err := peer.Heard("a", second.Self()); err != nil || second.Judge("b", before) != nil {
		t.Fatal(before, err)
	}
	if err := os.WriteFile(path, copied, 0o600); err != nil {
		t.Fatal(err)
	}
	twin := open(t, path)
	before, err := peer.Heard("a", twin.Self())
	if err != nil || twin.Judge("b", before) == nil {
		t.Fatal(before, err)
	}
}

func TestDamagedBook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	for range 4 {
		open(t, path)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(whole)-1; at += 5 {
		b := append([]byte(nil), whole...)
		b[at] ^= 2
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		book, damaged, err := Open(path)
		if err != nil || damaged == nil || book.Self().Number != 1 {
			t.Fatalf("byte %d: %v %v %+v", at, damaged, err, book.Self())
		}
		if err := book.Outlive(4); err != nil || book.Self().Number != 5 {
			t.Fatal(err, book.Self())
		}
	}
}
