package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"bivalve/cluster"
	"bivalve/cluster/placement"
	"bivalve/metadata"
	"bivalve/server/admin"

	"github.com/fxamacker/cbor/v2"
	"github.com/zeebo/xxh3"
)

// LayoutReport is what operators see of the layout, as the region has agreed on it.
type LayoutReport struct {
	Epoch  cluster.Epoch   `json:"epoch"`
	PGs    int             `json:"placement_groups"`
	Slots  int             `json:"slots"`
	Moving placement.Price `json:"moving"` // what is left of the last changes
	Disks  []LayoutDisk    `json:"disks"`
}

// LayoutDisk is one disk that is or was part of the layout, or could be.
type LayoutDisk struct {
	Disk    cluster.Disk  `json:"disk"`
	Zone    cluster.Zone  `json:"zone"`
	State   cluster.State `json:"state"`
	Up      bool          `json:"up"`
	Slots   int           `json:"slots"`       // it owns
	In      int           `json:"moving_in"`   // of these, those that it does not have in full yet
	Out     int           `json:"moving_away"` // others have taken over from it, but not in full yet
	Live    int64         `json:"bytes"`       // of shards, by its own account
	Weight  uint32        `json:"weight"`
	Unknown bool          `json:"unknown,omitempty"` // its node could not be asked for the bytes
}

// LayoutPlan is a change of the layout that could be applied.
type LayoutPlan struct {
	ID     string          `json:"plan"`       // names it to apply
	Base   cluster.Epoch   `json:"base_epoch"` // that it changes
	Epoch  cluster.Epoch   `json:"epoch"`      // that it makes
	Change bool            `json:"change"`     // false: the layout is as it should be
	Price  placement.Price `json:"price"`

	layout   *cluster.Layout
	revision uint64 // of the layout that it changes
}

// view is the region as it was agreed at one moment.
type view struct {
	*Region
	disks map[cluster.DiskID]cluster.Disk // registered
}

// agreedView reads the root group, linearizably.
func (n *Node) agreedView(ctx context.Context) (*view, error) {
	values, err := n.catalog.GetConfig(ctx, "")
	if err != nil {
		return nil, err
	}
	v := &view{Region: newRegion(n.self.ID, slog.New(slog.DiscardHandler)), disks: map[cluster.DiskID]cluster.Disk{}}
	for _, value := range values {
		if err := v.take(value); err != nil {
			return nil, fmt.Errorf("configuration value %s: %w", value.Key, err)
		}
	}
	if v.layout == nil {
		return nil, fmt.Errorf("%w: the region has no layout yet", metadata.ErrUnavailable)
	}
	for _, m := range v.members {
		for _, d := range m.Disks {
			v.disks[d.ID] = d
		}
	}
	return v, nil
}

// lost tells the disks that nothing can be had from any more.
func (v *view) lost(id cluster.DiskID) bool {
	d, ok := v.disks[id]
	if !ok {
		d, _ = v.layout.Find(id)
	}
	d.ID = id
	return v.DiskState(d) == cluster.StateRemoved
}

// candidates are the members with what a new layout may use: disks that drain or
// are removed weigh nothing.
func (v *view) candidates() []cluster.Member {
	var out []cluster.Member
	for _, m := range v.members {
		m.Disks = slices.Clone(m.Disks)
		for i, d := range m.Disks {
			if v.DiskState(d) != cluster.StateActive {
				m.Disks[i].Weight = 0
			}
		}
		out = append(out, m)
	}
	return out
}

// slots counts what a disk owns, what of that it does not have in full yet, and
// what others are taking over from it.
func (v *view) slots(id cluster.DiskID) (owned, in, out int) {
	for pg := range v.layout.Groups {
		for i := range v.layout.Groups[pg] {
			pg, i := cluster.PG(pg), cluster.ShardIndex(i)
			switch {
			case v.layout.Owns(id, pg, i):
				owned++
				if v.layout.IsMoving(pg, i) {
					in++
				}
			case v.layout.Holds(id, pg, i):
				out++
			}
		}
	}
	return owned, in, out
}

// held asks every node how many bytes of shards its disks hold.
func (n *Node) held(ctx context.Context) map[cluster.DiskID]int64 {
	s := &Status{}
	n.askNodes(ctx, s)
	out := map[cluster.DiskID]int64{}
	for _, node := range s.Nodes {
		if node.Local != nil {
			for _, d := range node.Local.Disks {
				if !d.ID.IsZero() {
					out[d.ID] = d.Live
				}
			}
		}
	}
	return out
}

func (n *Node) price(before, next *cluster.Layout, held map[cluster.DiskID]int64) placement.Price {
	return placement.PriceOf(before, next, func(id cluster.DiskID) int64 { return held[id] }, n.region.DiskUp)
}

