//go:build !nograce

package upkeep

import (
	"time"

	"bivalve/cluster"
)

// ripe tells whether a blob is so old that it gets no record any more.
func ripe(id cluster.BlobID, now time.Time, age time.Duration) bool {
	return now.Sub(time.UnixMilli(id.UnixMilli())) >= age
}
