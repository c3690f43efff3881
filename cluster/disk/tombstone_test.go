package disk

import (
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// Tombstones go once nothing is left that they could kill, also those of shards
// that were compacted or mended before they were deleted: a disk through which
// shards come and go does not fill with what is gone.
func TestTombstonesGo(t *testing.T) {
	cfg := testConfig(t, vfs.NewMemFS(1<<30, true))
	cfg.SegmentBytes = 256 << 10
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	defer func() { mustClose(t, d) }()
	rounds := func(n int) {
		for range n {
			if err := d.upkeep(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept, gone := fill(t, d, 200, 5000) // and half of it deleted, so that segments are compacted
	rounds(5)
	if err := d.Mend(t.Context(), kept[0]); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	d = mustOpen(t, cfg)
	for _, s := range kept {
		if err := d.Delete(t.Context(), []cluster.ShardKey{s.Key}); err != nil {
			t.Fatal(err)
		}
	}
	// What follows pushes the tombstones' own segment over its end, until it is
	// worth compacting itself.
	for i := range 300 {
		s := disktest.Shard(disktest.Key(3, i), 5000, uint64(i))
		add(t, d, s)
		if err := d.Delete(t.Context(), []cluster.ShardKey{s.Key}); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			rounds(2)
		}
	}
	rounds(10)
	d.mu.RLock()
	var tombs int64
	for _, s := range d.segments {
		tombs += s.tombs
	}
	d.mu.RUnlock()
	all := int64(len(kept)+len(gone)+300) * shapeOf(smallSegment).size(0)
	t.Logf("%d of %d bytes of tombstones are left", tombs, all)
	if tombs > 40*shapeOf(smallSegment).size(0) { // those of the last segment

		t.Error("too many")
	}
	mustClose(t, d)
	d = mustOpen(t, cfg)
	if n := d.Usage().Shards; n != 0 {
		t.Errorf("%d shards", n)
	}
}

// A segment of nothing but tombstones goes with the segments whose shards they
// killed.
func TestSegmentOfTombstones(t *testing.T) {
	cfg := testConfig(t, vfs.NewMemFS(1<<30, true))
	cfg.SegmentBytes = 256 << 10
	d := fresh(t, cfg)
	var keys []cluster.ShardKey
	for i := range 5000 {
		s := disktest.Shard(disktest.Key(1, i), 100, uint64(i))
		add(t, d, s)
		keys = append(keys, s.Key)
	}
	for i := 0; i < len(keys); i += 500 {
		if err := d.Delete(t.Context(), keys[i:i+500]); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		if err := d.upkeep(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.segments); n > 1 {
		t.Errorf("%d segments are left of an empty disk, want the one in use", n)
	}
}
