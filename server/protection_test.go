package server

import (
	"testing"

	"bivalve/cluster"
	"bivalve/metadata"
)

// TestProtectionByDisk: an object counts once on each disk whose death would take it,
// and on those that a moving place may be on; beyond what can be told apart, places are
// added up, and it is said.
func TestProtectionByDisk(t *testing.T) {
	disks := []cluster.Disk{{ID: cluster.DiskID{1}, Node: "a1"}, {ID: cluster.DiskID{2}, Node: "a2"}, {ID: cluster.DiskID{3}, Node: "b1"}, {ID: cluster.DiskID{4}, Node: "b2"}}
	l := &cluster.Layout{Epoch: 2, Profile: cluster.Profile{K: 2}, Zones: [2]cluster.Zone{"a", "b"}, Disks: disks,
		Groups: [][]uint16{{0, 1, 2, 3}, {2, 3, 0, 1}},
		Former: []cluster.Disk{{ID: cluster.DiskID{9}, Node: "a9"}}, Moving: []cluster.Moving{{Slot: cluster.Slot{PG: 1, Index: 3}, From: []uint16{0}}}}
	slots := []metadata.SlotCount{
		{Slot: metadata.Slot{PG: 0, Index: 0}, Last: 1},
		{Slot: metadata.Slot{PG: 0, Index: 2}, Missing: 5, Bytes: 50},
		{Slot: metadata.Slot{PG: 1, Index: 2}, Last: 1},
		{Slot: metadata.Slot{PG: 1, Index: 3}, Last: 2, Missing: 1, Bytes: 7},
		{Slot: metadata.Slot{PG: 7, Index: 0}, Last: 9, Missing: 9}, // of no layout that is known here
	}
	last := metadata.LastPlaces{Objects: [][]metadata.Slot{
		{{PG: 0, Index: 0}, {PG: 1, Index: 2}, {PG: 1, Index: 3}}, // both chunks on a1
		{{PG: 1, Index: 3}},
	}}
	up := func(d cluster.Disk) bool { return d.Node != "b1" }
	want := []DiskRisk{
		{Disk: disks[0].ID, Node: "a1", Zone: "a", Up: true, Lost: 1},
		{Disk: disks[1].ID, Node: "a2", Zone: "a", Up: true, Lost: 2, Lacks: 1, Bytes: 7},
		{Disk: cluster.DiskID{9}, Node: "a9", Zone: "a", Up: true, Lost: 2},
		{Disk: disks[2].ID, Node: "b1", Zone: "b", Lacks: 5, Bytes: 50},
		{Disk: disks[3].ID, Node: "b2", Zone: "b", Up: true},
	}
	for range 2 {
		p := newProtection(l)
		p.add(metadata.Stats{WithBlobs: 3, AtRisk: map[string]int64{"a": 2}, Oldest: 7}, slots, last)
		p.add(metadata.Stats{WithBlobs: 1, Oldest: 5}, nil, metadata.LastPlaces{})
		if s := p.stats; s.WithBlobs != 4 || s.AtRisk["a"] != 2 || s.Oldest != 5 {
			t.Errorf("%+v", s)
		}
		got := p.list(up)
		if len(got) != len(want) {
			t.Fatalf("%+v", got)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%+v, want %+v", got[i], want[i])
			}
		}
		last.More = true
		for i, n := range []int64{2, 2, 2, 0, 0} {
			want[i].Lost, want[i].AtMost = n, n > 0
		}
	}
}
