package disk

import (
	"errors"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// A disk that is full takes deletes, and new shards after the next round of
// upkeep: small ones through compaction of the very segment in use, large ones
// through holes.
func TestFullDiskRecovers(t *testing.T) {
	for name, size := range map[string]int{"small": 20_000, "large": 200_000} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, vfs.NewMemFS(24<<20, true))
			cfg.ReserveBytes, cfg.SegmentBytes = 8<<20, 64<<20
			d := fresh(t, cfg)
			var held []cluster.Shard
			for n := 0; ; n++ {
				s := disktest.Shard(disktest.Key(1, n), size, uint64(n))
				err := d.Append(t.Context(), []cluster.Shard{s})
				if errors.Is(err, cluster.ErrDiskFull) {
					break
				}
				if err != nil || n > 5000 {
					t.Fatal(n, err)
				}
				held = append(held, s)
			}
			state(t, d, StateFull)
			kept, gone := held[:len(held)/4], held[len(held)/4:]
			for _, s := range gone {
				if err := d.Delete(t.Context(), []cluster.ShardKey{s.Key}); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.upkeep(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			for i := range len(gone) / 2 {
				s := disktest.Shard(disktest.Key(2, i), size, uint64(i))
				if err := d.Append(t.Context(), []cluster.Shard{s}); err != nil {
					t.Fatalf("shard %d of %d: %v", i, len(gone)/2, err)
				}
			}
			state(t, d, StateOK)
			for _, s := range kept {
				have(t, d, s)
			}
		})
	}
}
