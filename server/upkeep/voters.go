package upkeep

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"
)

// ReplicaFacts is what the caretaker looks at.
type ReplicaFacts interface {
	// Led are the groups that this node leads.
	Led() []ReplicaGroup
	// ReplicaNodes are all members, with how long the dead have been dead.
	ReplicaNodes() []ReplicaNode
	// LostReplica asks a node whether a replica of its is lost for good.
	LostReplica(ctx context.Context, node cluster.NodeID, g replica.GroupID, id replica.ReplicaID) (bool, error)
}

// ReplicaOrders is what the caretaker does.
type ReplicaOrders interface {
	// NewReplicaID is an id on a node that no replica of the group ever had.
	NewReplicaID(ctx context.Context, g ReplicaGroup, node replica.ReplicaID) (replica.ReplicaID, error)
	// MakeReplica has a node make an empty replica.
	MakeReplica(ctx context.Context, node cluster.NodeID, g ReplicaGroup, id replica.ReplicaID) error
	// ChangeMembers proposes a change and waits until it is applied.
	ChangeMembers(ctx context.Context, g replica.GroupID, c replica.ConfChange) error
	// Publish tells everybody who the members are, unless that is known.
	Publish(ctx context.Context, g ReplicaGroup) error
}

// Caretaker keeps the members of the groups that this node leads what they should
// be: gossip suggests, raft decides. A voter whose node has been dead for
// ReplaceAfter, or has lost its data for so long, is replaced by a new replica in the
// same zone: added as a learner, promoted once it has caught up, in one joint change
// with the removal of the old one.
type Caretaker struct {
	Facts        ReplicaFacts
	Orders       ReplicaOrders
	Zones        [2]cluster.Zone
	Root         replica.GroupID
	ReplaceAfter time.Duration
	Every        time.Duration // between two looks
	Logger       *slog.Logger
	Now          func() time.Time

	mu      sync.Mutex
	lost    map[replica.ReplicaID]map[replica.GroupID]time.Time // since when
	pending map[replica.GroupID]string
}

// orderTime bounds one order.
const orderTime = 10 * time.Second

// Run looks after the groups until ctx ends.
func (c *Caretaker) Run(ctx context.Context) error {
	t := time.NewTicker(c.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		led := c.Facts.Led()
		c.forget(led)
		nodes := c.Facts.ReplicaNodes()
		load := map[replica.ReplicaID]int{}
		for _, g := range led {
			for _, id := range slices.Concat(g.Voters, g.Learners) {
				load[id.Host()]++
			}
		}
		for _, g := range led {
			c.look(ctx, g, nodes, func(n replica.ReplicaID) int { return load[n] })
		}
	}
}

// Pending is what is being changed in a group, for the status.
func (c *Caretaker) Pending(g replica.GroupID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending[g]
}

// forget drops what is known of groups that this node leads no more.
func (c *Caretaker) forget(led []ReplicaGroup) {
	leads := map[replica.GroupID]bool{}
	for _, g := range led {
		leads[g.Group] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil {
		c.pending, c.lost = map[replica.GroupID]string{}, map[replica.ReplicaID]map[replica.GroupID]time.Time{}
	}
	for g := range c.pending {
		if !leads[g] {
			delete(c.pending, g)
		}
	}
	for id, by := range c.lost {
		for g := range by {
			if !leads[g] {
				delete(by, g)
			}
		}
		if len(by) == 0 {
			delete(c.lost, id)
		}
	}
}

func (c *Caretaker) look(ctx context.Context, g ReplicaGroup, nodes []ReplicaNode, load func(replica.ReplicaID) int) {
	octx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	if err := c.Orders.Publish(octx, g); err != nil {
		c.Logger.Debug("the members of a metadata group could not be published", "group", uint32(g.Group), "err", err)
	}
	p := &voterPlan{g: g, nodes: nodes, zones: c.Zones, after: c.ReplaceAfter, root: g.Group == c.Root, load: load,
		lost: c.askLost(octx, g, nodes)}
	step, ok := p.next()
	c.mu.Lock()
	c.pending[g.Group] = step.Why
	c.mu.Unlock()
	if !ok {
		return
	}
	c.Logger.Info("metadata group: change of members", "group", uint32(g.Group), "step", step.Why)
	if err := c.do(octx, g, step); err != nil {
		c.Logger.Warn("metadata group: members could not be changed", "group", uint32(g.Group), "step", step.Why, "err", err)
	}
}

func (c *Caretaker) do(ctx context.Context, g ReplicaGroup, s ReplicaStep) error {
	if s.Make != nil {
		id, err := c.Orders.NewReplicaID(ctx, g, s.Make.Number)
		if err != nil {
			return err
		}
		if err := c.Orders.MakeReplica(ctx, s.Make.ID, g, id); err != nil {
			return err
		}
		s.Change.AddLearners = []replica.ReplicaID{id}
	}
	return c.Orders.ChangeMembers(ctx, g.Group, s.Change)
}

// askLost asks the nodes that live and whose replicas are not heard of. Who cannot be
// asked is taken for what it was.
func (c *Caretaker) askLost(ctx context.Context, g ReplicaGroup, nodes []ReplicaNode) map[replica.ReplicaID]time.Duration {
	out := map[replica.ReplicaID]time.Duration{}
	now := c.Now()
	for _, id := range slices.Concat(g.Voters, g.Learners) {
		i := slices.IndexFunc(nodes, func(n ReplicaNode) bool { return n.Number == id.Host() })
		if i < 0 || nodes[i].Dead > 0 {
			continue
		}
		is := false
		if m := g.Match[id]; !m.Active {
			var err error
			if is, err = c.Facts.LostReplica(ctx, nodes[i].ID, g.Group, id); err != nil {
				continue
			}
		}
		c.mu.Lock()
		switch by := c.lost[id]; {
		case !is:
			delete(by, g.Group)
		case by == nil:
			c.lost[id] = map[replica.GroupID]time.Time{g.Group: now}
		case by[g.Group].IsZero():
			by[g.Group] = now
		}
		if since := c.lost[id][g.Group]; is {
			out[id] = now.Sub(since)
		}
		c.mu.Unlock()
	}
	return out
}
