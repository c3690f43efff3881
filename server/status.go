package server

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
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
	Epoch     cluster.Epoch   `json:"layout_epoch"`
	Profile   cluster.Profile `json:"profile"`
	Encrypt   string          `json:"transport_encrypt"`
	Zones     []ZoneReport    `json:"zones"`
	Nodes     []NodeReport    `json:"nodes"`
	Groups    []GroupReport   `json:"groups"`
	Protected Protection      `json:"protection"`
	Problems  []string        `json:"problems"` // what could not be found out
}

// ZoneReport is one data zone. Lost is how many objects could not be read if the
// zone died now.
type ZoneReport struct {
	Zone  cluster.Zone `json:"zone"`
	Down  bool         `json:"down"`
	Since time.Time    `json:"since,omitzero"`
	Lost  int64        `json:"lost_if_it_died"`
}

// NodeReport is one node. Local is nil when it could not be asked.
type NodeReport struct {
	ID    cluster.NodeID `json:"id"`
	Zone  cluster.Zone   `json:"zone"`
	Role  cluster.Role   `json:"role"`
	Alive bool           `json:"alive"`
	S3    string         `json:"s3,omitempty"`
	Local *LocalStatus   `json:"local,omitempty"`
}

// LocalStatus is what a node says of itself.
type LocalStatus struct {
	Version string        `json:"version"`
	Started time.Time     `json:"started"`
	Ready   string        `json:"not_ready,omitempty"` // why not; "" = ready
	Disks   []DiskReport  `json:"disks"`
	Groups  []LocalReport `json:"groups"`
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
}

// GroupReport is one metadata group of the region; group 0 is the root group.
type GroupReport struct {
	Group  replica.GroupID  `json:"group"`
	Leader cluster.NodeID   `json:"leader,omitempty"`
	Voters []cluster.NodeID `json:"voters"`
	Alive  int              `json:"voters_alive"`
}

// Protection counts objects, and those that lack shards. Unknown: nobody could be
// asked, and neither these counts nor what a zone's death would cost mean anything.
type Protection struct {
	Unknown        bool  `json:"unknown,omitempty"`
	Objects        int64 `json:"objects"`
	Bytes          int64 `json:"bytes"`
	Uploads        int64 `json:"uploads"`
	Garbage        int64 `json:"garbage_blobs"`
	UnderProtected int64 `json:"under_protected"`
	UnderBytes     int64 `json:"under_protected_bytes"`
}

// Ready says why the node cannot serve yet; nil when it can.
func (n *Node) Ready(ctx context.Context) error {
	if n.region.Layout() == nil {
		return fmt.Errorf("the region has no layout yet")
	}
	if _, err := n.catalog.GetConfig(ctx, keyLayout); err != nil { // the root group answers
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
	for _, m := range n.file.Members {
		if m.ID != n.self.ID && !n.region.ZoneDown(m.Zone) && !n.gossip.Alive(m.ID) {
			return fmt.Errorf("node %s has not been met yet", m.ID)
		}
	}
	return nil
}

// Status asks every node and adds up what they say.
func (n *Node) Status(ctx context.Context) (any, error) {
	s := &Status{Cluster: n.file.Cluster, Region: n.file.Name, Asked: n.self.ID, Version: Version,
		Profile: n.file.Profile, Encrypt: string(n.cfg.Transport.Encrypt), Problems: []string{}}
	if l := n.region.Layout(); l != nil {
		s.Epoch = l.Epoch
	}
	n.askNodes(ctx, s)
	n.reportGroups(s)
	n.reportProtection(ctx, s)
	return s, nil
}

// askNodes fills in the nodes, each with what it says of itself.
func (n *Node) askNodes(ctx context.Context, s *Status) {
	s.Nodes = make([]NodeReport, len(n.file.Members))
	var g errgroup.Group
	for i, m := range n.file.Members {
		r := NodeReport{ID: m.ID, Zone: m.Zone, Role: m.Role, S3: m.S3, Alive: m.ID == n.self.ID || n.gossip.Alive(m.ID)}
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
	local := LocalStatus{Version: Version, Started: n.started, Disks: []DiskReport{}, Groups: []LocalReport{}}
	if n.region.Layout() == nil {
		local.Ready = "the region has no layout yet"
	}
	for _, slot := range n.slots {
		local.Disks = append(local.Disks, n.reportDisk(slot))
	}
	for _, g := range n.host.Status() {
		r := LocalReport{Group: g.Group, Role: g.Role, Term: g.Term, Commit: g.Commit, Applied: g.Applied, Durable: g.Durable}
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
		var term uint64
		for _, id := range n.file.Voters(g) {
			if m, ok := n.byReplica(id); ok {
				r.Voters = append(r.Voters, m.ID)
			}
		}
		for _, node := range s.Nodes {
			for _, v := range r.Voters {
				if v == node.ID && node.Local != nil {
					r.Alive++
				}
			}
			if node.Local == nil {
				continue
			}
			for _, l := range node.Local.Groups {
				if l.Group == g && l.Role == replica.RoleLeader && l.Term >= term {
					term, r.Leader = l.Term, node.ID
				}
			}
		}
		s.Groups = append(s.Groups, r)
	}
}

// reportProtection adds what would be lost. With one zone down, losing the other
// takes every object whose bytes are on disks; otherwise those that the commit
// recorded as depending on it.
func (n *Node) reportProtection(ctx context.Context, s *Status) {
	sctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stats, err := n.catalog.Stats(sctx)
	if err != nil {
		s.Problems = append(s.Problems, fmt.Sprintf("protection could not be counted: %v", err))
	}
	s.Protected = Protection{Unknown: err != nil, Objects: stats.Objects, Bytes: stats.Bytes, Uploads: stats.Uploads, Garbage: stats.Garbage,
		UnderProtected: stats.UnderProtected, UnderBytes: stats.UnderBytes}
	for i, z := range n.file.Zones {
		state := n.region.Zone(z)
		r := ZoneReport{Zone: z, Down: state.Down, Lost: stats.AtRisk[string(z)]}
		if state.Since != 0 {
			r.Since = time.Unix(0, state.Since).UTC()
		}
		if n.region.ZoneDown(n.file.Zones[1-i]) {
			r.Lost = stats.WithBlobs
		}
		s.Zones = append(s.Zones, r)
	}
	sort.Slice(s.Nodes, func(i, j int) bool { return s.Nodes[i].ID < s.Nodes[j].ID })
}
