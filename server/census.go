package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/transport"
	"bivalve/server/admin"
	"bivalve/server/upkeep"
)

// CensusAnswer is how far a census is, or what it has found.
type CensusAnswer struct {
	Node   cluster.NodeID `json:"node"` // that carries it out
	Agrees bool           `json:"agrees"`
	upkeep.CensusReport
}

// openCensus builds what counts.
func (n *Node) openCensus() error {
	n.census = upkeep.NewCensus(upkeep.CensusConfig{
		Index: n.strict, Lists: n.shardsFor(transport.CauseScrub), DiskUp: n.region.DiskUp, Partitions: n.file.Partitions,
		Layout: func(ctx context.Context) (*cluster.Layout, error) {
			v, err := n.agreedView(ctx)
			if err != nil {
				return nil, err
			}
			return v.Layout(), nil
		},
		Total: func(ctx context.Context) (shards int64) {
			s := &Status{}
			n.askNodes(ctx, s)
			for _, node := range s.Nodes {
				if node.Local != nil {
					for _, d := range node.Local.Disks {
						shards += d.Shards
					}
				}
			}
			return shards
		},
		Logger: n.logger, Now: time.Now,
	})
	return errors.Join(n.metrics.Register(newProtectionMetrics(n)), n.metrics.Register(newBucketMetrics(n)))
}

// StartCensus begins a census on this node, or tells how far the one under way is.
func (n *Node) StartCensus(fix bool) (*CensusAnswer, error) {
	r, err := n.census.Start(fix)
	if errors.Is(err, upkeep.ErrCensusUnderWay) {
		err = fmt.Errorf("%w: %w", admin.ErrRefused, err)
	}
	if err != nil {
		return nil, err
	}
	return &CensusAnswer{Node: n.self.ID, Agrees: r.Agrees(), CensusReport: r}, nil
}

// Census is the last census that was asked of this node.
func (n *Node) Census() (*CensusAnswer, error) {
	r, ok := n.census.Report()
	if !ok {
		return nil, fmt.Errorf("%w: no census was asked of node %s since it started", admin.ErrRefused, n.self.ID)
	}
	return &CensusAnswer{Node: n.self.ID, Agrees: r.Agrees(), CensusReport: r}, nil
}

func (n *Node) censusOrders(out map[string]admin.Order) {
	out["POST /v1/census"] = func(_ context.Context, r *http.Request) (any, error) {
		return n.StartCensus(r.URL.Query().Get("fix") == "true")
	}
	out["GET /v1/census"] = func(context.Context, *http.Request) (any, error) { return n.Census() }
}
