package server

import (
	"errors"
	"log/slog"
	"slices"
	"testing"

	"bivalve/cluster"
)

// TestFailedDisks: a disk that the layout looks for on a node which does not carry it is
// out of service, registered or not; else it counts as up, and what it should hold as
// there.
func TestFailedDisks(t *testing.T) {
	disk := func(n byte, node cluster.NodeID) cluster.Disk { return cluster.Disk{ID: cluster.DiskID{n}, Node: node} }
	lost := &diskSlot{id: cluster.DiskID{1}, why: errors.New("gone")}
	n := &Node{self: SeedMember{ID: "a1"}, region: newRegion("a1", slog.New(slog.DiscardHandler))}
	n.slots.add(lost)
	n.local = &localShards{slots: &n.slots, region: n.region}
	n.region.members["a1"] = cluster.Member{ID: "a1", Disks: []cluster.Disk{disk(1, "a1")}}
	if got := n.failedDisks(); !slices.Equal(got, []cluster.DiskID{{1}}) {
		t.Errorf("before there is a layout: %v", got)
	}
	n.region.layout = &cluster.Layout{
		Disks:  []cluster.Disk{disk(1, "a1"), disk(2, "a1"), disk(3, "a2")},
		Former: []cluster.Disk{disk(2, "a1"), disk(4, "a1"), disk(5, "a2")},
	}
	if got := n.failedDisks(); !slices.Equal(got, []cluster.DiskID{{1}, {2}, {4}}) {
		t.Errorf("out of service: %v", got)
	}
}
