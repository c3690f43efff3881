package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/server/upkeep"

	"github.com/fxamacker/cbor/v2"
)

// facts is how upkeep sees the region and writes what it has judged.
type facts struct{ n *Node }

func (f facts) Layout() *cluster.Layout      { return f.n.region.Layout() }
func (f facts) ZoneDown(z cluster.Zone) bool { return f.n.region.ZoneDown(z) }
func (f facts) rootLeader() bool             { return f.n.leads(catalog.Root) }

// Alive is about shards: a node whose disks are all out of service holds none.
func (f facts) Alive(id cluster.NodeID) bool {
	return (id == f.n.self.ID || f.n.gossip.Alive(id)) && f.n.region.TakesShards(id)
}

// SetZone proposes the state of a zone.
func (f facts) SetZone(ctx context.Context, z cluster.Zone, down bool) error {
	value, err := json.Marshal(ZoneState{Down: down, Since: time.Now().UnixNano()})
	if err != nil {
		return err
	}
	_, err = f.n.catalog.PutConfig(ctx, metadata.PutConfig{Key: keyZonePrefix + string(z), Value: value, Any: true})
	if err == nil {
		err = f.n.region.refresh()
	}
	return err
}

// Founders are the members with their disks once all have registered.
func (f facts) Founders() []cluster.Member {
	members := f.n.region.Members()
	if len(members) < len(f.n.file.Members) {
		return nil
	}
	return members
}

// PutLayout proposes the first layout.
func (f facts) PutLayout(ctx context.Context, l *cluster.Layout) error {
	value, err := cbor.Marshal(l)
	if err != nil {
		return err
	}
	_, err = f.n.catalog.PutConfig(ctx, metadata.PutConfig{Key: keyLayout, Value: value})
	if errors.Is(err, metadata.ErrConflict) {
		err = nil // another leader was first
	}
	if err == nil {
		err = f.n.region.refresh()
	}
	return err
}

// upkeep lists this node's background tasks.
func (n *Node) upkeep() []func(context.Context) error {
	f := facts{n}
	tasks := []func(context.Context) error{
		(&upkeep.ZoneJudge{Facts: f, Leader: f.rootLeader, Logger: n.logger, Now: time.Now,
			Every: 100 * time.Millisecond, DownAfter: 200 * time.Millisecond, UpAfter: time.Second, Warm: 10 * time.Second}).Run,
		(&upkeep.Founder{Facts: f, Leader: f.rootLeader, Logger: n.logger, Every: 100 * time.Millisecond,
			Zones: n.file.Zones, Profile: n.file.Profile, PGs: n.file.PGs}).Run,
		(&upkeep.BucketFinisher{Buckets: n.catalog, Leader: f.rootLeader, Logger: n.logger, Now: time.Now,
			Every: 15 * time.Second, After: 30 * time.Second}).Run,
	}
	if len(n.cfg.Disks) == 0 {
		// The witness leads only while it hands leadership over, and stays out of
		// the way of shards.
		return tasks
	}
	grace := time.Duration(n.cfg.GarbageGrace)
	return append(tasks, n.checks.Run, n.mender.Run, n.restorer.Run, n.scrubber.Run, (&upkeep.Reclaimer{Queue: n.catalog, Blobs: n.store, Partitions: n.file.Partitions,
		Leads: n.leads, Grace: grace, Every: min(30*time.Second, max(time.Second, grace/4)),
		Logger: n.logger, Registry: n.metrics, Now: time.Now}).Run)
}
