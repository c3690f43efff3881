//go:build !noidentity

package disk

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// recordSeed is what the header sums of a segment start from, so that a record
// of another cluster, disk or segment never checks here.
func recordSeed(o owner, number uint64) uint64 {
	var b [40]byte
	copy(b[0:16], o.cluster[:])
	copy(b[16:32], o.disk[:])
	binary.LittleEndian.PutUint64(b[32:], number)
	return xxh3.Hash(b[:])
}
