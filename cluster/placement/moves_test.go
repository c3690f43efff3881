package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"bivalve/cluster"
)

// moveScript is a region whose layout changes while slots move.
type moveScript struct {
	in   Input
	l    *cluster.Layout
	lost map[cluster.DiskID]bool
	name map[cluster.DiskID]string
}

func (s *moveScript) know() {
	for _, m := range s.in.Members {
		for i, d := range m.Disks {
			if s.name[d.ID] == "" {
				s.name[d.ID] = fmt.Sprintf("%s/%d", m.ID, i)
			}
		}
	}
}

func (s *moveScript) disk(name string) *cluster.Disk {
	for i := range s.in.Members {
		for j := range s.in.Members[i].Disks {
			if d := &s.in.Members[i].Disks[j]; s.name[d.ID] == name {
				return d
			}
		}
	}
	panic("no disk " + name)
}

func (s *moveScript) next(l *cluster.Layout, err error) string {
	if err != nil {
		return fmt.Sprintf("error: %v\n", err)
	}
	s.l = l
	return s.moving()
}

func (s *moveScript) change() string {
	s.know()
	in := s.in
	in.Before = s.l
	return s.next(Next(in, func(id cluster.DiskID) bool { return s.lost[id] }))
}

// moving shows the slots that move: owner <- those who held it, the latest first.
func (s *moveScript) moving() string {
	out := fmt.Sprintf("epoch %d, %d moving\n", s.l.Epoch, len(s.l.Moving))
	for _, m := range s.l.Moving {
		var from []string
		for _, d := range s.l.Previous(m.Slot.PG, m.Slot.Index) {
			from = append(from, s.name[d.ID])
		}
		if len(from) == 0 {
			from = []string{"(rebuilt)"}
		}
		out += fmt.Sprintf("%s: %s <- %s\n", m.Slot, s.name[s.l.Disk(m.Slot.PG, m.Slot.Index).ID], strings.Join(from, " "))
	}
	return out
}

// TestMoveScripts: what moves from where, over drains, losses, replacements and
// changes in the midst of moves.
func TestMoveScripts(t *testing.T) {
	var s moveScript
	datadriven.RunTest(t, "testdata/moves.script", func(t *testing.T, d *datadriven.TestData) string {
		arg := func(key string) (v string) { d.ScanArgs(t, key, &v); return v }
		switch d.Cmd {
		case "region":
			var nodes, disks, k, m, pgs int
			for key, v := range map[string]*int{"nodes": &nodes, "disks": &disks, "k": &k, "m": &m, "pgs": &pgs} {
				d.ScanArgs(t, key, v)
			}
			s = moveScript{in: input(region(nodes, disks), uint8(k), uint8(m), pgs), lost: map[cluster.DiskID]bool{}, name: map[cluster.DiskID]string{}}
			s.know()
			return s.next(Compute(s.in))
		case "drain":
			s.disk(arg("disk")).Weight = 0
			return s.change()
		case "activate":
			s.disk(arg("disk")).Weight = 4000
			return s.change()
		case "lose":
			x := s.disk(arg("disk"))
			x.Weight, s.lost[x.ID] = 0, true
			return s.change()
		case "add":
			s.in.Members = append(s.in.Members, member(arg("node"), 4000))
			return s.change()
		case "replace": // the disk is lost; a new one takes its slots
			x := s.disk(arg("disk"))
			by := cluster.Disk{ID: diskID(x.Node, 50+len(s.name)), Node: x.Node, Weight: 4000}
			s.lost[x.ID] = true
			s.name[by.ID] = s.name[x.ID] + "'"
			old := x.ID
			*x = by
			return s.next(Swap(s.l, old, by, func(id cluster.DiskID) bool { return s.lost[id] }))
		case "moved": // everything that one disk owns
			x := s.disk(arg("disk"))
			s.l = s.l.Moved(func(slot cluster.Slot) bool { return s.l.Owns(x.ID, slot.PG, slot.Index) })
			return s.moving()
		case "forsake":
			x := s.disk(arg("disk"))
			s.l = s.l.Forsake(func(d cluster.Disk) bool { return d.ID == x.ID })
			return s.moving()
		}
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	})
}

