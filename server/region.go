package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/reach"
	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"

	"github.com/fxamacker/cbor/v2"
)

// Keys of the region's configuration in the root group.
const (
	keyLayout       = "layout"
	keyMemberPrefix = "member/"
	keyZonePrefix   = "zone/"
	keyFailedPrefix = "failed/" // + node: which of its disks are out of service
	keyMovedPrefix  = "moved/"  // + node: which slots of the layout it has in full
	keySlowPrefix   = "slow/"   // + node: what it finds slow
	keyStatePrefix  = "state/"  // + node/<id> or disk/<id>: what the operator wants of it
)

// moved is the value of "moved/<node>": slots that were moving in the epoch and
// whose owner, a disk of the node, has all of their shards now.
type moved struct {
	Epoch cluster.Epoch  `cbor:"1,keyasint"`
	Slots []cluster.Slot `cbor:"2,keyasint"` // in order
}

// StateRecord is the value of "state/...".
type StateRecord struct {
	State cluster.State `json:"state"`
	Since int64         `json:"since"` // Unix nanoseconds, by the clock of who proposed it
}

// ZoneState is the agreed fact about a zone, value of "zone/<name>".
type ZoneState struct {
	Down  bool  `json:"down"`
	Cut   bool  `json:"cut,omitempty"` // down because the other zone cannot reach it
	Since int64 `json:"since"`         // Unix nanoseconds, by the clock of who proposed it
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
	reach     *reach.Prober
	stranded  func() error

	mu       sync.RWMutex
	agreed   *cluster.Layout // as the root group has it
	layout   *cluster.Layout // without the slots that have moved since
	moved    map[cluster.NodeID]moved
	states   map[string]StateRecord // by node/<id>, disk/<id>
	members  map[cluster.NodeID]cluster.Member
	zones    map[cluster.Zone]ZoneState
	failed   map[cluster.NodeID][]cluster.DiskID
	slow     map[cluster.NodeID]slowRecord
	groups   map[replica.GroupID]GroupMembers
	evicted  map[cluster.NodeID]bool
	revision map[string]uint64
	changed  chan struct{}

	slowNodes map[cluster.NodeID]bool // by the voices in slow
}

func newRegion(self cluster.NodeID, logger *slog.Logger) *Region {
	return &Region{self: self, logger: logger, members: map[cluster.NodeID]cluster.Member{},
		zones: map[cluster.Zone]ZoneState{}, failed: map[cluster.NodeID][]cluster.DiskID{},
		groups: map[replica.GroupID]GroupMembers{}, evicted: map[cluster.NodeID]bool{}, revision: map[string]uint64{}, changed: make(chan struct{}),
		slow: map[cluster.NodeID]slowRecord{}, moved: map[cluster.NodeID]moved{}, states: map[string]StateRecord{}}
}

// Layout is the current one, its moving slots those that are still moving; nil
// until the region has one.
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

// Stranded is why nothing can be committed from this node at present.
func (r *Region) Stranded() error { return r.stranded() }

// NodeUp is gossip's opinion and that of whoever asks the node directly; a node of
// a zone that is agreed to be down is not up.
func (r *Region) NodeUp(id cluster.NodeID) bool {
	if id == r.self {
		return true
	}
	r.mu.RLock()
	down := r.zones[r.members[id].Zone].Down
	r.mu.RUnlock()
	return !down && r.gossip.Alive(id) && !r.reach.Missing(id)
}

