package erasure_test

import (
	"fmt"
	"testing"

	"bivalve/erasure"

	"github.com/klauspost/reedsolomon"
)

var benchGeometries = []erasure.Geometry{{1, 0}, {2, 1}, {4, 1}, {8, 1}, {8, 2}}

// Bytes per second count the chunk. `bare` is the library as it comes.
func BenchmarkEncode(b *testing.B) {
	for _, g := range benchGeometries {
		for _, chunk := range []int{64 << 10, erasure.ChunkBytes} {
			shards := cut(g, randomBytes(1, chunk))
			bare, err := reedsolomon.New(g.K, g.Parity(), reedsolomon.WithMaxGoroutines(1))
			if err != nil {
				b.Fatal(err)
			}
			ours := codec(b, g)
			run := func(name string, encode func([][]byte) error) {
				b.Run(fmt.Sprintf("k%d_m%d/%dK/%s", g.K, g.M, chunk>>10, name), func(b *testing.B) {
					b.SetBytes(int64(chunk))
					for b.Loop() {
						if err := encode(shards); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			run("bare", bare.Encode)
			run("ours", ours.Encode)
		}
	}
}

// The second zone alone serves a read: no systematic shard is there.
func BenchmarkDecodeSecondZone(b *testing.B) {
	for _, g := range benchGeometries {
		const chunk = erasure.ChunkBytes
		shards := encoded(b, codec(b, g), randomBytes(1, chunk))
		bare, err := reedsolomon.New(g.K, g.Parity(), reedsolomon.WithMaxGoroutines(1))
		if err != nil {
			b.Fatal(err)
		}
		ours := codec(b, g)
		run := func(name string, decode func([][]byte) error) {
			b.Run(fmt.Sprintf("k%d_m%d/%s", g.K, g.M, name), func(b *testing.B) {
				b.SetBytes(chunk)
				left := keep(shards, g.Zone(1))
				room := cut(g, make([]byte, chunk))
				for b.Loop() {
					for i := range g.PerZone() {
						left[i] = room[i][:0]
					}
					if err := decode(left); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("bare", bare.ReconstructData)
		run("ours", ours.Reconstruct)
	}
}

func BenchmarkSums(b *testing.B) {
	p := randomBytes(1, 1<<20)
	var sums []uint64
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		sums = erasure.Sums(sums[:0], p)
	}
}
