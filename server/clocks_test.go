package server

import (
	"testing"

	"bivalve/cluster"
)

func TestFoundersLeft(t *testing.T) {
	founders := []SeedMember{{ID: "a1"}, {ID: "b1"}, {ID: "w"}}
	for gone, want := range map[cluster.NodeID]int{"b1": 2, "b2": 3, "": 3} {
		if got := foundersLeft(founders, func(id cluster.NodeID) bool { return id == gone }); got != want {
			t.Errorf("without %q: %d, want %d", gone, got, want)
		}
	}
}