// DiskUp tells whether it makes sense to ask the disk for anything.
func (r *Region) DiskUp(d cluster.Disk) bool {
	if r.DiskState(d) == cluster.StateRemoved {
		return false
	}
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

// GroupMembers are the members of a metadata group that its leader last published; of
// one that still has its founding members there are none.
func (r *Region) GroupMembers(g replica.GroupID) (GroupMembers, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok := r.groups[g]
	return m, ok
}

// Evicted tells whether a node is to give its replicas away.
func (r *Region) Evicted(id cluster.NodeID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.evicted[id]
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

func (r *Region) take(v metadata.ConfigValue) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revision[v.Key] >= v.Revision {
		return nil // another refresh was faster
	}
	r.revision[v.Key] = v.Revision
	switch {
	case v.Key == keyLayout:
		err = r.takeLayout(v.Value)
	case hasPrefix(v.Key, keyMovedPrefix):
		if _, err = keep(v, keyMovedPrefix, cbor.Unmarshal, r.moved); err == nil {
			r.settleLayout()
		}
	case hasPrefix(v.Key, keyStatePrefix):
		var s StateRecord
		if s, err = keep(v, keyStatePrefix, json.Unmarshal, r.states); err == nil {
			r.settleLayout()
			r.settleSlow()
			r.logger.Info("state", "of", v.Key[len(keyStatePrefix):], "state", s.State)
		}
	case hasPrefix(v.Key, keyMemberPrefix):
		if _, err = keep(v, keyMemberPrefix, cbor.Unmarshal, r.members); err == nil {
			r.settleSlow()
		}
	case hasPrefix(v.Key, keyFailedPrefix):
		_, err = keep(v, keyFailedPrefix, cbor.Unmarshal, r.failed)
	case hasPrefix(v.Key, keySlowPrefix):
		if _, err = keep(v, keySlowPrefix, cbor.Unmarshal, r.slow); err == nil {
			r.settleSlow()
		}
	case hasPrefix(v.Key, keyGroupPrefix):
		err = r.takeGroup(v)
	case hasPrefix(v.Key, keyEvictPrefix):
		_, err = keep(v, keyEvictPrefix, json.Unmarshal, r.evicted)
	case hasPrefix(v.Key, keyZonePrefix):
		err = r.takeZone(v)
	}
	return err
}

// keep decodes a value into the map of its kind, by what follows the prefix of its key.
func keep[K ~string, V any](v metadata.ConfigValue, prefix string, decode func([]byte, any) error, into map[K]V) (V, error) {
	var x V
	err := decode(v.Value, &x)
	if err == nil {
		into[K(v.Key[len(prefix):])] = x
	}
	return x, err
}

func (r *Region) takeLayout(raw []byte) error {
	l, err := decodeLayout(raw)
	if err != nil {
		return err
	}
	r.agreed = l
	r.settleLayout()
	r.logger.Info("layout", "epoch", l.Epoch, "pgs", len(l.Groups), "disks", len(l.Disks), "moving", len(r.layout.Moving))
	return nil
}

func (r *Region) takeGroup(v metadata.ConfigValue) error {
	var m GroupMembers
	g, err := strconv.ParseUint(v.Key[len(keyGroupPrefix):], 10, 32)
	if err == nil {
		err = json.Unmarshal(v.Value, &m)
	}
	if err != nil || m.Version != 1 {
		return fmt.Errorf("members of version %d: %w", m.Version, err)
	}
	r.groups[replica.GroupID(g)] = m
	return nil
}

func (r *Region) takeZone(v metadata.ConfigValue) error {
	z, err := keep(v, keyZonePrefix, json.Unmarshal, r.zones)
	if err != nil {
		return err
	}
	r.settleSlow()
	if name := v.Key[len(keyZonePrefix):]; z.Down {
		r.logger.Warn("zone is down; writes go on in the other", "zone", name)
	} else {
		r.logger.Info("zone is up", "zone", name)
	}
	return nil
}

// settleLayout takes what has moved, and disks that are removed, out of the layout
// that was agreed. A node speaks for the slots of its own disks only.
func (r *Region) settleLayout() {
	if r.agreed == nil {
		return
	}
	r.layout = settled(r.agreed, r.moved).Forsake(func(d cluster.Disk) bool { return r.stateOf(d) == cluster.StateRemoved })
}

func settled(l *cluster.Layout, by map[cluster.NodeID]moved) *cluster.Layout {
	return l.Moved(func(s cluster.Slot) bool {
		m := by[l.Disk(s.PG, s.Index).Node]
		_, done := slices.BinarySearchFunc(m.Slots, s, cluster.Slot.Compare)
		return done && m.Epoch == l.Epoch
	})
}

// NodeState is what the operator wants of a node.
func (r *Region) NodeState(id cluster.NodeID) cluster.State {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.states[stateOfNode(id)].State.Worse("")
}

// DiskState is what the operator wants of a disk: what he wants of it or of its
// node, whichever leaves less.
func (r *Region) DiskState(d cluster.Disk) cluster.State {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.stateOf(d)
}

func (r *Region) stateOf(d cluster.Disk) cluster.State {
	return r.states[stateOfDisk(d.ID)].State.Worse(r.states[stateOfNode(d.Node)].State)
}

func stateOfNode(id cluster.NodeID) string { return "node/" + string(id) }
func stateOfDisk(id cluster.DiskID) string { return "disk/" + id.String() }

// MovedBy lists the slots of this layout that a node has reported as moved.
func (r *Region) MovedBy(id cluster.NodeID, e cluster.Epoch) []cluster.Slot {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if m := r.moved[id]; m.Epoch == e {
		return m.Slots
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
