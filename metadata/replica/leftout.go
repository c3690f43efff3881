//go:build !noreadindex && !noepoch

package replica

// What the tests of the tests leave out; see leftout_*.go.
const (
	readBarrier = true // a read waits for a leader that has confirmed itself
	epochsCount = true // a message of another epoch is not heard
)
