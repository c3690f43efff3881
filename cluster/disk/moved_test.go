package disk

import (
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
)

// slowTable lets something happen between the reading of a row and its use.
type slowTable struct {
	memTable
	meanwhile func()
}

func (s *slowTable) pause() {
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f()
	}
}

func (s *slowTable) get(k cluster.ShardKey) (place, bool, error) {
	p, ok, err := s.memTable.get(k)
	s.pause()
	return p, ok, err
}

func (s *slowTable) scan(pg cluster.PG, after *cluster.ShardKey, fn func(cluster.ShardKey, place) bool) error {
	err := s.memTable.scan(pg, after, fn)
	s.pause()
	return err
}

// A shard that is compacted while it is looked up is not missing for a moment.
// Seed 4711 of TestCrash met it.
func TestLookupDuringCompaction(t *testing.T) {
	for name, look := range map[string]func(*testing.T, *Disk, cluster.Shard, int){
		"read": func(t *testing.T, d *Disk, s cluster.Shard, _ int) { have(t, d, s) },
		"stat": func(t *testing.T, d *Disk, s cluster.Shard, _ int) {
			if _, err := d.Stat(s.Key); err != nil {
				t.Fatal(err)
			}
		},
		"list": func(t *testing.T, d *Disk, s cluster.Shard, n int) {
			if rows, err := d.List(t.Context(), s.Key.PG, nil, 100); err != nil || len(rows) != n {
				t.Fatalf("%d rows of %d, %v", len(rows), n, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := &slowTable{}
			cfg := testConfig(t, vfs.NewMemFS(1<<30, true))
			cfg.SegmentBytes, cfg.table = 256<<10, table
			d := fresh(t, cfg)
			kept, _ := fill(t, d, 100, 5000)
			if err := d.checkpoint(true); err != nil {
				t.Fatal(err)
			}
			was, _, _ := d.lookup(kept[0].Key)
			table.meanwhile = func() {
				if err := d.upkeep(t.Context(), true); err != nil {
					t.Error(err)
				}
				if d.segments[was.segment] != nil {
					t.Error("the segment was not compacted")
				}
			}
			look(t, d, kept[0], len(kept))
		})
	}
}
