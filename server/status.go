package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
	"bivalve/server/upkeep"

	"golang.org/x/sync/errgroup"
)

// Status is what operators see of the region, as one node knows it now.
type Status struct {
	Cluster   string          `json:"cluster"`
	Region    string          `json:"region"`
	Asked     cluster.NodeID  `json:"asked"` // the node that answers
	Version   string          `json:"version"`
	Level     uint8           `json:"command_level"` // that all nodes have
	Epoch     cluster.Epoch   `json:"layout_epoch"`
	Profile   cluster.Profile `json:"profile"`
	Encrypt   string          `json:"transport_encrypt"`
	Relay     bool            `json:"transport_relay"` // of the node that answers
	Zones     []ZoneReport    `json:"zones"`
	Nodes     []NodeReport    `json:"nodes"`
	Groups    []GroupReport   `json:"groups"`
	Protected Protection      `json:"protection"`
	Disks     []DiskRisk      `json:"disks"`    // of the layout, by node
	Problems  []string        `json:"problems"` // what could not be found out
	Alerts    []string        `json:"alerts"`   // what an operator should look at

	Traffic map[string]Traffic `json:"between_zones"` // by cause, all nodes that answered together, since each started
}

// ZoneReport is one data zone. Lost is how many objects could not be read if the
// zone died now.
type ZoneReport struct {
	Zone  cluster.Zone `json:"zone"`
	Down  bool         `json:"down"`
	Cut   bool         `json:"cut,omitempty"` // down because the other zone cannot reach it
	Since time.Time    `json:"since,omitzero"`
	Lost  int64        `json:"lost_if_it_died"`

	CatchUp *CatchUp `json:"catch_up,omitempty"` // nil: it has all that it should have
}

// NodeReport is one node. Local is nil when it could not be asked.
type NodeReport struct {
	ID    cluster.NodeID `json:"id"`
	Zone  cluster.Zone   `json:"zone"`
	Role  cluster.Role   `json:"role"`
	State cluster.State  `json:"state"` // what the region has agreed to do with it
	Alive bool           `json:"alive"`
	S3    string         `json:"s3,omitempty"`
	// Slow: it answers its peers slowly, and is avoided; SlowLog: its metadata log is
	// slow, and it leads no group.
	Slow    bool         `json:"slow,omitempty"`
	SlowLog bool         `json:"slow_log,omitempty"`
	Local   *LocalStatus `json:"local,omitempty"`
	CatchUp *CatchUp     `json:"catch_up,omitempty"` // nil: it has all that it should have
}

// LocalStatus is what a node says of itself.
type LocalStatus struct {
	Version string    `json:"version"`
	Level   uint8     `json:"command_level"` // metadata.Level of its program
	Started time.Time `json:"started"`
	Ready   string    `json:"not_ready,omitempty"` // why not; "" = ready
	// Skew is how far its clock is before the others'; Missing are the nodes that it
	// asks and that do not answer it.
	Skew    time.Duration    `json:"clock_skew_ns"`
	Missing []cluster.NodeID `json:"missing,omitempty"`
	// ReadOnly: the read-only mode is on; Stranded is why nothing can be committed here.
	ReadOnly bool          `json:"read_only,omitempty"`
	Stranded string        `json:"stranded,omitempty"`
	Disks    []DiskReport  `json:"disks"`
	Groups   []LocalReport `json:"groups"`
	// Lifecycle is how far it has come in the partitions that it leads.
	Lifecycle []upkeep.LifecycleProgress `json:"lifecycle,omitempty"`

	Traffic map[string]Traffic `json:"between_zones"` // that this node's calls moved, by cause

	HealRate float64 `json:"heal_bytes_per_second"` // of missing shards that it makes good for its zone
}

