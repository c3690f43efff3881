package erasure_test

import (
	"testing"

	"bivalve/erasure"

	"github.com/zeebo/xxh3"
)

func TestSums(t *testing.T) {
	const b = erasure.BlockBytes
	for _, n := range []int{0, 1, b - 1, b, b + 1, 3*b - 5, 3 * b} {
		p := randomBytes(uint64(n), n)
		sums := erasure.Sums(nil, p)
		if len(sums) != (n+b-1)/b {
			t.Fatalf("%d bytes: %d sums", n, len(sums))
		}
		for i, s := range sums {
			if s != xxh3.Hash(p[i*b:min(n, (i+1)*b)]) {
				t.Fatalf("%d bytes: sum %d", n, i)
			}
		}
		if bad, ok := erasure.Verify(p, sums); !ok || bad != len(sums) {
			t.Fatalf("%d bytes: %d %v", n, bad, ok)
		}
		if bad, ok := erasure.Verify(p, append(sums[:len(sums):len(sums)], 1)); ok || bad != len(sums) {
			t.Fatalf("%d bytes, a sum too many: %d %v", n, bad, ok)
		}
		if n == 0 {
			continue
		}
		if bad, ok := erasure.Verify(p, sums[:len(sums)-1]); ok || bad != len(sums)-1 {
			t.Fatalf("%d bytes, a sum too few: %d %v", n, bad, ok)
		}
		for _, at := range []int{0, n / 2, n - 1} {
			p[at] ^= 0x10
			if bad, ok := erasure.Verify(p, sums); ok || bad != at/b {
				t.Fatalf("%d bytes, flip at %d: %d %v", n, at, bad, ok)
			}
			p[at] ^= 0x10
		}
	}
}
