package server

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk"

	"github.com/prometheus/client_golang/prometheus"
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

// A node remembers what its disks came to when they were opened, and when they were closed.
func TestNodeRemembersIncarnations(t *testing.T) {
	n := &Node{cfg: &Config{Faults: &Faults{}}, file: &RegionFile{Cluster: strings.Repeat("0a", 16)}, logger: slog.New(slog.DiscardHandler),
		metrics: prometheus.NewRegistry(), seen: openIncarnations(filepath.Join(t.TempDir(), "disks.json"), slog.New(slog.DiscardHandler))}
	n.cfg.Limits.DiskReserve = 1 << 20
	slot := n.newSlot(filepath.Join(t.TempDir(), "disk"))
	if _, err := disk.Format(slot.cfg); err != nil {
		t.Fatal(err)
	}
	if err := slot.take(); err != nil {
		t.Fatal(err)
	}
	opened := n.seen.of(slot.id)
	if err := slot.Close(); err != nil {
		t.Fatal(err)
	}
	if closed := n.seen.of(slot.id); opened == 0 || closed <= opened {
		t.Errorf("%d when it was opened, %d when it was closed", opened, closed)
	}
}
