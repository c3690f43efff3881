package disk

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// After a clean close the last batch is known to be whole: what does not check in
// it is damage, reported and kept, and no torn tail to be cut off.
func TestDamageInTheLastBatch(t *testing.T) {
	for _, size := range []int{100, 100_000} {
		for _, at := range []int64{0, 20, -1} { // of the record; -1: of the payload
			mem := vfs.NewMemFS(1<<30, true)
			cfg := testConfig(t, mem)
			mustFormat(t, cfg)
			d := mustOpen(t, cfg)
			first, last := disktest.Shard(disktest.Key(1, 1), size, 1), disktest.Shard(disktest.Key(1, 2), size, 2)
			add(t, d, first)
			add(t, d, last)
			p, _, err := d.lookup(last.Key)
			if err != nil {
				t.Fatal(err)
			}
			s := d.segments[p.segment]
			mustClose(t, d)
			mustClose(t, mustOpen(t, cfg)) // the mark stays though nothing is written
			broken := p.offset + at
			if at < 0 {
				broken = p.offset + s.shape.payloadAt(p.length) + 50
			}
			flip(t, mem, s.path, broken)
			for range 2 {
				a := &alarms{}
				cfg.Logger = slog.New(a)
				d = mustOpen(t, cfg)
				have(t, d, first)
				_, err := disktest.ReadWhole(t.Context(), d, last.Key)
				reported := a.err(func(string) bool { return false }) != nil
				if at < 0 && !errors.Is(err, cluster.ErrCorrupt) || at >= 0 && !(reported && errors.Is(err, cluster.ErrNotFound)) {
					t.Errorf("%d bytes, broken at %d: %v, reported %v", size, at, err, reported)
				}
				add(t, d, disktest.Shard(disktest.Key(2, 1), size, 3)) // elsewhere
				mustClose(t, d)
			}
			flip(t, mem, s.path, broken)
			d = mustOpen(t, cfg)
			have(t, d, first)
			have(t, d, last)
			mustClose(t, d)
		}
	}
}

// Zeros in place of the last records of a segment are damage too, whether it was
// sealed or closed, with no index to know of them.
func TestZeroedEnd(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		for _, size := range []int{15_000, 100_000} {
			mem := vfs.NewMemFS(1<<30, true)
			cfg := testConfig(t, mem)
			cfg.SegmentBytes = int64(size) * 5
			mustFormat(t, cfg)
			d := mustOpen(t, cfg)
			n := 3
			if sealed {
				n = 7
			}
			for i := range n {
				add(t, d, disktest.Shard(disktest.Key(1, i), size, 1))
			}
			s := d.segments[1]
			if s.sealed != sealed {
				t.Fatal("sealed", s.sealed)
			}
			p, _, _ := d.lookup(disktest.Key(1, 2))
			mustClose(t, d)
			f, err := mem.OpenWrite(s.path, false)
			if err != nil {
				t.Fatal(err)
			}
			was, _ := f.Size()
			if _, err := f.WriteVec([][]byte{bytes.Repeat([]byte{0}, int(was-p.offset))}, p.offset); err != nil {
				t.Fatal(err)
			}
			a := &alarms{}
			cfg.Logger = slog.New(a)
			d = mustOpen(t, cfg)
			have(t, d, disktest.Shard(disktest.Key(1, 1), size, 1))
			if a.err(func(string) bool { return false }) == nil {
				t.Errorf("sealed %v, %d bytes: nothing was reported", sealed, size)
			}
			if now, _ := f.Size(); now != was {
				t.Errorf("sealed %v, %d bytes: cut from %d to %d", sealed, size, was, now)
			}
			mustClose(t, d)
		}
	}
}
