//go:build nograce

package upkeep

import (
	"time"

	"bivalve/cluster"
)

// ripe leaves the age out, to see that the tests notice.
func ripe(cluster.BlobID, time.Time, time.Duration) bool { return true }
