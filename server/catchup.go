package server

import (
	"bivalve/cluster"
)

// CatchUp is how far a node, or a zone, is from having all that it should have: after it
// was away, after it lost something, or while it is given something new.
type CatchUp struct {
	// Groups are the metadata groups whose leader does not hear its replica, or finds it
	// more than behindEntries behind; Entries are what all its replicas lack.
	Groups  int    `json:"metadata_groups_behind"`
	Entries uint64 `json:"metadata_entries_behind"`
	Shards  int64  `json:"shards_to_heal"` // that its disks are known to lack
	Bytes   int64  `json:"bytes_to_heal"`
	// Compare is of how many placement groups lists are still to be compared: of disks
	// that may have lost shards, or were given places.
	Compare int `json:"groups_to_compare"`
	// Rate is at what the zone heals, in bytes a second, and Left for how many seconds
	// of that there is; both are 0 while nothing is being healed, and of a node, whose
	// shards any node of its zone makes.
	Rate float64 `json:"bytes_per_second,omitempty"`
	Left float64 `json:"seconds_left,omitempty"`
}

// behindEntries is what a replica may be behind without being told: in a region at work
// each is, a little.
const behindEntries = 256

// done tells that nothing is left to catch up.
func (c *CatchUp) done() bool { return c.Groups == 0 && c.Shards == 0 && c.Compare == 0 }

func (c *CatchUp) add(o *CatchUp) {
	c.Groups, c.Entries, c.Shards, c.Bytes, c.Compare = c.Groups+o.Groups, c.Entries+o.Entries, c.Shards+o.Shards, c.Bytes+o.Bytes, c.Compare+o.Compare
}

// reportCatchUp adds, from what the nodes and partitions have said, how far each node
// and each zone is.
func reportCatchUp(s *Status) {
	of := map[cluster.NodeID]*CatchUp{}
	rates := map[cluster.Zone]float64{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		c := &CatchUp{}
		of[n.ID] = c
		if n.Local == nil {
			continue
		}
		rates[n.Zone] += n.Local.HealRate
		for _, d := range n.Local.Disks {
			if d.Restore != nil {
				c.Compare += d.Restore.Groups - d.Restore.Done
			}
			if d.Move != nil {
				c.Compare += d.Move.Slots - d.Move.Done
			}
		}
	}
	for _, g := range s.Groups {
		for _, r := range g.Replicas {
			c := of[r.Node]
			if c == nil || r.Kind == "leaving" {
				continue
			}
			if c.Entries += r.Lag; !r.Active || r.Lag > behindEntries {
				c.Groups++
			}
		}
	}
	if !s.Protected.Unknown {
		for _, d := range s.Disks {
			if c := of[d.Node]; c != nil {
				c.Shards, c.Bytes = c.Shards+d.Lacks, c.Bytes+d.Bytes
			}
		}
	}
	zones := map[cluster.Zone]*CatchUp{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if c := of[n.ID]; !c.done() {
			n.CatchUp = c
			if zones[n.Zone] == nil {
				zones[n.Zone] = &CatchUp{}
			}
			zones[n.Zone].add(c)
		}
	}
	for i := range s.Zones {
		z := &s.Zones[i]
		if z.CatchUp = zones[z.Zone]; z.CatchUp == nil || z.CatchUp.Bytes == 0 {
			continue
		}
		if c := z.CatchUp; rates[z.Zone] > 0 {
			c.Rate = rates[z.Zone]
			c.Left = float64(c.Bytes) / c.Rate
		}
	}
}
