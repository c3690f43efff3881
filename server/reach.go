package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/reach"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
	"bivalve/server/upkeep"
)

const (
	askOwnZone   = 8 // of whom a node asks, by zone
	askOtherZone = 8
	askWitnesses = 4

	// skewAlarm and skewUnfit: by how much a clock differs from most others until
	// an operator is told, and until the node is of no use to clients, whose
	// signatures it takes for old.
	skewAlarm = 5 * time.Second
	skewUnfit = 10 * time.Minute
)

// openReach makes what asks the other nodes; Run asks.
func (n *Node) openReach() (err error) {
	n.reach, err = reach.New(reach.Config{
		Self: n.self.ID, Peers: n.reachPeers, Now: n.clock,
		Ask: func(ctx context.Context, id cluster.NodeID) (reach.Answer, error) {
			raw, err := n.client.CallMetaAgain(ctx, id, methodReach, nil)
			if err != nil {
				return reach.Answer{}, err
			}
			return reach.ParseAnswer(raw)
		},
	})
	n.region.reach = n.reach
	return err
}

// reachPeers are whom this node asks: in a small region everybody. In a larger one
// those that follow its own place in each zone, turning round, so that everybody
// is asked by about as many.
func (n *Node) reachPeers() []cluster.NodeID {
	place := 0
	var zones [3][]cluster.NodeID // a, b, elsewhere
	for _, m := range n.peers() {
		i := slices.Index(n.file.Zones[:], m.Zone)
		if i < 0 {
			i = 2
		}
		if m.ID == n.self.ID {
			place = len(zones[i])
		}
		zones[i] = append(zones[i], m.ID)
	}
	var out []cluster.NodeID
	for i, ids := range zones {
		most := askOtherZone
		switch {
		case i == 2:
			most = askWitnesses
		case n.file.Zones[i] == n.self.Zone:
			most = askOwnZone
		}
		for k := range len(ids) {
			if id := ids[(place+1+k)%len(ids)]; id != n.self.ID && most > 0 {
				out, most = append(out, id), most-1
			}
		}
	}
	return out
}

// handleReach serves methodReach.
func (n *Node) handleReach(from SeedMember) ([]byte, error) {
	a := n.reach.Answer()
	a.Refused, a.Recovered = n.refuses(from.Zone), n.recovered()
	return a.Encode()
}

// refuses tells whether this witness takes no part in the metadata with the nodes
// of a zone. Where the zones cannot reach each other but both reach the witness,
// each could have leaders that the other does not reach. So the witness goes with
// the leader of the root group once that has agreed that the other zone is cut
// off; and only while it hears that leader, so that the other zone is needed and
// heard again if its zone dies.
func (n *Node) refuses(zone cluster.Zone) bool {
	if n.self.Role != cluster.RoleWitness {
		return false
	}
	if s := n.region.Zone(zone); !s.Down || !s.Cut {
		return false
	}
	leader, ok := n.byReplica(n.host.Leader(catalog.Root))
	return ok && leader.Role == cluster.RoleStorage && leader.Zone != zone
}

// cutOff tells whether a node of the other zone is out of reach of this one, by the
// word of most of its nodes.
func (n *Node) cutOff(id cluster.NodeID) bool {
	m, ok := n.peer(id)
	if !ok || n.self.Role != cluster.RoleStorage || m.Role != cluster.RoleStorage || m.Zone == n.self.Zone {
		return false
	}
	var own []cluster.NodeID
	for _, o := range n.peers() {
		if o.Zone == n.self.Zone {
			own = append(own, o.ID)
		}
	}
	return n.reach.CutOff(id, own)
}

// zoneCut tells whether a zone is of no use only because it cannot be reached.
func (f facts) zoneCut(z cluster.Zone) bool {
	l := f.Layout()
	if l == nil {
		return false
	}
	usable := upkeep.Usable(l, f.gossiped)
	i := slices.Index(l.Zones[:], z)
	return i >= 0 && usable[i]
}

// reachable is the router's hint.
func (n *Node) reachable(id replica.ReplicaID) bool {
	m, ok := n.byReplica(id)
	return !ok || !n.reach.Missing(m.ID) && !n.reach.Refuses(m.ID)
}

// stranded tells why nothing can be committed from here.
func (n *Node) stranded() error {
	if n.router.Hopeless(catalog.Root) {
		return fmt.Errorf("node %s reaches no majority of the root group", n.self.ID)
	}
	return nil
}

// clock is this node's, which tests may set wrong.
func (n *Node) clock() time.Time {
	if n.cfg.Faults.Clock != nil {
		return n.cfg.Faults.Clock()
	}
	return time.Now()
}

// clockUnfit says why this node's clock makes it useless to clients; nil if not.
func (n *Node) clockUnfit() error {
	if skew := n.reach.Skew(); skew.Abs() > skewUnfit {
		return fmt.Errorf("the clock differs from the other nodes' by %s", skew.Round(time.Second))
	}
	return nil
}
