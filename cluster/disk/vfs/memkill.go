package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Kill ends the process and not the machine: open files and locks are dead, and
// what was written is still read, synced or not. A later Crash may forget it.
func (m *MemFS) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life++
}

// FailSync does to a file what a failed sync does on Linux: of what was not
// synced a part reaches the disk, and all of it counts as clean. It is still
// read, but no later sync writes it unless it is written again.
func (m *MemFS) FailSync(name string, rng *rand.Rand, keep float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[name]
	if n == nil {
		return
	}
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) { // in order, so that a seed replays
		from := s * sector
		if from >= int64(len(n.data)) {
			continue // it was cut off, which is not the data's matter
		}
		delete(n.dirty, s)
		if to := min(from+sector, int64(len(n.synced))); from < to && rng.Float64() < keep {
			copy(n.synced[from:to], n.data[from:])
		}
	}
}
