//go:build trusting

package upkeep

// verifyShard leaves the check out, to see that the tests notice.
func verifyShard([]byte, []uint64) (bad int, ok bool) { return 0, true }
