package server

import (
	"slices"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

func TestAlerts(t *testing.T) {
	well := func() *Status {
		return &Status{
			Zones: []ZoneReport{{Zone: "a"}, {Zone: "b"}},
			Nodes: []NodeReport{
				{ID: "a1", Role: cluster.RoleStorage, Local: &LocalStatus{Skew: 4 * time.Second}},
				{ID: "b1", Role: cluster.RoleStorage}, // dead, which its zone tells
				{ID: "w", Role: cluster.RoleWitness, Local: &LocalStatus{}},
			},
			Groups: []GroupReport{{Group: 0, Leader: "a1"}},
		}
	}
	for want, harm := range map[string]func(s *Status){
		"": func(*Status) {},
		"witness w does not answer: nothing stops, but the loss of a zone would stop the metadata": func(s *Status) { s.Nodes[2].Local = nil },
		"the clock of node a1 is off by -6s": func(s *Status) { s.Nodes[0].Local.Skew = -6 * time.Second },
		"node b1 is slow: it takes no new shards where others can, is read last and leads no group": func(s *Status) { s.Nodes[1].Slow = true },
		"the metadata log of node a1 is slow: it leads no group":                                    func(s *Status) { s.Nodes[0].SlowLog = true },
		"after a forced recovery, 3 pairs of partitions have not compared yet what copies share: until then nothing that was deleted there is removed from the disks": func(s *Status) {
			s.Protected.Recovering = 3
		},
		"2 copies that a forced recovery brought back share bytes that are gone, or will be: what of them cannot be read is lost; delete them": func(s *Status) {
			s.Protected.Broken = 2
		},
		"node a1 has halted metadata group 3: an entry of a later version": func(s *Status) {
			s.Nodes[0].Local.Groups = []LocalReport{{Group: 2, Role: replica.RoleFollower}, {Group: 3, Role: replica.RoleHalted, Why: "an entry of a later version"}}
		},
		"zone b is down":                         func(s *Status) { s.Zones[1].Down = true },
		"metadata group 0 has no leader":         func(s *Status) { s.Groups[0].Leader = "" },
		"metadata group 0: a new replica on a3":  func(s *Status) { s.Groups[0].Change = "a new replica on a3" },
		"node a1 reaches nobody: it answers 503": func(s *Status) { s.Nodes[0].Local.Stranded = "node a1 reaches nobody" },
		"zone a is cut off from the other zone: it serves no writes and no strong reads": func(s *Status) {
			s.Zones[0].Down, s.Zones[0].Cut = true, true
		},
		"node a1 has the read-only mode on, and does not need it: switch it off": func(s *Status) { s.Nodes[0].Local.ReadOnly = true },
	} {
		s := well()
		harm(s)
		if got := alerts(s); want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A program that is older than the region's metadata does not start.
func TestLevelOfTheRegion(t *testing.T) {
	for level, want := range map[uint8]bool{0: true, metadata.Level: true, metadata.Level + 1: false} {
		if err := fitsLevel(level); (err == nil) != want {
			t.Errorf("level %d: %v", level, err)
		}
	}
}
