package erasure_test

import (
	"bytes"
	"errors"
	"testing"

	"bivalve/erasure"

	"pgregory.net/rapid"
)

// The two halves encoded each on its own are the shards that Encode makes at once.
func TestEncodeZone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := erasure.Geometry{K: rapid.IntRange(1, 12).Draw(t, "k"), M: rapid.IntRange(0, 12).Draw(t, "m")}
		c, err := erasure.NewCodec(g)
		if err != nil {
			t.Fatal(err)
		}
		chunk := randomBytes(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 2000).Draw(t, "chunk"))
		want := cut(g, chunk)
		if err := c.Encode(want); err != nil {
			t.Fatal(err)
		}
		for half := range 2 {
			got := cut(g, chunk)
			for i := range got {
				if i >= g.K && !g.Zone(half).Has(erasure.ShardIndex(i)) {
					got[i] = nil
				}
			}
			if err := c.EncodeZone(half, got); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != nil && !bytes.Equal(got[i], want[i]) {
					t.Fatalf("%v: half %d, shard %d differs", g, half, i)
				}
			}
		}
	})
}

func TestEncodeZoneMisuse(t *testing.T) {
	c := codec(t, erasure.Geometry{K: 2, M: 1})
	good := func() [][]byte { return cut(c.Geometry(), []byte("0123456789")) }
	lacks := good()
	lacks[2] = nil
	for name, try := range map[string]error{
		"no such half":     c.EncodeZone(2, good()),
		"negative":         c.EncodeZone(-1, good()),
		"too few slices":   c.EncodeZone(0, good()[:5]),
		"no room in it":    c.EncodeZone(0, lacks),
		"nothing to begin": c.EncodeZone(1, make([][]byte, 6)),
	} {
		if !errors.Is(try, erasure.ErrShardSize) {
			t.Errorf("%s: %v", name, try)
		}
	}
	if err := c.EncodeZone(1, lacks); err != nil {
		t.Errorf("the other half's parity is not needed: %v", err)
	}
}
