package server

import (
	"log/slog"
	"path/filepath"
	"testing"

	"bivalve/cluster"
)

// What was seen of a disk never goes back: a disk that was put back to an earlier time,
// and is full, opens with the number that it had, and is to be noticed again.
func TestIncarnationsNeverGoBack(t *testing.T) {
	path, id := filepath.Join(t.TempDir(), "disks.json"), cluster.DiskID{1}
	i := openIncarnations(path, slog.New(slog.DiscardHandler))
	for _, n := range []uint64{3, 7, 5} {
		i.keep(id, n)
	}
	if got := openIncarnations(path, slog.New(slog.DiscardHandler)).of(id); got != 7 {
		t.Errorf("%d, want the highest that was seen", got)
	}
}
