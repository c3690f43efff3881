package server

import (
	"fmt"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"
)

// alerts are what an operator should look at, in what the nodes said.
func alerts(s *Status) []string {
	out := []string{}
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, z := range s.Zones {
		switch {
		case z.Down && z.Cut:
			add("zone %s is cut off from the other zone: it serves no writes and no strong reads", z.Zone)
		case z.Down:
			add("zone %s is down", z.Zone)
		}
	}
	if u := s.Protected.Unreadable; u > 0 {
		add("%d objects cannot be read: bring disks and nodes back that are away, and format nothing", u)
	}
	if p := s.Protected.Recovering; p > 0 {
		add("after a forced recovery, %d pairs of partitions have not compared yet what copies share: until then nothing that was deleted there is removed from the disks", p)
	}
	if b := s.Protected.Broken; b > 0 {
		add("%d copies that a forced recovery brought back share bytes that are gone, or will be: what of them cannot be read is lost; delete them", b)
	}
	for _, n := range s.Nodes {
		if n.Role == cluster.RoleWitness && n.Local == nil {
			add("witness %s does not answer: nothing stops, but the loss of a zone would stop the metadata", n.ID)
		}
		if n.Local != nil && n.Local.Stranded != "" {
			add("%s: it answers 503", n.Local.Stranded)
		}
		switch {
		case n.Local == nil || !n.Local.ReadOnly:
		case n.Local.Stranded != "":
			add("node %s is in read-only mode: reads are of the most advanced replica, and the latest writes may be missing", n.ID)
		default:
			add("node %s has the read-only mode on, and does not need it: switch it off", n.ID)
		}
		if n.Local != nil {
			for _, g := range n.Local.Groups {
				if g.Role == replica.RoleHalted {
					add("node %s has halted metadata group %d: %s", n.ID, g.Group, g.Why)
				}
			}
		}
		if n.Slow {
			add("node %s is slow: it takes no new shards where others can, is read last and leads no group", n.ID)
		}
		if n.SlowLog {
			add("the metadata log of node %s is slow: it leads no group", n.ID)
		}
		if n.Local != nil && n.Local.Skew.Abs() > skewAlarm {
			add("the clock of node %s is off by %s", n.ID, n.Local.Skew.Round(time.Second))
		}
	}
	for _, g := range s.Groups {
		if g.Leader == "" {
			add("metadata group %d has no leader", g.Group)
		}
		if g.Change != "" {
			add("metadata group %d: %s", g.Group, g.Change)
		}
	}
	return out
}
