package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
	"bivalve/server/upkeep"

	"github.com/fxamacker/cbor/v2"
)

// Keys of the root group about replicas.
const (
	keyGenerations = "replicas"
	keyGroupPrefix = "group/" // + number: who its members are, as its leader last said
	keyEvictPrefix = "evict/" // + node: its replicas are to go elsewhere
)

// GroupMembers is the value of "group/<number>". It is a hint: what counts is in the
// group itself. A group that is not there has its founding members.
type GroupMembers struct {
	Version  int                 `json:"version"` // 1
	Epoch    uint32              `json:"epoch,omitempty"`
	Voters   []replica.ReplicaID `json:"voters"`
	Learners []replica.ReplicaID `json:"learners,omitempty"`
}

// generations is the value of "replicas": the next generation of a replica id.
type generations struct {
	Version int    `json:"version"` // 1
	Next    uint64 `json:"next"`
}

// votersOf is who votes in a group, as far as this node knows.
func (n *Node) votersOf(g replica.GroupID) []replica.ReplicaID {
	if m, ok := n.region.GroupMembers(g); ok {
		return m.Voters
	}
	return n.file.Voters(g)
}

// learnersOf likewise.
func (n *Node) learnersOf(g replica.GroupID) []replica.ReplicaID {
	if m, ok := n.region.GroupMembers(g); ok {
		return m.Learners
	}
	return n.file.Learners(g)
}

// Led implements upkeep.ReplicaFacts.
func (f facts) Led() []upkeep.ReplicaGroup {
	var out []upkeep.ReplicaGroup
	for _, s := range f.n.host.Status() {
		if s.Role != replica.RoleLeader {
			continue
		}
		out = append(out, upkeep.ReplicaGroup{Group: s.Group, Self: s.Self, Epoch: s.Epoch, Commit: s.Commit,
			Voters: s.Voters, Learners: s.Learners, Outgoing: s.VotersOutgoing, Match: s.Match})
	}
	return out
}

// ReplicaNodes implements upkeep.ReplicaFacts.
func (f facts) ReplicaNodes() []upkeep.ReplicaNode {
	since := map[cluster.NodeID]time.Time{}
	for _, s := range f.n.gossip.Members() {
		if !s.Alive {
			since[s.ID] = s.Since
		}
	}
	var out []upkeep.ReplicaNode
	for _, m := range append(f.n.peers(), f.n.leavers()...) {
		r := upkeep.ReplicaNode{ID: m.ID, Number: replica.ReplicaID(m.Replica), Zone: m.Zone,
			Witness: m.Role == cluster.RoleWitness, Leaving: f.n.region.Evicted(m.ID) || f.n.region.NodeState(m.ID) == cluster.StateRemoved}
		if m.ID != f.n.self.ID && !f.n.gossip.Alive(m.ID) {
			from, known := since[m.ID]
			if !known {
				from = f.n.started // never met
			}
			r.Dead = max(1, time.Since(from))
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b upkeep.ReplicaNode) int { return int(a.Number) - int(b.Number) })
	return out
}

// replicaAsk names a replica of a node; replicaSaid is what the node has of the group.
type replicaAsk struct {
	Group replica.GroupID   `cbor:"1,keyasint"`
	ID    replica.ReplicaID `cbor:"2,keyasint,omitempty"`
	Epoch uint32            `cbor:"3,keyasint,omitempty"`
}

type replicaSaid struct {
	ID   replica.ReplicaID `cbor:"1,keyasint,omitempty"`
	Role replica.Role      `cbor:"2,keyasint,omitempty"` // "" if there is none
	// Of a leader that has just confirmed itself: all members of the group.
	Members []replica.ReplicaID `cbor:"3,keyasint,omitempty"`
	Epoch   uint32              `cbor:"4,keyasint,omitempty"` // of forced recoveries
}

// LostReplica implements upkeep.ReplicaFacts.
func (f facts) LostReplica(ctx context.Context, node cluster.NodeID, g replica.GroupID, id replica.ReplicaID) (bool, error) {
	said, err := f.n.askReplica(ctx, node, methodReplica, replicaAsk{Group: g})
	if err != nil {
		return false, err
	}
	// A held replica may not know its own id, and then says its node's number.
	return said.Role == "" || said.Role == replica.RoleHeld || said.ID != id, nil
}

func (n *Node) askReplica(ctx context.Context, node cluster.NodeID, method uint8, ask replicaAsk) (said replicaSaid, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if node == n.self.ID {
		return n.sayReplica(ctx, method, ask)
	}
	body, err := cbor.Marshal(ask)
	if err != nil {
		return said, err
	}
	raw, err := n.client.CallMetaAgain(ctx, node, method, body)
	if err == nil {
		err = cbor.Unmarshal(raw, &said)
	}
	return said, err
}

// handleReplica serves methodReplica, methodMembers and methodMake.
func (n *Node) handleReplica(ctx context.Context, method uint8, body []byte) ([]byte, error) {
	var ask replicaAsk
	if err := cbor.Unmarshal(body, &ask); err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	said, err := n.sayReplica(ctx, method, ask)
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(said)
}

