package erasure_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync"
	"testing"

	"bivalve/erasure"

	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

func codec(t testing.TB, g erasure.Geometry) *erasure.Codec {
	t.Helper()
	c, err := erasure.NewCodec(g)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encoded(t testing.TB, c *erasure.Codec, chunk []byte) [][]byte {
	t.Helper()
	shards := cut(c.Geometry(), chunk)
	if err := c.Encode(shards); err != nil {
		t.Fatal(err)
	}
	return shards
}

// keep copies the slice of shards, with those outside of have empty.
func keep(shards [][]byte, have erasure.ShardSet) [][]byte {
	left := make([][]byte, len(shards))
	for i := range shards {
		if have.Has(erasure.ShardIndex(i)) {
			left[i] = shards[i]
		}
	}
	return left
}

func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	_, _ = r.Read(b) // never fails, by its contract
	return b
}

// checkDecode rebuilds all shards from those in have.
func checkDecode(t testing.TB, c *erasure.Codec, want [][]byte, have erasure.ShardSet) {
	t.Helper()
	left := keep(want, have)
	if err := c.Reconstruct(left); err != nil {
		t.Fatalf("%v from %b: %v", c.Geometry(), have, err)
	}
	for i := range want {
		if i >= c.Geometry().K && !have.Has(erasure.ShardIndex(i)) {
			if len(left[i]) != 0 {
				t.Fatalf("%v from %b: parity %d was rebuilt for a reader", c.Geometry(), have, i)
			}
		} else if !bytes.Equal(left[i], want[i]) {
			t.Fatalf("%v from %b: shard %d differs", c.Geometry(), have, i)
		}
	}
	left = keep(want, have)
	if err := c.ReconstructShards(left, c.Geometry().All()); err != nil {
		t.Fatalf("%v from %b: %v", c.Geometry(), have, err)
	}
	for i := range want {
		if !bytes.Equal(left[i], want[i]) {
			t.Fatalf("%v from %b: healed shard %d differs", c.Geometry(), have, i)
		}
	}
}

// Every way to lose all but K shards, for every geometry of up to 12 shards.
func TestEveryLoss(t *testing.T) {
	for _, g := range geometries() {
		if g.Shards() > 12 {
			continue
		}
		c := codec(t, g)
		want := encoded(t, c, randomBytes(1, 67*g.K-1))
		for set := range uint64(1) << g.Shards() {
			if bits.OnesCount64(set) == g.K {
				checkDecode(t, c, want, erasure.ShardSet(set))
			}
		}
	}
}

// Any K or more of the shards decode to the same bytes, in every geometry.
func TestAnyLoss(t *testing.T) {
	var codecs erasure.Codecs
	rapid.Check(t, func(t *rapid.T) {
		g := drawGeometry(t)
		c, err := codecs.Get(g)
		if err != nil {
			t.Fatal(err)
		}
		chunk := randomBytes(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 3000).Draw(t, "chunk"))
		want := cut(g, chunk)
		if err := c.Encode(want); err != nil {
			t.Fatal(err)
		}
		var order []int
		for i := range g.Shards() {
			order = append(order, i)
		}
		order = rapid.Permutation(order).Draw(t, "order")
		have := erasure.ShardSet(0)
		for _, i := range order[:rapid.IntRange(g.K, g.Shards()).Draw(t, "have")] {
			have = have.With(erasure.ShardIndex(i))
		}
		wanted := erasure.ShardSet(rapid.Uint64().Draw(t, "wanted"))
		left := keep(want, have)
		if err := c.ReconstructShards(left, wanted); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			there := have.Has(erasure.ShardIndex(i)) || wanted.Has(erasure.ShardIndex(i))
			if there && !bytes.Equal(left[i], want[i]) || !there && len(left[i]) != 0 {
				t.Fatalf("%v from %b for %b: shard %d", g, have, wanted, i)
			}
		}
	})
}

// Either zone alone decodes, and still after any M more losses.
func TestEitherZoneAlone(t *testing.T) {
	for _, g := range geometries() {
		c := codec(t, g)
		want := encoded(t, c, randomBytes(2, 41*g.K))
		for half := range 2 {
			zone := g.Zone(half)
			checkDecode(t, c, want, zone)
			for lost := 0; lost < g.PerZone(); lost += 1 + g.PerZone()/6 { // M neighbours
				have := zone
				for i := range g.M {
					have = have.Without(erasure.ShardIndex(half*g.PerZone() + (lost+i)%g.PerZone()))
				}
				checkDecode(t, c, want, have)
			}
		}
	}
}

