package placement

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/datadriven"

	"bivalve/cluster"
)

// Scripts in testdata: a region, then changes, then what the layout says.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	must(t, err)
	if len(paths) < 2 {
		t.Fatalf("only these scripts were found: %q", paths)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) { runScript(t, path) })
	}
}

func runScript(t *testing.T, path string) {
	var in Input
	var l *cluster.Layout
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "region":
			var nodes, disks, k, m, pgs int
			d.ScanArgs(t, "nodes", &nodes)
			d.ScanArgs(t, "disks", &disks)
			d.ScanArgs(t, "k", &k)
			d.ScanArgs(t, "m", &m)
			d.ScanArgs(t, "pgs", &pgs)
			in, l = input(region(nodes, disks), uint8(k), uint8(m), pgs), nil
		case "add":
			var id string
			var disks, weight int
			d.ScanArgs(t, "node", &id)
			d.ScanArgs(t, "disks", &disks)
			d.ScanArgs(t, "weight", &weight)
			in.Members = append(in.Members, member(id, same(disks, uint32(weight))...))
		case "remove":
			var id string
			d.ScanArgs(t, "node", &id)
			for i, m := range in.Members {
				if string(m.ID) == id {
					in.Members = append(in.Members[:i:i], in.Members[i+1:]...)
					break
				}
			}
		case "profile":
			var k, m int
			d.ScanArgs(t, "k", &k)
			d.ScanArgs(t, "m", &m)
			in.Profile = cluster.Profile{K: uint8(k), M: uint8(m)}
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		in.Before = l
		next, err := Compute(in)
		if err != nil {
			return fmt.Sprintf("error: %v\n", err)
		}
		out := summary(next, in)
		if l != nil {
			out += fmt.Sprintf("moved %d of %d slots\n", len(Moves(l, next)), 2*in.PGs*in.Profile.PerZone())
		}
		l = next
		return out
	})
}

func summary(l *cluster.Layout, in Input) string {
	out := fmt.Sprintf("epoch %d\n", l.Epoch)
	for _, z := range l.Zones {
		f := look(l, z)
		out += fmt.Sprintf("zone %s, at most %d of a group on a node:", z, f.worst)
		for _, m := range in.Members {
			if m.Zone != z {
				continue
			}
			lo, hi := math.MaxInt, 0
			for _, d := range m.Disks {
				lo, hi = min(lo, f.load[d.ID]), max(hi, f.load[d.ID])
			}
			out += fmt.Sprintf(" %s %d..%d", m.ID, lo, hi)
		}
		out += "\n"
	}
	return out
}
