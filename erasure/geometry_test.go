package erasure_test

import (
	"errors"
	"testing"

	"bivalve/erasure"

	"pgregory.net/rapid"
)

func TestDefaultGeometry(t *testing.T) {
	for domains, want := range map[int]erasure.Geometry{
		0: {1, 0}, 1: {1, 0}, 2: {2, 0}, 3: {2, 1}, 4: {3, 1}, 5: {4, 1}, 8: {4, 1}, 9: {8, 1}, 100: {8, 1},
	} {
		g := erasure.DefaultGeometry(domains)
		if g != want {
			t.Errorf("%d domains: got %v, want %v", domains, g, want)
		}
		if err := g.Validate(); err != nil {
			t.Errorf("%d domains: %v", domains, err)
		}
		if domains > 0 && g.PerZone() > domains {
			t.Errorf("%d domains: %d shards per zone", domains, g.PerZone())
		}
	}
}

func TestValidate(t *testing.T) {
	for _, g := range []erasure.Geometry{{0, 0}, {-1, 2}, {1, -1}, {33, 0}, {32, 1}, {1, 32}, {1, 1 << 62}, {1 << 62, 1 << 62}} {
		if err := g.Validate(); !errors.Is(err, erasure.ErrGeometry) {
			t.Errorf("%v: %v", g, err)
		}
		if _, err := erasure.NewCodec(g); !errors.Is(err, erasure.ErrGeometry) {
			t.Errorf("codec of %v: %v", g, err)
		}
	}
	for _, g := range geometries() {
		if err := g.Validate(); err != nil {
			t.Errorf("%v: %v", g, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	g := erasure.Geometry{K: 4, M: 1}
	if g.Shards() != 10 || g.PerZone() != 5 || g.Parity() != 6 || g.Survives() != 6 || g.SurvivesBesideZone() != 1 {
		t.Errorf("%v: %d %d %d %d", g, g.Shards(), g.PerZone(), g.Parity(), g.Survives())
	}
	if g.Zone(0) != 0b11111 || g.Zone(1) != 0b1111100000 || g.All() != 0x3ff {
		t.Errorf("sets %b %b %b", g.Zone(0), g.Zone(1), g.All())
	}
	if all := (erasure.Geometry{K: 32}).All(); all.Len() != 64 {
		t.Errorf("64 shards: %b", all)
	}
	for _, c := range []struct{ len, want int }{{0, 0}, {1, 1}, {4, 1}, {5, 2}, {4 << 20, 1 << 20}} {
		if got := g.ShardBytes(c.len); got != c.want {
			t.Errorf("ShardBytes(%d) = %d, want %d", c.len, got, c.want)
		}
	}
	s := erasure.SetOf(1, 3)
	if !s.Has(3) || s.Has(2) || s.With(2).Len() != 3 || s.Without(1) != erasure.SetOf(3) || g.Decodable(s) {
		t.Errorf("set %b", s)
	}
}

// Spans cover exactly the bytes asked for, in order, inside systematic shards.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawGeometry(t)
		chunk := make([]byte, rapid.IntRange(1, 5000).Draw(t, "chunk"))
		for i := range chunk {
			chunk[i] = byte(i * 7)
		}
		off := rapid.IntRange(-1, len(chunk)+1).Draw(t, "off")
		n := rapid.IntRange(-1, len(chunk)+10).Draw(t, "n")
		shards := cut(g, chunk)
		var got []byte
		for s := range g.Spans(len(chunk), off, n) {
			if int(s.Shard) >= g.K || s.Len <= 0 {
				t.Fatalf("span %+v", s)
			}
			got = append(got, shards[s.Shard][s.Offset:s.Offset+s.Len]...)
		}
		var want []byte
		if off >= 0 && n > 0 && off < len(chunk) {
			want = chunk[off:min(off+n, len(chunk))]
		}
		if string(got) != string(want) {
			t.Fatalf("got %d bytes, want %d", len(got), len(want))
		}
		for range g.Spans(len(chunk), 0, len(chunk)) {
			break // a stopped iteration must not go on
		}
	})
}

// geometries are all that are valid.
func geometries() []erasure.Geometry {
	var all []erasure.Geometry
	for k := 1; k <= erasure.MaxK; k++ {
		for m := 0; 2*(k+m) <= erasure.MaxShards; m++ {
			all = append(all, erasure.Geometry{K: k, M: m})
		}
	}
	return all
}

func drawGeometry(t *rapid.T) erasure.Geometry {
	return rapid.SampledFrom(geometries()).Draw(t, "geometry")
}

// cut makes the shards of a chunk, parity still zero.
func cut(g erasure.Geometry, chunk []byte) [][]byte {
	size := g.ShardBytes(len(chunk))
	shards := make([][]byte, g.Shards())
	for i := range shards {
		shards[i] = make([]byte, size)
		if i < g.K && i*size < len(chunk) {
			copy(shards[i], chunk[i*size:])
		}
	}
	return shards
}
