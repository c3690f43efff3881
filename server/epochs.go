package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"

	"github.com/fxamacker/cbor/v2"
)

// Groups that were recovered by force run under a later epoch, and their former voters
// were declared dead. Those hear nothing of it, since nobody of another epoch is heard;
// a majority of them could even go on by itself. So every node says with each answer to
// a probe how often groups of its were recovered, and who hears of an epoch later than
// its own holds its replica.

// recovered is the sum of the epochs of this node's replicas: it only grows.
func (n *Node) recovered() uint64 {
	var sum uint64
	for _, s := range n.host.Status() {
		sum += uint64(s.Epoch)
	}
	return sum
}

// epochs of this node's replicas that are not zero, for methodEpochs.
func (n *Node) epochs() map[replica.GroupID]uint32 {
	out := map[replica.GroupID]uint32{}
	for _, s := range n.host.Status() {
		if s.Epoch > 0 && s.Role != replica.RoleHeld {
			out[s.Group] = s.Epoch
		}
	}
	return out
}

// holdRecovered asks nodes for their epochs and holds what is of an earlier one.
func (n *Node) holdRecovered(ctx context.Context, ids []cluster.NodeID, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			raw, err := n.client.CallMetaAgain(ctx, id, methodEpochs, nil)
			var theirs map[replica.GroupID]uint32
			if err == nil {
				err = cbor.Unmarshal(raw, &theirs)
			}
			if err != nil {
				n.logger.Debug("a node does not tell its epochs", "peer", id, "err", err)
				return
			}
			for g, epoch := range theirs {
				if held, err := n.host.HoldOld(g, epoch); err != nil {
					n.logger.Warn("a replica of an earlier epoch could not be held", "group", uint32(g), "err", err)
				} else if held {
					n.logger.Error("a metadata group was recovered by force while this node was away; its replica here is held", "group", uint32(g), "peer", id)
				}
			}
		})
	}
	wg.Wait()
}

// watchRecovered holds what is found to be of an earlier epoch, until ctx ends.
func (n *Node) watchRecovered(ctx context.Context) error {
	t := time.NewTicker(300 * time.Millisecond)
	defer t.Stop()
	seen := map[cluster.NodeID]uint64{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		var ask []cluster.NodeID
		for id, view := range n.reach.Views() {
			if view.Recovered > 0 && seen[id] != view.Recovered {
				seen[id] = view.Recovered
				ask = append(ask, id)
			}
		}
		if len(ask) > 0 {
			n.holdRecovered(ctx, ask, 2*time.Second)
		}
	}
}

func (n *Node) handleEpochs() ([]byte, error) {
	raw, err := cbor.Marshal(n.epochs())
	if err != nil {
		return nil, fmt.Errorf("epochs: %w", err)
	}
	return raw, nil
}
