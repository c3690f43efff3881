package server

import (
	"testing"

	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
	"bivalve/server/upkeep"
)

// A root group that was recovered by force has forgotten which generations of replicas it
// gave last. None that a member of the group has is given again.
func TestReplicaIDsAreNotGivenAgain(t *testing.T) {
	o := orders{&Node{catalog: catalogtest.Open(t, 1).Catalog(t)}}
	lost := replica.NewReplicaID(3, 7)
	for _, c := range []struct {
		g    upkeep.ReplicaGroup
		want uint64
	}{
		{upkeep.ReplicaGroup{Voters: []replica.ReplicaID{1, 2, lost}}, 8},
		{upkeep.ReplicaGroup{Voters: []replica.ReplicaID{1}, Learners: []replica.ReplicaID{replica.NewReplicaID(2, 11)}}, 12},
		{upkeep.ReplicaGroup{Voters: []replica.ReplicaID{1, 2, lost}}, 13},
		{upkeep.ReplicaGroup{Outgoing: []replica.ReplicaID{replica.NewReplicaID(9, 20)}}, 21},
	} {
		id, err := o.NewReplicaID(t.Context(), c.g, lost.Host())
		if err != nil || id.Host() != lost.Host() || id.Generation() != c.want {
			t.Errorf("node %d, generation %d, %v; want %d", id.Host(), id.Generation(), err, c.want)
		}
	}
}