func (n *Node) sayReplica(ctx context.Context, method uint8, ask replicaAsk) (said replicaSaid, err error) {
	switch method {
	case methodMake:
		if err := n.makeReplica(ctx, ask); err != nil {
			return said, err
		}
	case methodMembers:
		// The barrier proves that this is what the group is now.
		if !n.host.Leads(ask.Group) {
			return said, fmt.Errorf("%w: node %s does not lead metadata group %d", cluster.ErrInvalid, n.self.ID, ask.Group)
		}
		if err := n.host.ReadIndex(ctx, ask.Group); err != nil {
			return said, err
		}
	}
	if s, ok := n.replicaOf(ask.Group); ok {
		said.ID, said.Role, said.Epoch = s.Self, s.Role, s.Epoch
		if method == methodMembers && s.Role == replica.RoleLeader {
			said.Members = slices.Concat(s.Voters, s.Learners, s.VotersOutgoing)
		}
	}
	return said, nil
}

// replicaOf is this node's replica of a group.
func (n *Node) replicaOf(g replica.GroupID) (replica.GroupStatus, bool) {
	all := n.host.Status()
	i := slices.IndexFunc(all, func(s replica.GroupStatus) bool { return s.Group == g })
	if i < 0 {
		return replica.GroupStatus{}, false
	}
	return all[i], true
}

// orders implements upkeep.ReplicaOrders.
type orders struct{ n *Node }

// NewReplicaID takes the next generation, which nobody takes a second time. A root group
// that was recovered by force may not know of the last ones: those of the group's members
// are passed over, for a replica made under the id of one would vote in its place.
func (o orders) NewReplicaID(ctx context.Context, g upkeep.ReplicaGroup, node replica.ReplicaID) (replica.ReplicaID, error) {
	for {
		var next generations
		var revision uint64
		values, err := o.n.catalog.GetConfig(ctx, keyGenerations)
		if err != nil {
			return 0, err
		}
		for _, v := range values {
			if v.Key == keyGenerations {
				revision = v.Revision
				if err := json.Unmarshal(v.Value, &next); err != nil {
					return 0, err
				}
			}
		}
		if next.Version > 1 {
			return 0, fmt.Errorf("replica ids of version %d", next.Version)
		}
		next.Version, next.Next = 1, max(next.Next, g.Generation())+1
		raw, err := json.Marshal(next)
		if err != nil {
			return 0, err
		}
		_, err = o.n.catalog.PutConfig(ctx, metadata.PutConfig{Key: keyGenerations, Value: raw, Expect: revision})
		if errors.Is(err, metadata.ErrConflict) {
			continue // another leader was faster
		}
		if err != nil {
			return 0, err
		}
		return replica.NewReplicaID(node, next.Next), nil
	}
}

func (o orders) MakeReplica(ctx context.Context, node cluster.NodeID, g upkeep.ReplicaGroup, id replica.ReplicaID) error {
	_, err := o.n.askReplica(ctx, node, methodMake, replicaAsk{Group: g.Group, ID: id, Epoch: g.Epoch})
	return err
}

func (o orders) ChangeMembers(ctx context.Context, g replica.GroupID, c replica.ConfChange) error {
	return o.n.host.ProposeConfChange(ctx, g, c)
}

func (o orders) Publish(ctx context.Context, g upkeep.ReplicaGroup) error {
	if len(g.Outgoing) > 0 || slices.Equal(g.Voters, o.n.votersOf(g.Group)) && slices.Equal(g.Learners, o.n.learnersOf(g.Group)) {
		return nil
	}
	raw, err := json.Marshal(GroupMembers{Version: 1, Epoch: g.Epoch, Voters: g.Voters, Learners: g.Learners})
	if err != nil {
		return err
	}
	_, err = o.n.catalog.PutConfig(ctx, metadata.PutConfig{Key: keyGroupPrefix + strconv.Itoa(int(g.Group)), Value: raw, Any: true})
	if err == nil {
		err = o.n.region.refresh()
	}
	return err
}

// EvictReplicas has all replicas of a node moved to others, or lets it have some
// again. ReplicasOn tells how many are left: a node that is to be removed waits for
// none.
func (n *Node) EvictReplicas(ctx context.Context, id cluster.NodeID, evict bool) error {
	raw, err := json.Marshal(evict)
	if err != nil {
		return err
	}
	_, err = n.catalog.PutConfig(ctx, metadata.PutConfig{Key: keyEvictPrefix + string(id), Value: raw, Any: true})
	if err == nil {
		err = n.region.refresh()
	}
	return err
}

// ReplicasOn lists the groups of which a node still has a replica.
func (n *Node) ReplicasOn(id cluster.NodeID) []replica.GroupID {
	m, ok := n.peer(id)
	for _, l := range n.leavers() {
		if l.ID == id {
			m, ok = l, true
		}
	}
	if !ok {
		return nil
	}
	on := func(r replica.ReplicaID) bool { return r.Host() == replica.ReplicaID(m.Replica) }
	var out []replica.GroupID
	for g := catalog.Root; int(g) <= n.file.Partitions; g++ {
		if slices.ContainsFunc(n.votersOf(g), on) || slices.ContainsFunc(n.learnersOf(g), on) {
			out = append(out, g)
		}
	}
	return out
}
