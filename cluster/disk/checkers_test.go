//go:build checkers

package disk

import (
	"strings"
	"testing"

	"bivalve/cluster/disk/vfs"
)

// checkerSeeds is within how many runs the crash suite must see what is missing.
const checkerSeeds = 50

// The checkers are checked: with one sync left out the crash suite goes red.
func TestCheckers(t *testing.T) {
	file := func(suffix string) func(string) bool {
		return func(name string) bool { return strings.HasSuffix(name, suffix) }
	}
	for _, c := range []struct {
		left  string
		ops   []vfs.Op
		names func(string) bool
	}{
		{"every sync of a file", []vfs.Op{vfs.OpSync, vfs.OpSyncData}, file("")},
		{"the sync of a batch", []vfs.Op{vfs.OpSyncData}, file("")},
		{"the sync of a batch of small shards", []vfs.Op{vfs.OpSyncData}, file(".small")},
		{"the sync of a batch of large shards", []vfs.Op{vfs.OpSyncData}, file(".large")},
		{"the sync of small segments after a restart and when sealed", []vfs.Op{vfs.OpSync}, file(".small")},
		{"the sync of large segments after a restart and when sealed", []vfs.Op{vfs.OpSync}, file(".large")},
		{"the sync of the manifest", []vfs.Op{vfs.OpSync}, file(manifestName + tempSuffix)},
		{"every sync of the directory", []vfs.Op{vfs.OpSyncDir}, file("")},
	} {
		t.Run(c.left, func(t *testing.T) {
			lie := func(op vfs.Op, name string) bool {
				for _, o := range c.ops {
					if o == op {
						return c.names(name)
					}
				}
				return false
			}
			seed, err := firstViolation(t.Context(), 0, checkerSeeds, crashOptions{lie: lie})
			if err == nil {
				t.Fatalf("%d seeds are green without it", checkerSeeds)
			}
			t.Logf("seed %d: %v", seed, err)
		})
	}
}