// TestMovesLoseNothing: through any chain of changes, with moves that end or do
// not, whoever has all shards of a slot stays one of its holders until the owner
// has them; nobody but the lost is left out, and that one is lost is known.
func TestMovesLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := input(region(4, 2), 2, 1, 16)
		l, err := Compute(in)
		must(t, err)
		lost := map[cluster.DiskID]bool{}
		whole := map[cluster.Slot]cluster.DiskID{} // who has everything of a slot
		for pg := range l.Groups {
			for i := range l.Groups[pg] {
				s := cluster.Slot{PG: cluster.PG(pg), Index: cluster.ShardIndex(i)}
				whole[s] = l.Disk(s.PG, s.Index).ID
			}
		}
		check := func() {
			must(t, l.Validate(zoneOf))
			for s, id := range whole {
				if !lost[id] && !l.Holds(id, s.PG, s.Index) {
					t.Fatalf("%s: %s has it and is no holder in epoch %d", s, id, l.Epoch)
				}
				if lost[id] && !l.Bereft(s.PG, s.Index) {
					t.Fatalf("%s: %s had it and is lost, and those who held it as well are taken for whole in epoch %d", s, id, l.Epoch)
				}
				if lost[id] && l.Owns(id, s.PG, s.Index) {
					t.Fatalf("%s: the lost %s owns it", s, id)
				}
				if id != l.Disk(s.PG, s.Index).ID && !l.IsMoving(s.PG, s.Index) {
					t.Fatalf("%s: its owner does not have it and it does not move", s)
				}
			}
		}
		made := 0 // disks that came later: no id is used twice
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			made++
			m := &in.Members[rapid.IntRange(0, len(in.Members)-2).Draw(t, "node")] // the last is the witness
			d := &m.Disks[rapid.IntRange(0, len(m.Disks)-1).Draw(t, "disk")]
			next := l
			switch rapid.SampledFrom([]string{"weight", "lose", "moved", "moved", "replace"}).Draw(t, "change") {
			case "weight":
				old := d.Weight
				d.Weight = rapid.SampledFrom([]uint32{0, 4000, 8000}).Draw(t, "to")
				in.Before = l
				if next, err = Next(in, func(id cluster.DiskID) bool { return lost[id] }); err != nil {
					d.Weight, next = old, l
				}
			case "lose":
				old := d.Weight
				d.Weight = 0
				in.Before = l
				next, err = Next(in, func(id cluster.DiskID) bool { return lost[id] || id == d.ID })
				if err != nil {
					d.Weight, next = old, l
					break
				}
				lost[d.ID] = true
				*d = cluster.Disk{ID: diskID(m.ID, 1000+made), Node: m.ID, Weight: 4000}
			case "replace":
				by := cluster.Disk{ID: diskID(m.ID, 1000+made), Node: m.ID, Weight: 4000}
				if next, err = Swap(l, d.ID, by, func(id cluster.DiskID) bool { return lost[id] || id == d.ID }); err != nil {
					next = l
					break
				}
				lost[d.ID] = true
				*d = by
			case "moved":
				done := rapid.IntRange(1, 4).Draw(t, "part")
				moved := map[cluster.Slot]bool{}
				for i, mv := range l.Moving {
					if i%done == 0 {
						moved[mv.Slot] = true
						whole[mv.Slot] = l.Disk(mv.Slot.PG, mv.Slot.Index).ID
					}
				}
				next = l.Moved(func(s cluster.Slot) bool { return moved[s] })
			}
			if next.Epoch < l.Epoch || len(next.Former) > 1+slices.Max([]int{0, len(next.Moving) * 8}) {
				t.Fatalf("epoch %d after %d, %d former disks for %d moves", next.Epoch, l.Epoch, len(next.Former), len(next.Moving))
			}
			l = reread(t, next, lost)
			check()
		}
	})
}

// reread is a layout as a node has it that reads what was agreed, and knows who is lost.
func reread(t *rapid.T, l *cluster.Layout, lost map[cluster.DiskID]bool) *cluster.Layout {
	raw, err := cbor.Marshal(l)
	must(t, err)
	out := &cluster.Layout{}
	must(t, cbor.Unmarshal(raw, out))
	return out.Forsake(func(d cluster.Disk) bool { return lost[d.ID] })
}

func TestPrice(t *testing.T) {
	in := input(region(3, 2), 2, 1, 64)
	l, err := Compute(in)
	must(t, err)
	held := func(cluster.DiskID) int64 { return 32 << 20 } // 64 groups x 3 slots over 6 disks: 1 MiB each
	gone := in.Members[0].Disks[0]
	in.Members[0].Disks[0].Weight, in.Before = 0, l
	next, err := Next(in, func(cluster.DiskID) bool { return false })
	must(t, err)
	p := PriceOf(l, next, held, func(cluster.Disk) bool { return true })
	if p.Slots != 32 || p.Bytes != 32<<20 || p.Between != 0 || p.Rebuilt != 0 || p.Zones[0].Slots != 32 || p.Zones[1].Slots != 0 {
		t.Errorf("a drain: %+v", p)
	}
	// The disk is gone: its slots are rebuilt from k others of the zone.
	next, err = Next(in, func(id cluster.DiskID) bool { return id == gone.ID })
	must(t, err)
	p = PriceOf(l, next, held, func(d cluster.Disk) bool { return d.ID != gone.ID })
	if p.Slots != 32 || p.Bytes != 32<<20 || p.Between != 0 || p.Rebuilt != 32 {
		t.Errorf("a loss: %+v", p)
	}
	// With another node of the zone away k is lacking there, by one shard a slot.
	p = PriceOf(l, next, held, func(d cluster.Disk) bool { return d.ID != gone.ID && d.Node != "a2" })
	if p.Between != 32<<20 || p.Zones[0].Between != 32<<20 {
		t.Errorf("a loss beside another: %+v", p)
	}
}
