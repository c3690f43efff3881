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

// Alive is about shards: a node whose disks are all out of service holds none, and
// one that this zone cannot reach takes none.
func (f facts) Alive(id cluster.NodeID) bool { return f.gossiped(id) && !f.n.cutOff(id) }

func (f facts) gossiped(id cluster.NodeID) bool {
	return (id == f.n.self.ID || f.n.gossip.Alive(id)) && f.n.region.TakesShards(id)
}

// SetZone proposes the state of a zone.
func (f facts) SetZone(ctx context.Context, z cluster.Zone, down bool) error {
	value, err := json.Marshal(ZoneState{Down: down, Cut: down && f.zoneCut(z), Since: time.Now().UnixNano()})
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

// comparer builds what works after forced recoveries. What is told to a
// home as all that a partition names must be all, so no answer is of a replica that lags.
func (n *Node) comparer() *upkeep.Comparer {
	return &upkeep.Comparer{Book: n.strict, Partitions: n.file.Partitions, Leads: n.leads, Every: time.Second, Logger: n.logger, Now: time.Now}
}

// upkeep lists this node's background tasks.
func (n *Node) upkeep() []func(context.Context) error {
	f := facts{n}
	tasks := []func(context.Context) error{
		(&upkeep.ZoneJudge{Facts: f, Leader: f.rootLeader, Logger: n.logger, Now: time.Now,
			Every: 100 * time.Millisecond, DownAfter: 200 * time.Millisecond, UpAfter: time.Second, Warm: 10 * time.Second,
			Calm: 5 * time.Minute, MaxUpAfter: time.Minute}).Run,
		n.caretaker.Run,
		(&upkeep.Clock{Every: n.clockEvery(), Logger: n.logger, Report: n.reportClock}).Run,
		(&upkeep.Founder{Facts: f, Leader: f.rootLeader, Logger: n.logger, Every: 100 * time.Millisecond,
			Zones: n.file.Zones, Profile: n.file.Profile, PGs: n.file.PGs}).Run,
		(&upkeep.BucketFinisher{Buckets: n.catalog, Leader: f.rootLeader, Logger: n.logger, Now: n.catalog.Now,
			Every: 15 * time.Second, After: 30 * time.Second, Keep: 24 * time.Hour}).Run,
		n.census.Run,
	}
	if len(n.cfg.Disks) == 0 {
		// The witness leads only while it hands leadership over, and stays out of
		// the way of shards.
		return tasks
	}
	grace := time.Duration(n.cfg.GarbageGrace)
	every := min(30*time.Second, max(time.Second, grace/4))
	return append(tasks, n.checks.Run, n.mender.Run, n.restorer.Run, n.mover.Run, n.healer.Run, n.absences.Run, n.scrubber.Run, n.sweeper.Run, n.lifecycle.Run,
		(&upkeep.ReferenceKeeper{Book: n.catalog, Partitions: n.file.Partitions, Leads: n.leads, Every: every, Logger: n.logger, Now: n.catalog.Now}).Run,
		n.comparer().Run,
		(&upkeep.Reclaimer{Queue: n.catalog, Blobs: n.store, Partitions: n.file.Partitions, Leads: n.leads, Grace: grace, Every: every,
			Logger: n.logger, Registry: n.metrics, Now: n.catalog.Now}).Run)
}
