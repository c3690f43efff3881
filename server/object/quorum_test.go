package object

import (
	"errors"
	"slices"
	"testing"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

func TestDurable(t *testing.T) {
	none, first, second, both := [2]bool{}, [2]bool{true, false}, [2]bool{false, true}, [2]bool{true, true}
	for _, c := range []struct {
		geo     erasure.Geometry
		written halves
		down    [2]bool
		want    bool
	}{
		{erasure.Geometry{K: 1}, halves{1, 1}, none, true},
		{erasure.Geometry{K: 1}, halves{1, 0}, none, false},
		{erasure.Geometry{K: 1}, halves{0, 1}, none, false},
		{erasure.Geometry{K: 1}, halves{1, 0}, second, true},
		{erasure.Geometry{K: 1}, halves{1, 0}, first, false},
		{erasure.Geometry{K: 1}, halves{0, 0}, both, false},
		{erasure.Geometry{K: 2}, halves{2, 2}, none, true},
		{erasure.Geometry{K: 2}, halves{2, 1}, none, false},
		{erasure.Geometry{K: 2, M: 1}, halves{3, 3}, none, true},
		{erasure.Geometry{K: 2, M: 1}, halves{2, 2}, none, true},
		{erasure.Geometry{K: 2, M: 1}, halves{3, 1}, none, false},
		{erasure.Geometry{K: 2, M: 1}, halves{1, 3}, none, false},
		{erasure.Geometry{K: 2, M: 1}, halves{3, 0}, second, true},
		{erasure.Geometry{K: 2, M: 1}, halves{2, 0}, second, false}, // k, but not k+m in all
		{erasure.Geometry{K: 2, M: 1}, halves{2, 1}, second, true},
		{erasure.Geometry{K: 2, M: 1}, halves{3, 0}, none, false},
		{erasure.Geometry{K: 2, M: 1}, halves{3, 1}, first, false}, // the zone that is up lacks one
		{erasure.Geometry{K: 4, M: 1}, halves{4, 4}, none, true},
		{erasure.Geometry{K: 4, M: 1}, halves{5, 3}, none, false},
		{erasure.Geometry{K: 4, M: 1}, halves{0, 5}, first, true},
		{erasure.Geometry{K: 4, M: 1}, halves{1, 4}, first, true},
		{erasure.Geometry{K: 4, M: 1}, halves{0, 4}, first, false},
	} {
		if got := durable(standard(c.geo), c.written, c.down); got != c.want {
			t.Errorf("durable(%+v, %v, %v) = %v", c.geo, c.written, c.down, got)
		}
	}
}

// TestDurableMeansSafe: whatever the rule calls durable while both zones are up
// can lose either zone, and then be rebuilt.
func TestDurableMeansSafe(t *testing.T) {
	for k := 1; k <= 4; k++ {
		for m := range 3 {
			g := erasure.Geometry{K: k, M: m}
			for a := range g.PerZone() + 1 {
				for b := range g.PerZone() + 1 {
					risk := atRisk(g, halves{a, b})
					if durable(standard(g), halves{a, b}, [2]bool{}) && (risk[0] || risk[1]) {
						t.Errorf("%+v: %d and %d shards are called durable and are at risk", g, a, b)
					}
					for z, down := range [2][2]bool{{true, false}, {false, true}} {
						if durable(standard(g), halves{a, b}, down) && a+b < g.K {
							t.Errorf("%+v: %d and %d shards do not decode with zone %d down", g, a, b, z)
						}
					}
				}
			}
		}
	}
}

// atRisk is what a blob of one chunk says of its zones, written so.
func atRisk(g erasure.Geometry, written halves) [2]bool {
	b := metadata.Blob{Bytes: 1, Profile: metadata.Profile{K: uint8(g.K), M: uint8(g.M)}}
	has := (1<<written[0] - 1) | (1<<written[1]-1)<<g.PerZone()
	if missing := uint64(g.All()) &^ uint64(has); missing != 0 {
		b.Notes = []metadata.ChunkNote{{Missing: missing, Zones: []string{"a", "b"}}}
	}
	b.Assess()
	return [2]bool{slices.Contains(b.AtRisk, "a"), slices.Contains(b.AtRisk, "b")}
}

func TestAtRisk(t *testing.T) {
	g := erasure.Geometry{K: 2, M: 1}
	for written, want := range map[halves][2]bool{
		{3, 3}: {false, false}, {2, 3}: {false, false}, {3, 1}: {true, false}, {0, 3}: {false, true}, {3, 0}: {true, false},
	} {
		if got := atRisk(g, written); got != want {
			t.Errorf("atRisk(%v) = %v, want %v", written, got, want)
		}
	}
}

// The chunks that are counted are those that are cut.
func TestChunkBytes(t *testing.T) {
	b := metadata.Blob{Bytes: 2*erasure.ChunkBytes + 5, Profile: metadata.Profile{K: 4, M: 1}}
	for c := range chunks(b.Bytes) {
		if want := (erasure.Geometry{K: 4, M: 1}).ShardBytes(chunkBytes(b.Bytes, c)); b.ShardBytes(c) != int64(want) {
			t.Errorf("chunk %d: shards of %d bytes, want %d", c, b.ShardBytes(c), want)
		}
	}
}

func TestQuorumErrorKeepsItsCauses(t *testing.T) {
	e := &QuorumError{Op: "write", Need: 3, Zones: [2]cluster.Zone{"a", "b"}}
	for range 10 {
		e.cause(cluster.ErrDiskFull)
	}
	e.cause(nil)
	var err error = e
	if !errors.Is(err, ErrNoQuorum) || !errors.Is(err, cluster.ErrDiskFull) || errors.Is(err, cluster.ErrCorrupt) || len(e.Causes) != 3 {
		t.Errorf("%v", err)
	}
}