// DiskReport is one disk; sizes in bytes.
type DiskReport struct {
	ID       cluster.DiskID `json:"id"`
	Path     string         `json:"path"`
	Capacity int64          `json:"capacity"`
	Free     int64          `json:"free"`
	Live     int64          `json:"live"`
	Dead     int64          `json:"dead"`
	Shards   int64          `json:"shards"`
	Damaged  int64          `json:"damaged"`       // shards, now
	Found    int64          `json:"damaged_total"` // since the disk was opened
	Mended   int64          `json:"mended"`        // likewise
	State    disk.State     `json:"state"`
	Failed   string         `json:"failed,omitempty"` // why it takes no writes
	ReadP99  time.Duration  `json:"read_p99_ns"`      // of the last minute
	SyncP99  time.Duration  `json:"sync_p99_ns"`

	Stuck *upkeep.Stuck         `json:"stuck,omitempty"` // of the damaged, those that could not be mended yet
	Scrub *upkeep.ScrubProgress `json:"scrub,omitempty"`

	Move *upkeep.MoveProgress `json:"move,omitempty"`      // slots that a new layout gives it
	Kept int                  `json:"left_over,omitempty"` // shards of slots of others that too few of those know

	Orphans *upkeep.OrphanProgress `json:"orphans,omitempty"`

	Loss    string                  `json:"loss,omitempty"` // what was lost here and is being rebuilt
	Restore *upkeep.RestoreProgress `json:"restore,omitempty"`
}

// LocalReport is a node's replica of one metadata group.
type LocalReport struct {
	Group   replica.GroupID `json:"group"`
	Role    replica.Role    `json:"role"`
	Term    uint64          `json:"term"`
	Commit  uint64          `json:"commit"`
	Applied uint64          `json:"applied"`
	Durable uint64          `json:"durable"`
	Why     string          `json:"why,omitempty"` // it takes no part, if so

	Replica replica.ReplicaID `json:"replica"`
	Epoch   uint32            `json:"epoch,omitempty"` // of forced recoveries
	// What a leader adds: the members, how far each has the log, and what is being
	// changed.
	Voters   []replica.ReplicaID                 `json:"voters,omitempty"`
	Learners []replica.ReplicaID                 `json:"learners,omitempty"`
	Outgoing []replica.ReplicaID                 `json:"outgoing,omitempty"`
	Match    map[replica.ReplicaID]replica.Match `json:"match,omitempty"`
	Change   string                              `json:"change,omitempty"`
}

// GroupReport is one metadata group of the region; group 0 is the root group.
type GroupReport struct {
	Group  replica.GroupID  `json:"group"`
	Leader cluster.NodeID   `json:"leader,omitempty"`
	Voters []cluster.NodeID `json:"voters"`
	Alive  int              `json:"voters_alive"`

	Replicas []ReplicaReport `json:"replicas,omitempty"`
	Change   string          `json:"change,omitempty"` // of members, under way
}

// ReplicaReport is one member of a metadata group, as its leader sees it.
type ReplicaReport struct {
	ID     replica.ReplicaID `json:"id"`
	Node   cluster.NodeID    `json:"node"`
	Kind   string            `json:"kind"`   // voter, learner, leaving
	Lag    uint64            `json:"lag"`    // entries that it lacks
	Active bool              `json:"active"` // the leader hears it
}

// Ready says why the node cannot serve yet; nil when it can.
func (n *Node) Ready(ctx context.Context) error {
	if n.region.Layout() == nil {
		return fmt.Errorf("the region has no layout yet")
	}
	if _, err := n.catalog.GetConfig(ctx, keyLayout); err != nil { // the root group answers
		return err
	}
	if err := n.clockUnfit(); err != nil {
		return err
	}
	return n.metAll()
}

// settle is how long a node that has just started waits for the others.
const settle = 10 * time.Second

// metAll tells whom a node that has just started has not heard of yet: until it
// has, it would take them for dead and write objects that lack their shards. Nodes
// of a zone that is down are not waited for.
func (n *Node) metAll() error {
	if time.Since(n.started) > settle {
		return nil
	}
	for _, m := range n.peers() {
		if m.ID != n.self.ID && !n.region.ZoneDown(m.Zone) && !n.gossip.Alive(m.ID) {
			return fmt.Errorf("node %s has not been met yet", m.ID)
		}
	}
	return nil
}