// Parity is stored for years: its bytes must never change. The rows are those of
// the library's default matrix, also where parity is made in groups.
func TestMatrixIsPinned(t *testing.T) {
	for _, g := range geometries() {
		want := encoded(t, codec(t, g), randomBytes(3, 100*g.K))
		enc, err := reedsolomon.New(g.K, g.Parity())
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := enc.Verify(want); err != nil || !ok {
			t.Fatalf("%v: verify %v, %v", g, ok, err)
		}
	}
	for g, want := range map[erasure.Geometry]uint64{
		{1, 0}: pinned1_0, {2, 0}: pinned2_0, {2, 1}: pinned2_1, {3, 1}: pinned3_1,
		{4, 1}: pinned4_1, {8, 1}: pinned8_1, {8, 2}: pinned8_2,
	} {
		h := xxh3.New()
		chunk := make([]byte, 100*g.K)
		for i := range chunk {
			chunk[i] = byte(i * i)
		}
		for _, s := range encoded(t, codec(t, g), chunk) {
			_, _ = h.Write(s) // a hash never fails
		}
		if got := h.Sum64(); got != want {
			t.Errorf("%v: shards hash to %#x, were %#x", g, got, want)
		}
	}
}

func TestProvidedMemory(t *testing.T) {
	for _, g := range []erasure.Geometry{{1, 0}, {4, 1}} {
		c := codec(t, g)
		want := encoded(t, c, randomBytes(4, 512))
		left := keep(want, g.Zone(1))
		room := make([]byte, 0, len(want[0])+10)
		left[0] = room
		if err := c.Reconstruct(left); err != nil {
			t.Fatal(err)
		}
		if &left[0][0] != &room[:1][0] || !bytes.Equal(left[0], want[0]) {
			t.Errorf("%v: not decoded into the memory given", g)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, g := range []erasure.Geometry{{1, 0}, {2, 0}, {4, 1}, {8, 2}} {
		c := codec(t, g)
		good := encoded(t, c, randomBytes(5, 999))
		uneven := keep(good, g.All())
		uneven[1] = uneven[1][1:]
		for name, bad := range map[string][][]byte{
			"none": nil, "few": good[1:], "uneven": uneven, "missing": keep(good, g.Zone(0)), "empty": make([][]byte, g.Shards()),
		} {
			if err := c.Encode(bad); !errors.Is(err, erasure.ErrShardSize) {
				t.Errorf("%v: encode %s: %v", g, name, err)
			}
		}
		for name, bad := range map[string][][]byte{"none": nil, "few": good[1:], "uneven": uneven} {
			if err := c.Reconstruct(bad); !errors.Is(err, erasure.ErrShardSize) {
				t.Errorf("%v: reconstruct %s: %v", g, name, err)
			}
		}
		few := keep(good, g.All()>>(g.Survives()+1))
		few[0] = nil
		if err := c.Reconstruct(few); !errors.Is(err, erasure.ErrTooFewShards) {
			t.Errorf("%v: too few: %v", g, err)
		}
	}
}

// The library makes one small table per call; nothing is added to it.
func TestEncodeAllocatesNoMoreThanTheLibrary(t *testing.T) {
	g := erasure.Geometry{K: 4, M: 1}
	bare, err := reedsolomon.New(g.K, g.Parity(), reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		t.Fatal(err)
	}
	shards := cut(g, randomBytes(6, 1<<16))
	count := func(encode func([][]byte) error) float64 {
		return testing.AllocsPerRun(100, func() {
			if err := encode(shards); err != nil {
				t.Fatal(err)
			}
		})
	}
	if ours, bare := count(codec(t, g).Encode), count(bare.Encode); ours > bare {
		t.Errorf("%v allocations, the library alone %v", ours, bare)
	}
}

func TestConcurrentUse(t *testing.T) {
	var codecs erasure.Codecs
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				g := geometries()[(i+j*13)%len(geometries())]
				c, err := codecs.Get(g)
				if err != nil {
					t.Error(err)
					return
				}
				want := cut(g, randomBytes(uint64(j), 500))
				if err := c.Encode(want); err != nil {
					t.Error(err)
					return
				}
				left := keep(want, g.Zone(1))
				if err := c.Reconstruct(left); err != nil || !bytes.Equal(left[0], want[0]) {
					t.Error(fmt.Errorf("%v: %w", g, err))
				}
			}
		})
	}
	wg.Wait()
	if _, err := codecs.Get(erasure.Geometry{}); !errors.Is(err, erasure.ErrGeometry) {
		t.Error(err)
	}
}
