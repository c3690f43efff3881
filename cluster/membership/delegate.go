package membership

import (
	"fmt"
	"net"
	"strconv"

	"github.com/hashicorp/memberlist"

	"bivalve/cluster"
)

// delegate is what memberlist calls back, from its own goroutines and in part
// under its own lock: nothing here may call memberlist or block.
type delegate struct{ m *Membership }

// NodeMeta is this node's meta, for the next message about it.
func (d delegate) NodeMeta(limit int) []byte {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if len(d.m.meta) > limit {
		return nil // refused by the others; limit is MaxMetaBytes, so this is a broken law
	}
	return d.m.meta
}

func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// NotifyAlive keeps out what is not of this cluster.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if _, err := d.check(n); err != nil {
		return err
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if _, known := d.m.members[cluster.NodeID(n.Name)]; !known && len(d.m.members) >= maxMembers {
		return fmt.Errorf("membership: node %q: %d members are known already", n.Name, maxMembers)
	}
	return nil
}

// NotifyMerge refuses the whole exchange with a node that knows strangers.
func (d delegate) NotifyMerge(peers []*memberlist.Node) error {
	for _, n := range peers {
		if _, err := d.check(n); err != nil {
			return err
		}
	}
	return nil
}

func (d delegate) check(n *memberlist.Node) (Meta, error) {
	if n.Name == "" || len(n.Name) > 63 {
		return Meta{}, fmt.Errorf("membership: node name %q", n.Name)
	}
	meta, err := parseMeta(n.Meta)
	if err != nil {
		return Meta{}, fmt.Errorf("node %q: %w", n.Name, err)
	}
	if meta.Cluster != d.m.cfg.Meta.Cluster {
		return Meta{}, fmt.Errorf("membership: node %q is of cluster %q", n.Name, meta.Cluster)
	}
	return meta, nil
}

func (d delegate) NotifyJoin(n *memberlist.Node)   { d.see(n, true) }
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.see(n, true) }
func (d delegate) NotifyLeave(n *memberlist.Node)  { d.see(n, false) }

// see records what memberlist found. n is only valid during the call.
func (d delegate) see(n *memberlist.Node, alive bool) {
	id := cluster.NodeID(n.Name)
	meta, err := d.check(n)
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	old, known := d.m.members[id]
	if err != nil { // NotifyAlive let it in, so only a death can come without meta
		if !known {
			return
		}
		meta = old.Meta
	}
	s := State{
		ID: id, Zone: meta.Zone, Role: meta.Role, Alive: alive, Since: old.Since, Meta: meta,
		Gossip: net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))),
	}
	if !known || old.Alive != alive {
		s.Since = d.m.cfg.Now()
		d.m.log.Info("gossip: member changed", "node", id, "zone", s.Zone, "alive", alive)
	}
	if known && alive && !old.Alive {
		d.m.back[s.Gossip] = true
	}
	d.m.members[id] = s
	d.m.notify()
}
