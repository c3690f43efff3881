//go:build !trusting

package upkeep

import "bivalve/erasure"

// verifyShard tells whether the bytes of a shard are those that its sums were made
// of (law L7); if not, which block is not.
func verifyShard(b []byte, sums []uint64) (bad int, ok bool) { return erasure.Verify(b, sums) }
