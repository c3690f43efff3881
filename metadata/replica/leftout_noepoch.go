//go:build noepoch && !noreadindex

package replica

// Messages of any epoch are heard, to see that the tests notice. No server is ever
// built with it.
const (
	readBarrier = true
	epochsCount = false
)
