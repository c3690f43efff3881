package disk

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// starvedFS has no descriptor left when the index is opened.
type starvedFS struct {
	vfs.Real
	err error
}

type starvedDir struct {
	vfs.Pinned
	err error
}

func (f starvedFS) Pin(dir string) (vfs.Pinned, error) {
	p, err := f.Real.Pin(dir)
	return starvedDir{p, f.err}, err
}

func (d starvedDir) OpenFile(name string, _ int, _ os.FileMode) (*os.File, error) {
	return nil, &os.PathError{Op: "open", Path: name, Err: d.err}
}

// A node that starts without descriptors throws no index away.
func TestStarvedOpen(t *testing.T) {
	cfg := testConfig(t, nil)
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	s := disktest.Shard(disktest.Key(1, 1), 500, 1)
	add(t, d, s)
	mustClose(t, d)
	name := filepath.Join(cfg.Dir, indexName)
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		starved := cfg
		starved.FS = starvedFS{err: e}
		if _, err := Open(starved); !errors.Is(err, cluster.ErrOverloaded) || !errors.Is(err, e) {
			t.Fatal(err)
		}
		if after, err := os.Stat(name); err != nil || !os.SameFile(before, after) {
			t.Fatalf("the index was thrown away: %v", err)
		}
	}
	d = mustOpen(t, cfg)
	defer mustClose(t, d)
	have(t, d, s)
}
