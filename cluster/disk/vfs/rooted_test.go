package vfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A pinned directory is reached though another has taken its name, and the other
// gets nothing.
func TestPinnedStaysWithItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := Real{}.Pin(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.InPlace(); err != nil {
		t.Fatal(err)
	}
	moved := dir + ".away"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := p.InPlace(); !errors.Is(err, ErrMoved) {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.InPlace(); !errors.Is(err, ErrMoved) {
		t.Fatal(err)
	}
	f, err := p.Create(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteVec([][]byte{[]byte("here")}, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close(), p.SyncDir(dir)); err != nil {
		t.Fatal(err)
	}
	if err := p.Rename(filepath.Join(dir, "x"), filepath.Join(dir, "y")); err != nil {
		t.Fatal(err)
	}
	if names, err := p.ReadDir(dir); err != nil || len(names) != 1 || names[0] != "y" {
		t.Fatal(names, err)
	}
	if b, err := os.ReadFile(filepath.Join(moved, "y")); err != nil || string(b) != "here" {
		t.Fatal(b, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
	if _, err := p.OpenRead(filepath.Join(filepath.Dir(dir), "other")); err == nil {
		t.Fatal("a name outside the directory was opened")
	}
	if _, free, err := p.Space(dir); err != nil || free <= 0 {
		t.Fatal(free, err)
	}
}
