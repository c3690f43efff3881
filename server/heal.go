package server

import (
	"context"
	"fmt"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/transport"
	"bivalve/server/upkeep"

	"github.com/fxamacker/cbor/v2"
)

// healAnswer answers methodHeal: what was healed, and why the rest was not.
type healAnswer struct {
	Healed uint64 `cbor:"1,keyasint"`
	Why    string `cbor:"2,keyasint,omitempty"`
}

// healHands have any node rebuild shards (upkeep.HealHands).
type healHands struct {
	n *Node
	allShards
}

func (h healHands) HealChunk(ctx context.Context, to cluster.NodeID, c upkeep.LackingChunk) (uint64, error) {
	if to == h.n.self.ID {
		return h.n.rebuilder.Heal(ctx, c)
	}
	body, err := cbor.Marshal(c)
	if err != nil {
		return 0, err
	}
	raw, err := h.n.client.CallMetaAgain(ctx, to, methodHeal, body)
	if err != nil {
		return 0, err
	}
	var a healAnswer
	if err := cbor.Unmarshal(raw, &a); err != nil {
		return 0, fmt.Errorf("node %s: %w: %w", to, cluster.ErrInvalid, err)
	}
	if a.Why != "" {
		return a.Healed, fmt.Errorf("node %s: %s", to, a.Why)
	}
	return a.Healed, nil
}

// handleHeal serves methodHeal.
func (n *Node) handleHeal(ctx context.Context, body []byte) ([]byte, error) {
	var c upkeep.LackingChunk
	if err := cbor.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	if n.rebuilder == nil {
		return nil, fmt.Errorf("%w: node %s has no disks", cluster.ErrInvalid, n.self.ID)
	}
	healed, err := n.rebuilder.Heal(ctx, c)
	a := healAnswer{Healed: healed}
	if err != nil {
		a.Why = err.Error()
	}
	return cbor.Marshal(a)
}

// openHealers builds what keeps every object at full protection.
func (n *Node) openHealers() (err error) {
	shards := n.shardsFor(transport.CauseHeal)
	if n.rebuilder, err = upkeep.NewRebuilder(n.mender, shards, n.cfg.Heal.Parallel, n.metrics); err != nil {
		return err
	}
	n.healer, err = upkeep.NewHealer(upkeep.HealerConfig{
		Queue: n.catalog, Hands: healHands{n, shards}, Layout: n.region.Layout, DiskUp: n.region.DiskUp, Changed: n.region.Changed,
		Leads: n.leads, Partitions: n.file.Partitions, Logger: n.logger, Registry: n.metrics, Now: time.Now,
	})
	if err != nil {
		return err
	}
	n.absences = upkeep.NewAbsenceWatch(upkeep.AbsenceConfig{
		Marks: n.catalog, Lists: n.shardsFor(transport.CauseResync), Layout: n.region.Layout, DiskUp: n.region.DiskUp, ZoneDown: n.region.ZoneDown,
		Leader: facts{n}.rootLeader, Partitions: n.file.Partitions, After: time.Duration(n.cfg.Heal.After), Logger: n.logger, Now: time.Now,
	})
	return nil
}
