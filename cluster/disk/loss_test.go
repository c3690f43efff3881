package disk

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

func TestLossOfASegment(t *testing.T) {
	cfg := testConfig(t, vfs.NewMemFS(1<<30, true))
	cfg.SegmentBytes = 256 << 10
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	var shards []cluster.Shard
	for i := range 200 {
		shards = append(shards, disktest.Shard(disktest.Key(1, i), 5000, uint64(i)))
		add(t, d, shards[i])
	}
	if d.Loss() != nil {
		t.Fatal(d.Loss())
	}
	p, _, err := d.lookup(shards[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	path := d.segments[p.segment].path
	mustClose(t, d)
	if err := cfg.FS.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the note stays until the loss is made good
		d = mustOpen(t, cfg)
		if l := d.Loss(); l == nil || !strings.Contains(l.Reason, "is missing") {
			t.Fatal(l)
		}
		mustClose(t, d)
	}
	d = mustOpen(t, cfg)
	if d.Usage().Shards >= int64(len(shards)) {
		t.Fatal("nothing is lost: the test shows nothing")
	}
	add(t, d, shards[:100]...) // what is there already counts as appended
	add(t, d, shards[100:]...)
	stale := &Loss{}
	if err := d.Restored(stale); err != nil || d.Loss() == nil {
		t.Fatal("another loss was forgotten", err)
	}
	if err := d.Restored(d.Loss()); err != nil || d.Loss() != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	d = mustOpen(t, cfg)
	defer mustClose(t, d)
	if d.Loss() != nil {
		t.Fatal(d.Loss())
	}
	for _, s := range shards {
		have(t, d, s)
	}
}

// A header that is damaged where no index knows its key is a loss.
func TestLossOfARecord(t *testing.T) {
	cfg := testConfig(t, nil)
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	for i := range 10 {
		add(t, d, disktest.Shard(disktest.Key(1, i), 5000, uint64(i)))
	}
	p, _, err := d.lookup(disktest.Key(1, 4))
	if err != nil {
		t.Fatal(err)
	}
	path := d.segments[p.segment].path
	mustClose(t, d)
	flip(t, vfs.Real{}, path, p.offset+20)
	d = mustOpen(t, cfg)
	if d.Loss() != nil {
		t.Fatal("the index knows what is there: ", d.Loss())
	}
	mustClose(t, d)
	removeFile(t, filepath.Join(cfg.Dir, indexName))
	d = mustOpen(t, cfg)
	defer mustClose(t, d)
	if l := d.Loss(); l == nil || !strings.Contains(l.Reason, "damaged from") {
		t.Fatal(l)
	}
}

// A disk that was put back to an earlier time is known by whoever has seen it
// later.
func TestRolledBack(t *testing.T) {
	cfg := testConfig(t, vfs.NewMemFS(1<<30, true))
	mustFormat(t, cfg)
	var seen uint64
	for i := range 3 {
		d := mustOpen(t, cfg)
		if d.Incarnation() != uint64(2*i+1) || d.Loss() != nil {
			t.Fatal(d.Incarnation(), d.Loss())
		}
		mustClose(t, d)
		seen = d.Incarnation()
	}
	cfg.Incarnation = func(cluster.DiskID) uint64 { return seen + 5 }
	d := mustOpen(t, cfg)
	if l := d.Loss(); l == nil || d.Incarnation() != seen+6 {
		t.Fatal(l, d.Incarnation())
	}
	mustClose(t, d)
	cfg.Incarnation = func(cluster.DiskID) uint64 { return seen + 6 }
	d = mustOpen(t, cfg)
	defer mustClose(t, d)
	if d.Loss() == nil {
		t.Fatal("forgotten by a restart")
	}
	if err := d.Restored(d.Loss()); err != nil {
		t.Fatal(err)
	}
}

// A copy that was made of the disk while it was open, and is put in its place after it was
// closed, is of an earlier time.
func TestPutBackToACopyOfItself(t *testing.T) {
	cfg := testConfig(t, nil)
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	add(t, d, disktest.Shard(disktest.Key(1, 1), 5000, 1))
	if err := os.CopyFS(cfg.Dir+".copy", os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	add(t, d, disktest.Shard(disktest.Key(1, 2), 5000, 2))
	mustClose(t, d)
	seen := d.Incarnation()
	cfg.Incarnation = func(cluster.DiskID) uint64 { return seen }
	for _, put := range []struct {
		back bool
		dir  string
	}{{true, cfg.Dir + ".copy"}, {false, cfg.Dir}} {
		cfg.Dir = put.dir
		d := mustOpen(t, cfg)
		if lost := d.Loss() != nil; lost != put.back {
			t.Errorf("%s: a loss: %v", put.dir, d.Loss())
		}
		mustClose(t, d)
	}
}

// An opening that noticed that the disk was put back, and then was cut short, leaves that
// for the next to know.
func TestRolledBackWhenOpeningIsCutShort(t *testing.T) {
	for name, c := range map[string]struct {
		fault vfs.Hook
		opens bool
	}{
		"a segment does not open": {func(op vfs.Op, name string) (bool, error) {
			if op == vfs.OpOpenRead && strings.Contains(name, "seg-") {
				return false, syscall.EIO
			}
			return true, nil
		}, false},
		"the note cannot be written": {failFile(lossName+tempSuffix, syscall.EIO), false},
		"there is no room for it":    {failFile(lossName+tempSuffix, syscall.ENOSPC), true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			add(t, f.Disk, disktest.Shard(disktest.Key(1, 1), 5000, 1))
			mustClose(t, f.Disk)
			cfg := f.cfg
			cfg.Incarnation = func(cluster.DiskID) uint64 { return f.Incarnation() + 3 }
			f.set(c.fault)
			d, err := Open(cfg)
			if c.opens != (err == nil) {
				t.Fatal(err)
			}
			if c.opens {
				if d.Loss() == nil {
					t.Fatal("not noticed")
				}
				mustClose(t, d)
			}
			f.clear()
			d = mustOpen(t, cfg)
			defer mustClose(t, d)
			if d.Loss() == nil {
				t.Fatal("forgotten by an opening that was cut short")
			}
		})
	}
}
