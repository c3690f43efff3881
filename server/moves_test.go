package server

import (
	"slices"
	"testing"

	"bivalve/cluster"
)

// TestMovedSlotsOfAnEarlierEpoch: a disk that ends with a slot of the layout before does
// not take back what another disk of the node has reported of the present one: its
// slots would move for ever, for each is reported once.
func TestMovedSlotsOfAnEarlierEpoch(t *testing.T) {
	var m movedSlots
	late, now := cluster.Slot{PG: 1}, cluster.Slot{PG: 2}
	m.add(5, late)
	m.add(6, now)
	m.add(5, late)
	if got := m.of(6); !slices.Equal(got, []cluster.Slot{now}) {
		t.Errorf("moved in epoch 6: %v", got)
	}
	if got := m.of(5); got != nil {
		t.Errorf("moved in epoch 5: %v", got)
	}
}