// Layout shows the layout that is agreed.
func (n *Node) Layout(ctx context.Context) (*LayoutReport, error) {
	v, err := n.agreedView(ctx)
	if err != nil {
		return nil, err
	}
	held := n.held(ctx)
	out := &LayoutReport{Epoch: v.layout.Epoch, PGs: len(v.layout.Groups), Slots: len(v.layout.Groups) * 2 * v.layout.Profile.PerZone(),
		Moving: n.price(v.layout, v.layout, held), Disks: []LayoutDisk{}}
	all := map[cluster.DiskID]cluster.Disk{}
	for _, list := range [][]cluster.Disk{v.layout.Disks, v.layout.Former} {
		for _, d := range list {
			if !v.layout.Forsaken(d.ID) {
				all[d.ID] = d
			}
		}
	}
	for id, d := range v.disks {
		all[id] = d
	}
	for id, d := range all {
		row := LayoutDisk{Disk: d, Zone: v.members[d.Node].Zone, State: v.DiskState(d), Up: n.region.DiskUp(d), Weight: d.Weight}
		row.Slots, row.In, row.Out = v.slots(id)
		live, known := held[id]
		row.Live, row.Unknown = live, !known
		out.Disks = append(out.Disks, row)
	}
	slices.SortFunc(out.Disks, func(a, b LayoutDisk) int {
		if c := strings.Compare(string(a.Disk.Node), string(b.Disk.Node)); c != 0 {
			return c
		}
		return strings.Compare(a.Disk.Path+a.Disk.ID.String(), b.Disk.Path+b.Disk.ID.String())
	})
	return out, nil
}

// PlanLayout computes the layout that the members and their states ask for.
func (n *Node) PlanLayout(ctx context.Context) (*LayoutPlan, error) {
	v, err := n.agreedView(ctx)
	if err != nil {
		return nil, err
	}
	next, err := placement.Next(placement.Input{Members: v.candidates(), Zones: v.layout.Zones, Profile: v.layout.Profile,
		PGs: len(v.layout.Groups), Before: v.layout}, v.lost)
	if errors.Is(err, placement.ErrTooFewDisks) {
		return nil, fmt.Errorf("%w: without the disks that drain or are removed, %w", admin.ErrRefused, err)
	}
	if err != nil {
		return nil, err
	}
	return n.planOf(ctx, v, next)
}

func (n *Node) planOf(ctx context.Context, v *view, next *cluster.Layout) (*LayoutPlan, error) {
	p := &LayoutPlan{Base: v.layout.Epoch, Epoch: next.Epoch, layout: next, revision: v.revision[keyLayout],
		Change: len(placement.Moves(v.layout, next)) > 0, Price: n.price(v.layout, next, n.held(ctx))}
	// What still moves changes by itself, and is no reason to plan again.
	named, err := cbor.Marshal([]any{p.revision, next.Disks, next.Groups})
	if err != nil {
		return nil, err
	}
	p.ID = fmt.Sprintf("%d-%016x", next.Epoch, xxh3.Hash(named))
	return p, nil
}

// ApplyLayout makes the planned layout the next one if the region is still what it
// was planned for. An empty id is the plan of now.
func (n *Node) ApplyLayout(ctx context.Context, id string) (*LayoutPlan, error) {
	p, err := n.PlanLayout(ctx)
	if err != nil {
		return nil, err
	}
	if id != "" && p.ID != id {
		return nil, fmt.Errorf("%w: the plan %s is stale: the region has changed since; plan again", admin.ErrRefused, id)
	}
	return p, n.propose(ctx, p)
}

// propose makes a plan the next layout.
func (n *Node) propose(ctx context.Context, p *LayoutPlan) error {
	if !p.Change {
		return nil
	}
	value, err := cbor.Marshal(p.layout)
	if err != nil {
		return err
	}
	if _, err := decodeLayout(value); err != nil { // nobody could read it
		return err
	}
	_, err = n.catalog.PutConfig(ctx, metadata.PutConfig{Key: keyLayout, Value: value, Expect: p.revision})
	if errors.Is(err, metadata.ErrConflict) {
		return fmt.Errorf("%w: the layout of epoch %d was changed meanwhile; plan again", admin.ErrRefused, p.Base)
	}
	if err == nil {
		err = n.region.refresh()
	}
	return err
}

// layoutOrders are the orders about the layout, nodes and disks.
func (n *Node) layoutOrders() map[string]admin.Order {
	return map[string]admin.Order{
		"GET /v1/layout":       func(ctx context.Context, _ *http.Request) (any, error) { return n.Layout(ctx) },
		"POST /v1/layout/plan": func(ctx context.Context, _ *http.Request) (any, error) { return n.PlanLayout(ctx) },
		"POST /v1/layout/apply": func(ctx context.Context, r *http.Request) (any, error) {
			return n.ApplyLayout(ctx, r.URL.Query().Get("plan"))
		},
		"POST /v1/nodes":              n.addNodeOrder,
		"POST /v1/nodes/{node}/disks": n.newDiskOrder,
		"POST /v1/nodes/{node}/replace": func(ctx context.Context, r *http.Request) (any, error) {
			return n.ReplaceNode(ctx, cluster.NodeID(r.PathValue("node")), cluster.NodeID(r.URL.Query().Get("by")))
		},
		"POST /v1/disks/{disk}/{state}": func(ctx context.Context, r *http.Request) (any, error) {
			return n.SetDisk(ctx, r.PathValue("disk"), cluster.State(r.PathValue("state")), r.URL.Query().Get("force") == "true")
		},
		"POST /v1/nodes/{node}/{state}": func(ctx context.Context, r *http.Request) (any, error) {
			return n.SetNode(ctx, cluster.NodeID(r.PathValue("node")), cluster.State(r.PathValue("state")), r.URL.Query().Get("force") == "true")
		},
	}
}
