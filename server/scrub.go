package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/transport"
	"bivalve/server/upkeep"

	"golang.org/x/sync/errgroup"
)

// ScrubAnswer tells which passes a scrub that was asked for consists of.
type ScrubAnswer struct {
	Nodes []ScrubNode `json:"nodes"`
}

// ScrubNode is what one node has begun; Error is why it has not.
type ScrubNode struct {
	ID    cluster.NodeID        `json:"id"`
	Disks []upkeep.ScrubStarted `json:"disks,omitempty"`
	Error string                `json:"error,omitempty"`
}

// shardCounts are what a disk's comparison with others relies on instead of hearing them,
// so none is of a replica that lags.
func (n *Node) shardCounts() upkeep.ShardCounts { return n.strict }

// openHealing builds what finds damage and what mends it, on nodes with disks.
func (n *Node) openHealing() (err error) {
	if len(n.cfg.Disks) == 0 {
		return nil
	}
	layout := n.region.Layout
	n.mender, err = upkeep.NewMender(upkeep.MenderConfig{
		Disks: func() (out []upkeep.MendDisk) {
			for _, d := range n.disks() {
				out = append(out, d)
			}
			return out
		},
		Shards: n.shardsFor(transport.CauseHeal), Layout: layout, DiskUp: n.region.DiskUp, Reports: n.checks, Zone: n.self.Zone, Dir: n.dataPath("scrub"),
		Rate:   int64(n.cfg.Heal.Rate),
		Logger: n.logger, Registry: n.metrics, Now: time.Now,
	})
	if err != nil {
		return err
	}
	n.restorer, err = upkeep.NewRestorer(upkeep.RestorerConfig{
		Disks: func() (out []upkeep.RestoreDisk) {
			for _, d := range n.disks() {
				out = append(out, d)
			}
			return out
		},
		Lists: n.shardsFor(transport.CauseResync), Mender: n.mender, Marks: n.catalog, Counts: n.shardCounts(), Partitions: n.file.Partitions,
		Logger: n.logger, Registry: n.metrics, Now: time.Now,
	})
	if err != nil {
		return err
	}
	n.mover, err = upkeep.NewMover(upkeep.MoverConfig{
		Disks: func() (out []upkeep.MoveDisk) {
			for _, d := range n.disks() {
				out = append(out, d)
			}
			return out
		},
		Node: n.self.ID, Layout: layout, Settled: n.settled, Moved: n.moves.add,
		Lists: n.shardsFor(transport.CauseRebalance), Append: n.shardsFor(transport.CauseRebalance), Mender: n.mender,
		Counts: n.shardCounts(), Partitions: n.file.Partitions, Logger: n.logger, Registry: n.metrics, Now: time.Now,
	})
	if err != nil {
		return err
	}
	if err := n.openHealers(); err != nil {
		return err
	}
	if err := n.openSweeper(); err != nil {
		return err
	}
	n.scrubber, err = upkeep.NewScrubber(upkeep.ScrubberConfig{
		Disks: func() (out []upkeep.ScrubDisk) {
			for _, d := range n.disks() {
				out = append(out, d)
			}
			return out
		},
		Groups: func() int {
			if l := layout(); l != nil {
				return len(l.Groups)
			}
			return 0
		},
		Dir: n.dataPath("scrub"), Period: time.Duration(n.cfg.Scrub.Period), Rate: int64(n.cfg.Scrub.Rate),
		Logger: n.logger, Registry: n.metrics, Now: time.Now,
	})
	return err
}

// allShards reaches the disks of any node, for clients' requests.
func (n *Node) allShards() allShards { return n.shardsFor(transport.CauseAuto) }

// shardsFor is allShards for a cause of its own, by which bytes between zones are
// counted.
func (n *Node) shardsFor(cause transport.Cause) allShards {
	return allShards{self: n.cfg.Node, local: n.local, remote: transport.Shards{Client: n.client, Cause: cause}}
}

// Scrub has every node of the region verify all of its shards now.
func (n *Node) Scrub(ctx context.Context) (any, error) {
	var nodes []SeedMember
	for _, m := range n.peers() {
		if m.Role == cluster.RoleStorage {
			nodes = append(nodes, m)
		}
	}
	out := &ScrubAnswer{Nodes: make([]ScrubNode, len(nodes))}
	var g errgroup.Group
	for i, m := range nodes {
		g.Go(func() error {
			r := ScrubNode{ID: m.ID}
			raw, err := n.askScrub(ctx, m.ID)
			if err == nil {
				err = json.Unmarshal(raw, &r.Disks)
			}
			if err != nil {
				r.Error = err.Error()
			}
			out.Nodes[i] = r
			return nil
		})
	}
	_ = g.Wait() // each error is in the answer
	for _, r := range out.Nodes {
		if r.Error == "" {
			return out, nil
		}
	}
	return nil, fmt.Errorf("no node could be asked: %s", out.Nodes[0].Error)
}

func (n *Node) askScrub(ctx context.Context, id cluster.NodeID) ([]byte, error) {
	if id == n.self.ID {
		return n.startScrubJSON()
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return n.client.CallMetaAgain(ctx, id, methodScrub, nil)
}

// startScrubJSON serves methodScrub.
func (n *Node) startScrubJSON() ([]byte, error) {
	if n.scrubber == nil {
		return nil, fmt.Errorf("%w: node %s has no disks", cluster.ErrInvalid, n.self.ID)
	}
	return json.Marshal(n.scrubber.StartNow())
}

// reportHealing adds to a disk's report what the scrub and the mender know.
func (n *Node) reportHealing(r *DiskReport) {
	if s := n.mender.Stuck(r.ID); s.Shards > 0 {
		r.Stuck = &s
	}
	if p, ok := n.restorer.Progress(r.ID); ok {
		r.Restore = &p
	}
	if p, ok := n.mover.Progress(r.ID); ok {
		r.Move = &p
	}
	r.Kept = n.mover.Kept(r.ID)
	if p, ok := n.scrubber.Progress(r.ID); ok {
		r.Scrub = &p
	}
	if p, ok := n.sweeper.Progress(r.ID); ok {
		r.Orphans = &p
	}
}
