package disk

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

func noPace(context.Context, int64) error { return nil }

// scrubAll scrubs placement group 1 in pages of three.
func scrubAll(t *testing.T, d *Disk) (shards, damaged int64) {
	t.Helper()
	var after *cluster.ShardKey
	for {
		page, err := d.Scrub(t.Context(), 1, after, 3, noPace)
		if err != nil {
			t.Fatal(err)
		}
		shards, damaged = shards+page.Shards, damaged+page.Damaged
		if after = page.Last; after == nil {
			return shards, damaged
		}
	}
}

func TestScrubFindsAndMendEnds(t *testing.T) {
	for _, real := range []bool{false, true} {
		var cfg Config
		if real {
			cfg = testConfig(t, nil)
		} else {
			cfg = testConfig(t, vfs.NewMemFS(1<<30, true))
		}
		mustFormat(t, cfg)
		d := mustOpen(t, cfg)
		var shards []cluster.Shard
		for i, size := range []int{1, 100, 4096, 64 << 10, 65 << 10, 200_000, 1 << 20, 7} {
			shards = append(shards, disktest.Shard(disktest.Key(1, i), size, uint64(i)))
		}
		add(t, d, shards...)
		if n, bad := scrubAll(t, d); n != int64(len(shards)) || bad != 0 {
			t.Fatalf("%d shards, %d damaged", n, bad)
		}
		for _, s := range shards {
			p, _, err := d.lookup(s.Key)
			if err != nil {
				t.Fatal(err)
			}
			seg := d.segments[p.segment]
			flip(t, d.fs, seg.path, p.offset+seg.shape.payloadAt(p.length)+int64(len(s.Payload)-1))
		}
		found := d.DamageFound()
		if _, bad := scrubAll(t, d); bad != int64(len(shards)) {
			t.Fatalf("%d damaged of %d", bad, len(shards))
		}
		select {
		case <-found:
		default:
			t.Fatal("nobody was told")
		}
		if u := d.Usage(); u.Damaged != int64(len(shards)) || u.DamagedTotal != u.Damaged || u.MendedTotal != 0 {
			t.Fatalf("%+v", u)
		}
		if got := d.Damaged(3); len(got) != 3 || got[0].Key != shards[0].Key || got[0].Bytes != 1 {
			t.Fatalf("%+v", got)
		}
		for _, s := range shards {
			if err := d.Mend(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			have(t, d, s)
			if err := d.Check(t.Context(), s.Key); err != nil {
				t.Fatal(err)
			}
		}
		if u := d.Usage(); u.Damaged != 0 || u.MendedTotal != int64(len(shards)) || u.Shards != int64(len(shards)) {
			t.Fatalf("%+v", u)
		}
		mustClose(t, d)
		d = mustOpen(t, cfg)
		if _, bad := scrubAll(t, d); bad != 0 {
			t.Fatalf("%d damaged after a restart", bad)
		}
		for _, s := range shards {
			have(t, d, s)
		}
		mustClose(t, d)
	}
}

// A shard that was deleted is not brought back, and no other bytes can take a
// shard's place.
func TestMendRefuses(t *testing.T) {
	d := fresh(t, testConfig(t, vfs.NewMemFS(1<<30, true)))
	s := disktest.Shard(disktest.Key(1, 1), 5000, 1)
	other := disktest.Shard(s.Key, 5000, 2)
	if err := d.Mend(t.Context(), s); !errors.Is(err, cluster.ErrNotFound) {
		t.Fatal(err)
	}
	add(t, d, s)
	if err := d.Mend(t.Context(), other); !errors.Is(err, cluster.ErrInvalid) {
		t.Fatal(err)
	}
	lying := s
	lying.Payload = other.Payload
	if err := d.Mend(t.Context(), lying); !errors.Is(err, cluster.ErrInvalid) {
		t.Fatal(err)
	}
	have(t, d, s)
	if err := d.Delete(t.Context(), []cluster.ShardKey{s.Key}); err != nil {
		t.Fatal(err)
	}
	if err := d.Mend(t.Context(), s); !errors.Is(err, cluster.ErrNotFound) {
		t.Fatal(err)
	}
}

// A sector that cannot be read is damage too; a lack of descriptors is not.
func TestUnreadableIsDamage(t *testing.T) {
	f := newFaulty(t)
	s := disktest.Shard(disktest.Key(1, 1), 5000, 1)
	add(t, f.Disk, s)
	f.set(failOp(vfs.OpOpenDirect, false, syscall.EMFILE))
	if err := f.Disk.Check(t.Context(), s.Key); !errors.Is(err, cluster.ErrOverloaded) {
		t.Fatal(err)
	}
	if f.Disk.Usage().Damaged != 0 {
		t.Fatal("counted as damage")
	}
	f.set(failOp(vfs.OpRead, false, syscall.EIO))
	if _, err := disktest.ReadWhole(t.Context(), f.Disk, s.Key); !errors.Is(err, cluster.ErrDiskFailed) {
		t.Fatal(err)
	}
	if f.Disk.Usage().Damaged != 1 {
		t.Fatal("not counted")
	}
	f.clear()
	if err := f.Disk.Check(t.Context(), s.Key); err != nil {
		t.Fatal(err)
	}
	if f.Disk.Usage().Damaged != 0 {
		t.Fatal("it reads well now")
	}
}

// Compaction goes on with a segment once what was damaged in it is mended.
func TestCompactionAfterMend(t *testing.T) {
	mem := vfs.NewMemFS(1<<30, true)
	cfg := testConfig(t, mem)
	cfg.SegmentBytes = 256 << 10
	d := fresh(t, cfg)
	kept, gone := fill(t, d, 100, 5000)
	p, _, err := d.lookup(kept[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, mem, d.segments[p.segment].path, p.offset+2000)
	for range 3 {
		if err := d.upkeep(t.Context(), true); err != nil && !errors.Is(err, cluster.ErrCorrupt) {
			t.Fatal(err)
		}
	}
	if d.segments[p.segment] == nil || d.Usage().Damaged != 1 {
		t.Fatal("the damage was not seen")
	}
	if err := d.Mend(t.Context(), kept[0]); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := d.upkeep(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	if d.segments[p.segment] != nil {
		t.Fatal("the segment is still there")
	}
	checkKept(t, d, kept, gone)
}
