package disk

import (
	"errors"
	"log/slog"
	"syscall"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// A record of any size can be stood in for by voids of the same length.
func TestVoids(t *testing.T) {
	for _, kind := range []segmentKind{smallSegment, largeSegment} {
		s := shapeOf(kind)
		lengths := []uint32{0, 1, 8, 9, 65528, 65529, 65536, 65537, 131072, 131073, 1 << 20, 4 << 20}
		for _, first := range lengths {
			for _, second := range lengths {
				from := int64(pageBytes)
				to := from + s.size(first) + s.size(second)
				at := from
				for _, v := range voids(s, from, to) {
					if v.off != at || len(v.header.sums) != cluster.Blocks(int(v.header.length)) {
						t.Fatalf("%s %d+%d: %+v at %d", kind, first, second, v, at)
					}
					at += s.size(v.header.length)
				}
				if at != to {
					t.Fatalf("%s %d+%d: filled up to %d of %d", kind, first, second, at, to)
				}
			}
		}
	}
}

// A batch of which the middle was torn out, its header too, is no damage: not on
// the next open, and not on the one after it, when a later batch has been synced.
func TestTornHeaderIsNotDamage(t *testing.T) {
	for _, size := range []int{100, 3000, 65_464, 65_500, LargeBytes, 150_000} {
		mem := vfs.NewMemFS(1<<30, true)
		fail := false
		cfg := testConfig(t, vfs.Inject(mem, func(op vfs.Op, _ string) (bool, error) {
			if fail && op == vfs.OpSyncData {
				return true, syscall.EIO
			}
			return true, nil
		}))
		mustFormat(t, cfg)
		d := mustOpen(t, cfg)
		shard := func(i int) cluster.Shard { return disktest.Shard(disktest.Key(1, i), size, uint64(i)) }
		add(t, d, shard(0))
		p, _, err := d.lookup(shard(0).Key)
		if err != nil {
			t.Fatal(err)
		}
		s := d.segments[p.segment]
		fail = true
		if err := d.Append(t.Context(), []cluster.Shard{shard(1), shard(2)}); !errors.Is(err, cluster.ErrDiskFailed) {
			t.Fatal(err)
		}
		fail = false
		mustClose(t, d)
		flip(t, mem, s.path, p.offset+s.shape.size(p.length)+20)
		for round := range 3 {
			a := &alarms{}
			cfg.Logger = slog.New(a)
			d = mustOpen(t, cfg)
			have(t, d, shard(0))
			have(t, d, shard(2)) // whole, so it may count
			if _, err := d.Stat(shard(1).Key); !errors.Is(err, cluster.ErrNotFound) {
				t.Fatal(err)
			}
			add(t, d, shard(10+round))
			mustClose(t, d)
			if err := a.err(func(string) bool { return false }); err != nil {
				t.Fatalf("%d bytes, open %d: %v", size, round, err)
			}
		}
	}
}