// Status asks every node and adds up what they say.
func (n *Node) Status(ctx context.Context) (any, error) {
	s := &Status{Cluster: n.file.Cluster, Region: n.file.Name, Asked: n.self.ID, Version: Version, Level: n.catalog.Level(),
		Profile: n.file.Profile, Encrypt: string(n.cfg.Transport.Encrypt), Relay: n.relays(), Problems: []string{}, Alerts: []string{}}
	if l := n.region.Layout(); l != nil {
		s.Epoch = l.Epoch
	}
	n.askNodes(ctx, s)
	s.Traffic = sumTraffic(s.Nodes)
	n.reportGroups(s)
	n.reportProtection(ctx, s)
	reportCatchUp(s)
	s.Alerts = append(s.Alerts, alerts(s)...)
	return s, nil
}

// askNodes fills in the nodes, each with what it says of itself.
func (n *Node) askNodes(ctx context.Context, s *Status) {
	peers := n.peers()
	s.Nodes = make([]NodeReport, len(peers))
	var g errgroup.Group
	for i, m := range peers {
		r := NodeReport{State: n.region.NodeState(m.ID), ID: m.ID, Zone: m.Zone, Role: m.Role, S3: m.S3, Alive: m.ID == n.self.ID || n.gossip.Alive(m.ID),
			Slow: n.region.NodeSlow(m.ID), SlowLog: n.region.LogSlow(m.ID)}
		g.Go(func() error {
			defer func() { s.Nodes[i] = r }()
			if !r.Alive {
				return nil
			}
			nctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			raw, err := n.askStatus(nctx, m.ID)
			if err == nil {
				local := &LocalStatus{}
				if err = json.Unmarshal(raw, local); err == nil {
					r.Local = local
				}
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
}

func (n *Node) askStatus(ctx context.Context, id cluster.NodeID) ([]byte, error) {
	if id == n.self.ID {
		return n.localStatusJSON()
	}
	return n.client.CallMetaAgain(ctx, id, methodStatus, nil)
}

// localStatusJSON is what this node says of itself.
func (n *Node) localStatusJSON() ([]byte, error) {
	local := LocalStatus{Version: Version, Level: metadata.Level, Started: n.started, Disks: []DiskReport{}, Groups: []LocalReport{}, Traffic: n.traffic.Traffic()}
	local.Lifecycle = n.lifecycle.Progress()
	if n.rebuilder != nil {
		local.HealRate = n.rebuilder.Rate()
	}
	if n.region.Layout() == nil {
		local.Ready = "the region has no layout yet"
	} else if err := n.clockUnfit(); err != nil {
		local.Ready = err.Error()
	}
	local.ReadOnly = n.readOnly.Load()
	if err := n.stranded(); err != nil {
		local.Stranded = err.Error()
	}
	local.Skew, local.Missing = n.reach.Skew(), n.reach.Answer().Missing
	for _, slot := range n.slots.all() {
		local.Disks = append(local.Disks, n.reportDisk(slot))
	}
	for _, g := range n.host.Status() {
		r := LocalReport{Group: g.Group, Role: g.Role, Term: g.Term, Commit: g.Commit, Applied: g.Applied, Durable: g.Durable,
			Replica: g.Self, Epoch: g.Epoch}
		if g.Role == replica.RoleLeader {
			r.Voters, r.Learners, r.Outgoing, r.Match = g.Voters, g.Learners, g.VotersOutgoing, g.Match
			r.Change = n.caretaker.Pending(g.Group)
		}
		if g.Halted != nil {
			r.Why = g.Halted.Error()
		}
		local.Groups = append(local.Groups, r)
	}
	return json.Marshal(local)
}

// reportDisk describes one disk; one that is out of service as it was registered.
func (n *Node) reportDisk(s *diskSlot) DiskReport {
	d, err := s.get()
	if err != nil {
		r := DiskReport{Path: s.dir, Failed: err.Error()}
		s.mu.RLock()
		r.ID, r.State = s.id, s.state
		s.mu.RUnlock()
		for _, known := range n.region.Member(n.self.ID).Disks {
			if r.ID.IsZero() && known.Path == s.dir {
				r.ID = known.ID
			}
		}
		return r
	}
	u, l := d.Usage(), d.Latency()
	r := DiskReport{ID: d.ID(), Path: s.dir, Capacity: u.CapacityBytes, Free: u.FreeBytes,
		Live: u.LiveBytes, Dead: u.DeadBytes, Shards: u.Shards,
		Damaged: u.Damaged, Found: u.DamagedTotal, Mended: u.MendedTotal,
		State: s.judged(u.State), ReadP99: l.ReadP99, SyncP99: l.SyncP99}
	if u.Failed != nil {
		r.Failed = u.Failed.Error()
	}
	if l := d.Loss(); l != nil {
		r.Loss = l.Reason
	}
	n.reportHealing(&r)
	return r
}

// reportGroups finds each group's leader in what the nodes said: of several that
// claim it, the one of the highest term.
func (n *Node) reportGroups(s *Status) {
	for g := catalog.Root; int(g) <= n.file.Partitions; g++ {
		r := GroupReport{Group: g, Voters: []cluster.NodeID{}}
		var lead LocalReport
		for _, node := range s.Nodes {
			if node.Local == nil {
				continue
			}
			for _, l := range node.Local.Groups {
				newer := l.Epoch > lead.Epoch || l.Epoch == lead.Epoch && l.Term >= lead.Term
				if l.Group == g && l.Role == replica.RoleLeader && (r.Leader == "" || newer) {
					lead, r.Leader = l, node.ID
				}
			}
		}
		voters := n.votersOf(g)
		if r.Leader != "" {
			voters, r.Change = lead.Voters, lead.Change
			r.Replicas = n.reportReplicas(lead)
		}
		for _, id := range voters {
			m, ok := n.byReplica(id)
			if !ok {
				continue
			}
			r.Voters = append(r.Voters, m.ID)
			if slices.ContainsFunc(s.Nodes, func(o NodeReport) bool { return o.ID == m.ID && o.Local != nil }) {
				r.Alive++
			}
		}
		s.Groups = append(s.Groups, r)
	}
}

// reportReplicas lists the members as a group's leader sees them.
func (n *Node) reportReplicas(lead LocalReport) []ReplicaReport {
	var out []ReplicaReport
	for kind, ids := range map[string][]replica.ReplicaID{"voter": lead.Voters, "learner": lead.Learners, "leaving": lead.Outgoing} {
		for _, id := range ids {
			if kind == "leaving" && slices.Contains(lead.Voters, id) {
				continue
			}
			r := ReplicaReport{ID: id, Kind: kind, Active: lead.Match[id].Active}
			if m, ok := n.byReplica(id); ok {
				r.Node = m.ID
			}
			if at := lead.Match[id].Index; at < lead.Commit {
				r.Lag = lead.Commit - at
			}
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b ReplicaReport) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// reportProtection adds what lacks shards, and what would be lost with each zone and
// each disk.
func (n *Node) reportProtection(ctx context.Context, s *Status) {
	sctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p, err := n.countProtection(sctx)
	stats := p.stats
	if err != nil {
		s.Problems = append(s.Problems, fmt.Sprintf("protection could not be counted: %v", err))
	}
	s.Protected = Protection{Unknown: err != nil, Objects: stats.Objects, Bytes: stats.Bytes, Uploads: stats.Uploads, Garbage: stats.Garbage,
		OnDisks: stats.WithBlobs, UnderProtected: stats.UnderProtected, UnderBytes: stats.UnderBytes, Unreadable: stats.Unreadable, Queued: stats.Queued,
		References: stats.References, Releases: stats.Releases, Recovering: stats.Awaited + stats.Untold, Broken: stats.Broken}
	if stats.Oldest != 0 {
		s.Protected.Oldest, s.Protected.OldestAge = time.Unix(0, stats.Oldest).UTC(), age(stats.Oldest)
	}
	s.Disks = p.list(n.region.DiskUp)
	for i, z := range n.file.Zones {
		state := n.region.Zone(z)
		r := ZoneReport{Zone: z, Down: state.Down, Cut: state.Cut, Lost: n.lostWith(&stats, i)}
		if state.Since != 0 {
			r.Since = time.Unix(0, state.Since).UTC()
		}
		s.Zones = append(s.Zones, r)
	}
	sort.Slice(s.Nodes, func(i, j int) bool { return s.Nodes[i].ID < s.Nodes[j].ID })
}
