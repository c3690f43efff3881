package erasure

import "github.com/zeebo/xxh3"

// BlockBytes is the unit under one checksum. The last block may be shorter.
const BlockBytes = 64 << 10

// Sums appends the XXH3-64 of each block of p to dst.
func Sums(dst []uint64, p []byte) []uint64 {
	for len(p) > BlockBytes {
		dst = append(dst, xxh3.Hash(p[:BlockBytes]))
		p = p[BlockBytes:]
	}
	if len(p) > 0 {
		dst = append(dst, xxh3.Hash(p))
	}
	return dst
}

// Verify tells whether every block of p has its sum. If not, badBlock is the
// first that differs, or the first without a partner when the counts differ.
func Verify(p []byte, sums []uint64) (badBlock int, ok bool) {
	for i, want := range sums {
		if len(p) == 0 {
			return i, false
		}
		n := min(len(p), BlockBytes)
		if xxh3.Hash(p[:n]) != want {
			return i, false
		}
		p = p[n:]
	}
	return len(sums), len(p) == 0
}
