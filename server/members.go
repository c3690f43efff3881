package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/server/admin"
)

// StateChange answers an order about a node or disk.
type StateChange struct {
	Of     string        `json:"of"` // node/<id> or disk/<id>
	Before cluster.State `json:"before"`
	State  cluster.State `json:"state"`
	Cost   RemovalCost   `json:"cost"` // of taking its disks away now
}

// RemovalCost is what the region loses when disks are removed at once.
type RemovalCost struct {
	Slots int `json:"slots"` // that they hold
	// Weak and Lost count placement groups: those of which a zone could not rebuild
	// its shards by itself afterwards, and those of which the region could not.
	Weak int `json:"groups_weak"`
	Lost int `json:"groups_lost"`
}

func (c RemovalCost) String() string {
	return fmt.Sprintf("%d slots; %d placement groups would be left with fewer than k shards in a zone, and the objects in %d would be lost", c.Slots, c.Weak, c.Lost)
}

// findDisk takes a disk's id or the beginning of it.
func (v *view) findDisk(name string) (cluster.Disk, error) {
	var found []cluster.Disk
	for _, d := range append(append(mapValues(v.disks), v.layout.Disks...), v.layout.Former...) {
		if strings.HasPrefix(d.ID.String(), name) && !slices.ContainsFunc(found, func(o cluster.Disk) bool { return o.ID == d.ID }) {
			found = append(found, d)
		}
	}
	switch {
	case len(name) < 4 || len(found) == 0:
		return cluster.Disk{}, fmt.Errorf("%w: no disk %q; give its id, or at least 4 digits of it", admin.ErrBad, name)
	case len(found) > 1:
		return cluster.Disk{}, fmt.Errorf("%w: %d disks begin with %q", admin.ErrBad, len(found), name)
	}
	return found[0], nil
}

func mapValues[K comparable, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// SetDisk changes what the region wants of a disk. A disk that holds slots is
// removed with force only: what it holds then counts as lost.
func (n *Node) SetDisk(ctx context.Context, name string, to cluster.State, force bool) (*StateChange, error) {
	v, err := n.agreedView(ctx)
	if err != nil {
		return nil, err
	}
	d, err := v.findDisk(name)
	if err != nil {
		return nil, err
	}
	return n.setState(ctx, v, stateOfDisk(d.ID), to, force, func(o cluster.Disk) bool { return o.ID == d.ID })
}

// SetNode does the same for all disks of a node, and has its replicas of metadata
// groups go to other nodes unless it is active.
func (n *Node) SetNode(ctx context.Context, id cluster.NodeID, to cluster.State, force bool) (*StateChange, error) {
	v, err := n.agreedView(ctx)
	if err != nil {
		return nil, err
	}
	if _, known := v.members[id]; !known {
		return nil, fmt.Errorf("%w: no node %q", admin.ErrBad, id)
	}
	if groups := n.ReplicasOn(id); to == cluster.StateRemoved && len(groups) > 0 && !force {
		return nil, fmt.Errorf("%w: node %s still has replicas of %d metadata groups; drain it first: they go to other nodes then", admin.ErrRefused, id, len(groups))
	}
	out, err := n.setState(ctx, v, stateOfNode(id), to, force, func(o cluster.Disk) bool { return o.Node == id })
	if err == nil {
		err = n.EvictReplicas(ctx, id, to != cluster.StateActive)
	}
	return out, err
}

// setState writes the state if nobody else did meanwhile.
func (n *Node) setState(ctx context.Context, v *view, of string, to cluster.State, force bool, about func(cluster.Disk) bool) (*StateChange, error) {
	out := &StateChange{Of: of, Before: v.states[of].State.Worse(""), State: to, Cost: v.removalCost(about, n.region.DiskUp)}
	switch {
	case !to.Valid():
		return nil, fmt.Errorf("%w: no state %q", admin.ErrBad, to)
	case out.Before == to:
		return out, nil
	case out.Before == cluster.StateRemoved:
		return nil, fmt.Errorf("%w: %s was removed, for good", admin.ErrRefused, of)
	case to == cluster.StateRemoved && out.Cost.Slots > 0 && !force:
		return nil, fmt.Errorf("%w: %s still holds %s; drain it first, or declare that lost with force", admin.ErrRefused, of, out.Cost)
	}
	value, err := json.Marshal(StateRecord{State: to, Since: time.Now().UnixNano()})
	if err != nil {
		return nil, err
	}
	key := keyStatePrefix + of
	_, err = n.catalog.PutConfig(ctx, metadata.PutConfig{Key: key, Value: value, Expect: v.revision[key]})
	if errors.Is(err, metadata.ErrConflict) {
		return nil, fmt.Errorf("%w: the state of %s was changed meanwhile", admin.ErrRefused, of)
	}
	if err == nil {
		err = n.region.refresh()
	}
	return out, err
}

// removalCost counts what goes when disks are taken away now. A slot that is moving
// counts as held by those who held it before, and as nobody's if one of them is lost.
func (v *view) removalCost(about func(cluster.Disk) bool, up func(cluster.Disk) bool) (c RemovalCost) {
	l := v.layout
	k := int(l.Profile.K)
	for pg := range l.Groups {
		var left [2]int // by half: readable without these disks
		hit := false
		for i := range l.Groups[pg] {
			pg, i := cluster.PG(pg), cluster.ShardIndex(i)
			whole := l.Holders(pg, i)
			if previous := l.Previous(pg, i); len(previous) > 0 && !l.Bereft(pg, i) {
				hit = hit || slices.ContainsFunc(whole, about)
				c.Slots += count(whole, about)
				whole = previous
			} else if l.IsMoving(pg, i) {
				c.Slots += count(whole, about)
				continue // to be rebuilt: nobody has all of it
			} else {
				hit = hit || about(whole[0])
				c.Slots += count(whole, about)
			}
			if slices.ContainsFunc(whole, func(d cluster.Disk) bool { return up(d) && !about(d) }) {
				left[int(i)/l.Profile.PerZone()]++
			}
		}
		if !hit {
			continue
		}
		if left[0]+left[1] < k {
			c.Lost++
		}
		if left[0] < k || left[1] < k {
			c.Weak++
		}
	}
	return c
}

func count(list []cluster.Disk, about func(cluster.Disk) bool) (n int) {
	for _, d := range list {
		if about(d) {
			n++
		}
	}
	return n
}
