package server

import (
	"testing"

	"bivalve/cluster"
	"bivalve/server/upkeep"
)

// TestCatchUp: what is left of each kind is summed up by node and zone, with the time
// that it takes; who lacks nothing is not told of.
func TestCatchUp(t *testing.T) {
	s := &Status{
		Zones: []ZoneReport{{Zone: "a"}, {Zone: "b"}},
		Nodes: []NodeReport{
			{ID: "a1", Zone: "a", Local: &LocalStatus{}},
			{ID: "b1", Zone: "b", Local: &LocalStatus{HealRate: 300, Disks: []DiskReport{
				{Restore: &upkeep.RestoreProgress{Groups: 9, Done: 4}}, {Move: &upkeep.MoveProgress{Slots: 3, Done: 1}}}}},
			{ID: "b2", Zone: "b"}, // does not answer
			{ID: "b3", Zone: "b", Local: &LocalStatus{HealRate: 100}},
			{ID: "w", Zone: "w", Local: &LocalStatus{}},
		},
		Groups: []GroupReport{
			{Group: 0, Replicas: []ReplicaReport{{Node: "a1", Active: true}, {Node: "b1", Active: true, Lag: behindEntries}, {Node: "b2", Lag: 7}, {Node: "w", Active: true, Lag: 5000}}},
			{Group: 1, Replicas: []ReplicaReport{{Node: "a1", Active: true, Lag: 1}, {Node: "b1", Active: true, Lag: behindEntries + 1}, {Node: "b3", Kind: "leaving"}, {Node: "gone"}}},
		},
		Disks: []DiskRisk{{Node: "a1", Lost: 3}, {Node: "b1", Lacks: 2, Bytes: 600}, {Node: "b2", Lacks: 5, Bytes: 1400}},
	}
	reportCatchUp(s)
	want := map[cluster.NodeID]*CatchUp{
		"a1": nil, "b3": nil,
		"b1": {Groups: 1, Entries: 2*behindEntries + 1, Shards: 2, Bytes: 600, Compare: 7},
		"b2": {Groups: 1, Entries: 7, Shards: 5, Bytes: 1400},
		"w":  {Groups: 1, Entries: 5000},
	}
	for _, n := range s.Nodes {
		if w := want[n.ID]; (n.CatchUp == nil) != (w == nil) || w != nil && *n.CatchUp != *w {
			t.Errorf("%s: %+v, want %+v", n.ID, n.CatchUp, w)
		}
	}
	zone := CatchUp{Groups: 2, Entries: 2*behindEntries + 8, Shards: 7, Bytes: 2000, Compare: 7, Rate: 400, Left: 5}
	if s.Zones[0].CatchUp != nil || s.Zones[1].CatchUp == nil || *s.Zones[1].CatchUp != zone {
		t.Errorf("%+v, want %+v", s.Zones[1].CatchUp, zone)
	}
}
