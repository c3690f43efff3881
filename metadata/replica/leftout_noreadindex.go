//go:build noreadindex

package replica

// Reads without their barrier, to see that the tests notice. No server is ever built
// with it.
const (
	readBarrier = false
	epochsCount = true
)
