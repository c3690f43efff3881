package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/catalog"

	"github.com/fxamacker/cbor/v2"
)

// Keys of the region's configuration in the root group.
const (
	keyLayout       = "layout"
	keyMemberPrefix = "member/"
	keyZonePrefix   = "zone/"
	keyFailedPrefix = "failed/" // + node: which of its disks are out of service
)

// ZoneState is the agreed fact about a zone, value of "zone/<name>".
type ZoneState struct {
	Down  bool  `json:"down"`
	Since int64 `json:"since"` // Unix nanoseconds, by the clock of who proposed it
}

// Region is what this node knows: the layout, the members and the state of the
// zones from its copy of the root group, and who is alive from gossip. It is safe
// for concurrent use.
type Region struct {
	self    cluster.NodeID
	catalog *catalog.Catalog
	logger  *slog.Logger
	gossip  interface {
		Alive(cluster.NodeID) bool
		Changes() <-chan struct{}
	}
	localDisk func(cluster.DiskID) error // why a disk of this node takes no writes

	mu       sync.RWMutex
	layout   *cluster.Layout
	members  map[cluster.NodeID]cluster.Member
	zones    map[cluster.Zone]ZoneState
	failed   map[cluster.NodeID][]cluster.DiskID
	revision map[string]uint64
	changed  chan struct{}
}

func newRegion(self cluster.NodeID, logger *slog.Logger) *Region {
	return &Region{self: self, logger: logger, members: map[cluster.NodeID]cluster.Member{},
		zones: map[cluster.Zone]ZoneState{}, failed: map[cluster.NodeID][]cluster.DiskID{}, revision: map[string]uint64{}, changed: make(chan struct{})}
}

// Layout is the current one; nil until the region has one.
func (r *Region) Layout() *cluster.Layout {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.layout
}

// ZoneDown is the agreed fact about a zone.
func (r *Region) ZoneDown(z cluster.Zone) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.zones[z].Down
}

// Zone is the agreed state of a zone with its time.
func (r *Region) Zone(z cluster.Zone) ZoneState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.zones[z]
}

// NodeUp is gossip's opinion; a node of a zone that is agreed to be down is not up.
func (r *Region) NodeUp(id cluster.NodeID) bool {
	if id == r.self {
		return true
	}
	r.mu.RLock()
	down := r.zones[r.members[id].Zone].Down
	r.mu.RUnlock()
	return !down && r.gossip.Alive(id)
}

// DiskUp tells whether it makes sense to ask the disk for a write.
func (r *Region) DiskUp(d cluster.Disk) bool {
	if d.Node == r.self {
		return r.localDisk(d.ID) == nil
	}
	return r.NodeUp(d.Node) && !slices.Contains(r.Failed(d.Node), d.ID)
}

// Failed are the disks that a node has reported out of service. The caller does
// not change the slice.
func (r *Region) Failed(id cluster.NodeID) []cluster.DiskID {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.failed[id]
}

// TakesShards tells whether a node has a disk that is not out of service.
func (r *Region) TakesShards(id cluster.NodeID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, known := r.members[id]
	return !known || slices.ContainsFunc(m.Disks, func(d cluster.Disk) bool { return !slices.Contains(r.failed[id], d.ID) })
}

// Changed is closed when any of the above may have changed.
func (r *Region) Changed() <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.changed
}

// Members are the registered nodes.
func (r *Region) Members() []cluster.Member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]cluster.Member, 0, len(r.members))
	for _, m := range r.members {
		out = append(out, m)
	}
	return out
}

// Member is one registered node, as it registered.
func (r *Region) Member(id cluster.NodeID) cluster.Member {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.members[id]
}

// notify wakes whoever waits on Changed.
func (r *Region) notify() {
	r.mu.Lock()
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
}

// askOthers is how long a node whose own copy of the root group is away waits for
// another's.
const askOthers = 2 * time.Second

// refresh reads this node's copy of the root group, or that of another.
func (r *Region) refresh() error {
	values, err := r.catalog.GetConfigLocal("")
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), askOthers)
		defer cancel()
		values, err = r.catalog.GetConfig(ctx, "")
	}
	if err != nil {
		return err
	}
	for _, v := range values {
		r.mu.RLock()
		known := r.revision[v.Key] >= v.Revision
		r.mu.RUnlock()
		if known {
			continue
		}
		if err := r.take(v); err != nil {
			// One value that this binary cannot read must not hide the others.
			r.logger.Error("unreadable configuration value", "key", v.Key, "err", err)
		}
	}
	return nil
}

func (r *Region) take(v metadata.ConfigValue) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revision[v.Key] >= v.Revision {
		return nil // another refresh was faster
	}
	r.revision[v.Key] = v.Revision
	switch {
	case v.Key == keyLayout:
		l, err := decodeLayout(v.Value)
		if err != nil {
			return err
		}
		r.layout = l
		r.logger.Info("layout", "epoch", l.Epoch, "pgs", len(l.Groups), "disks", len(l.Disks))
	case hasPrefix(v.Key, keyMemberPrefix):
		var m cluster.Member
		if err := cbor.Unmarshal(v.Value, &m); err != nil {
			return err
		}
		r.members[m.ID] = m
	case hasPrefix(v.Key, keyFailedPrefix):
		var failed []cluster.DiskID
		if err := cbor.Unmarshal(v.Value, &failed); err != nil {
			return err
		}
		r.failed[cluster.NodeID(v.Key[len(keyFailedPrefix):])] = failed
	case hasPrefix(v.Key, keyZonePrefix):
		var z ZoneState
		if err := json.Unmarshal(v.Value, &z); err != nil {
			return err
		}
		name := cluster.Zone(v.Key[len(keyZonePrefix):])
		r.zones[name] = z
		if z.Down {
			r.logger.Warn("zone is down; writes go on in the other", "zone", name)
		} else {
			r.logger.Info("zone is up", "zone", name)
		}
	}
	return nil
}

func hasPrefix(s, prefix string) bool { return len(s) > len(prefix) && s[:len(prefix)] == prefix }

func decodeLayout(raw []byte) (*cluster.Layout, error) {
	mode, err := cbor.DecOptions{MaxArrayElements: 1 << 20}.DecMode()
	if err != nil {
		return nil, err
	}
	l := &cluster.Layout{}
	if err := mode.Unmarshal(raw, l); err != nil {
		return nil, err
	}
	zones := map[cluster.NodeID]cluster.Zone{}
	for pg := range l.Groups {
		for i := range l.Groups[pg] {
			if int(l.Groups[pg][i]) < len(l.Disks) && i < 2*l.Profile.PerZone() {
				zones[l.Disk(cluster.PG(pg), cluster.ShardIndex(i)).Node] = l.ZoneOf(cluster.PG(pg), cluster.ShardIndex(i))
			}
		}
	}
	// A node that stands in both zones fails here, as do wrong sizes.
	if err := l.Validate(func(n cluster.NodeID) cluster.Zone { return zones[n] }); err != nil {
		return nil, fmt.Errorf("layout of epoch %d: %w", l.Epoch, err)
	}
	return l, nil
}
