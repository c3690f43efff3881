package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"bivalve/cluster"
)

type tb interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func diskID(node cluster.NodeID, i int) cluster.DiskID {
	h := xxh3.HashString128(fmt.Sprintf("%s/%d", node, i))
	return cluster.DiskID(h.Bytes())
}

func member(id string, weights ...uint32) cluster.Member {
	m := cluster.Member{ID: cluster.NodeID(id), Zone: cluster.Zone(id[:1]), Role: cluster.RoleStorage}
	for i, w := range weights {
		m.Disks = append(m.Disks, cluster.Disk{ID: diskID(m.ID, i), Node: m.ID, Weight: w})
	}
	return m
}

func same(n int, w uint32) []uint32 {
	ws := make([]uint32, n)
	for i := range ws {
		ws[i] = w
	}
	return ws
}

func region(nodesPerZone, disks int) []cluster.Member {
	var ms []cluster.Member
	for _, z := range []string{"a", "b"} {
		for n := range nodesPerZone {
			ms = append(ms, member(fmt.Sprintf("%s%d", z, n+1), same(disks, 4000)...))
		}
	}
	return append(ms, cluster.Member{ID: "w1", Zone: "w", Role: cluster.RoleWitness})
}

func input(ms []cluster.Member, k, m uint8, pgs int) Input {
	return Input{Members: ms, Zones: [2]cluster.Zone{"a", "b"}, Profile: cluster.Profile{K: k, M: m}, PGs: pgs}
}

func zoneOf(n cluster.NodeID) cluster.Zone { return cluster.Zone(n[:1]) }

// facts of one zone of a layout.
type facts struct {
	load, duty map[cluster.DiskID]int
	worst      int // most slots of one group on one node
}

func look(l *cluster.Layout, z cluster.Zone) facts {
	f := facts{load: map[cluster.DiskID]int{}, duty: map[cluster.DiskID]int{}}
	for pg, g := range l.Groups {
		onNode := map[cluster.NodeID]int{}
		for i := range g {
			d := l.Disk(cluster.PG(pg), cluster.ShardIndex(i))
			if l.ZoneOf(cluster.PG(pg), cluster.ShardIndex(i)) != z {
				continue
			}
			f.load[d.ID]++
			onNode[d.Node]++
			f.worst = max(f.worst, onNode[d.Node])
			if i < int(l.Profile.K) {
				f.duty[d.ID]++
			}
		}
	}
	return f
}

// fair is each disk's share by weight under the limits, worked out apart from
// the code under test: by raising a water level in small steps of bisection.
func fair(ms []cluster.Member, z cluster.Zone, pgs, per int) map[cluster.DiskID]float64 {
	var nodes []cluster.Member
	for _, m := range ms {
		if m.Zone == z && m.Role == cluster.RoleStorage && len(weighted(m)) > 0 {
			nodes = append(nodes, m)
		}
	}
	limit := 1
	for room := 0; room < per; limit++ {
		room = 0
		for _, n := range nodes {
			room += min(limit, len(weighted(n)))
		}
		if room >= per {
			break
		}
	}
	level := func(total float64, w, cap []float64) []float64 {
		lo, hi := 0.0, 1e9
		for range 200 {
			mid, sum := (lo+hi)/2, 0.0
			for i := range w {
				sum += math.Min(w[i]*mid, cap[i])
			}
			if sum < total {
				lo = mid
			} else {
				hi = mid
			}
		}
		out := make([]float64, len(w))
		for i := range w {
			out[i] = math.Min(w[i]*hi, cap[i])
		}
		return out
	}
	var w, c []float64
	for _, n := range nodes {
		sum := 0.0
		for _, d := range weighted(n) {
			sum += float64(d.Weight)
		}
		w, c = append(w, sum), append(c, float64(pgs*min(limit, len(weighted(n)))))
	}
	out := map[cluster.DiskID]float64{}
	for i, total := range level(float64(pgs*per), w, c) {
		var w, c []float64
		for _, d := range weighted(nodes[i]) {
			w, c = append(w, float64(d.Weight)), append(c, float64(pgs))
		}
		for j, x := range level(total, w, c) {
			out[weighted(nodes[i])[j].ID] = x
		}
	}
	return out
}

func weighted(m cluster.Member) []cluster.Disk {
	var out []cluster.Disk
	for _, d := range m.Disks {
		if d.Weight > 0 {
			out = append(out, d)
		}
	}
	return out
}

// checkLayout verifies rules and spread. slack is in slots, beside 5%: whole
// slots cannot meet a broken share exactly.
func checkLayout(t tb, in Input, l *cluster.Layout, slack float64) {
	t.Helper()
	must(t, l.Validate(zoneOf))
	per := in.Profile.PerZone()
	for _, z := range in.Zones {
		f := look(l, z)
		nodes, want := 0, fair(in.Members, z, in.PGs, per)
		for _, m := range in.Members {
			if m.Zone == z && len(weighted(m)) > 0 {
				nodes++
			}
		}
		if nodes >= per && f.worst > 1 {
			t.Fatalf("zone %s: %d shards of a group share a node though there are %d nodes", z, f.worst, nodes)
		}
		for id, x := range want {
			if got := float64(f.load[id]); math.Abs(got-x) > 0.05*x+slack {
				t.Fatalf("zone %s: disk %s holds %v slots, fair are %.2f", z, id, got, x)
			}
		}
	}
}

func drawInput(t *rapid.T) Input {
	k := rapid.IntRange(1, 5).Draw(t, "k")
	m := rapid.IntRange(0, 2).Draw(t, "m")
	var ms []cluster.Member
	for _, z := range []string{"a", "b"} {
		disks := 0
		for n := 1; disks < k+m || n <= rapid.IntRange(1, 8).Draw(t, "nodes"); n++ {
			ws := rapid.SliceOfN(rapid.Uint32Range(1000, 8000), 1, 5).Draw(t, "weights")
			disks += len(ws)
			ms = append(ms, member(fmt.Sprintf("%s%d", z, n), ws...))
		}
	}
	return input(ms, uint8(k), uint8(m), rapid.SampledFrom([]int{64, 256, 512}).Draw(t, "pgs"))
}

func TestLayoutProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		l, err := Compute(in)
		must(t, err)
		checkLayout(t, in, l, 2)

		shuffled := in
		shuffled.Members = append([]cluster.Member(nil), in.Members...)
		rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Shuffle(len(in.Members), func(i, j int) {
			shuffled.Members[i], shuffled.Members[j] = shuffled.Members[j], shuffled.Members[i]
		})
		again, err := Compute(shuffled)
		must(t, err)
		if !reflect.DeepEqual(l, again) {
			t.Fatal("the order of members changed the layout")
		}
		shuffled.Before = l
		again, err = Compute(shuffled)
		must(t, err)
		if n := len(Moves(l, again)); n != 0 || again.Epoch != l.Epoch+1 {
			t.Fatalf("no change moved %d slots", n)
		}
	})
}

// A chain of random changes keeps the rules and moves little more than it must:
// the sum of what fair shares grow by, and a slot of rounding for each disk.
func TestChangesMoveLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		l, err := Compute(in)
		must(t, err)
		for step := range rapid.IntRange(1, 4).Draw(t, "steps") {
			before := in.Members
			in.Members = append([]cluster.Member(nil), before...)
			i := rapid.IntRange(0, len(in.Members)-1).Draw(t, "node")
			switch rapid.SampledFrom([]string{"add", "remove", "drain disk", "add disk"}).Draw(t, "change") {
			case "add":
				in.Members = append(in.Members, member(fmt.Sprintf("%s9%d", in.Members[i].Zone, step), same(3, 4000)...))
			case "remove":
				in.Members = append(in.Members[:i], in.Members[i+1:]...)
			case "drain disk":
				in.Members[i].Disks = append([]cluster.Disk(nil), in.Members[i].Disks...)
				in.Members[i].Disks[0].Weight = 0
			case "add disk":
				n := in.Members[i].ID
				in.Members[i].Disks = append(in.Members[i].Disks[:len(in.Members[i].Disks):len(in.Members[i].Disks)],
					cluster.Disk{ID: diskID(n, 100+step), Node: n, Weight: 4000})
			}
			in.Before = l
			next, err := Compute(in)
			if err != nil { // a removal may leave too few disks
				in.Members = before
				continue
			}
			checkLayout(t, in, next, 3)
			must0, disks := 0.0, 0
			for _, z := range in.Zones {
				held := look(l, z).load
				for id, x := range fair(in.Members, z, in.PGs, in.Profile.PerZone()) {
					must0 += math.Max(0, x-float64(held[id]))
					disks++
				}
			}
			if moved := len(Moves(l, next)); float64(moved) > 1.1*must0+float64(disks)+0.03*float64(2*in.PGs*in.Profile.PerZone()) {
				t.Fatalf("%d slots moved, %.1f had to", moved, must0)
			}
			l = next
		}
	})
}

// The layouts of a large region: time, spread, what one more node moves.
func TestLargeRegion(t *testing.T) {
	for _, pgs := range []int{1024, 16384, 65536} {
		in := input(region(500, 12), 8, 1, pgs)
		start := time.Now()
		l, err := Compute(in)
		must(t, err)
		took := time.Since(start)
		checkLayout(t, in, l, 1)

		in.Members = append(append([]cluster.Member(nil), in.Members...), member("a999", same(12, 4000)...))
		in.Before = l
		start = time.Now()
		next, err := Compute(in)
		must(t, err)
		again := time.Since(start)
		checkLayout(t, in, next, 1)
		share := float64(pgs*9) / 501
		moved := len(Moves(l, next))
		f := look(l, "a")
		lo, hi := math.MaxInt, 0
		for _, n := range f.load {
			lo, hi = min(lo, n), max(hi, n)
		}
		t.Logf("%d groups: computed in %v, %d..%d slots a disk (fair %.2f); one more node: %v, %d moves, %.3f of its share",
			pgs, took.Round(time.Millisecond), lo, hi, float64(pgs*9)/6000, again.Round(time.Millisecond), moved, float64(moved)/share)
		if float64(moved) > 1.1*share+1 {
			t.Errorf("%d moves for a share of %.1f", moved, share)
		}
		if testing.Short() && pgs > 16384 {
			continue
		}
		// A node is drained, then a disk is lost: what they held moves and nothing
		// else, within their zone.
		in.Members = append([]cluster.Member(nil), in.Members...)
		for _, gone := range []struct {
			what  string
			disks []int
		}{{"one node drained", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}, {"one disk lost", []int{5}}} {
			at := 3 * len(gone.disks) // another node each time
			m := in.Members[at]
			m.Disks = append([]cluster.Disk(nil), m.Disks...)
			held := 0
			for _, i := range gone.disks {
				held += look(next, m.Zone).load[m.Disks[i].ID]
				m.Disks[i].Weight = 0
			}
			in.Members[at], in.Before = m, next
			start = time.Now()
			after, err := Next(in, func(cluster.DiskID) bool { return len(gone.disks) == 1 })
			must(t, err)
			took := time.Since(start)
			checkLayout(t, in, after, 1)
			moved := 0
			for _, mv := range Moves(next, after) {
				if moved++; zoneOf(mv.From.Node) != m.Zone {
					t.Errorf("%s: a slot of zone %s moves", gone.what, zoneOf(mv.From.Node))
				}
			}
			t.Logf("%d groups: %s in %v: it held %d slots, %d move", pgs, gone.what, took.Round(time.Millisecond), held, moved)
			if len(after.Moving) != moved || float64(moved) > 1.1*float64(held)+1 {
				t.Errorf("%s: %d of %d moves for %d slots", gone.what, len(after.Moving), moved, held)
			}
			next = after.Moved(func(cluster.Slot) bool { return true })
		}
	}
}

func TestDutyIsShared(t *testing.T) {
	l, err := Compute(input(region(6, 4), 4, 1, 1024))
	must(t, err)
	for _, z := range l.Zones {
		f := look(l, z)
		fair := 512.0 * 4 / 24
		for id, n := range f.duty {
			if math.Abs(float64(n)-fair) > 0.05*fair+1 {
				t.Errorf("zone %s: disk %s has systematic duty %d, fair is %.1f", z, id, n, fair)
			}
		}
	}
}

// Rebuilding a disk reads from many: its groups share few of their other disks.
func TestDisksAreDeclustered(t *testing.T) {
	l, err := Compute(input(region(20, 4), 4, 1, 4096))
	must(t, err)
	partners := map[cluster.DiskID]map[cluster.DiskID]int{}
	for pg, g := range l.Groups {
		for i := range g {
			for j := range g {
				a, b := l.Disk(cluster.PG(pg), cluster.ShardIndex(i)), l.Disk(cluster.PG(pg), cluster.ShardIndex(j))
				if i != j && zoneOf(a.Node) == zoneOf(b.Node) {
					if partners[a.ID] == nil {
						partners[a.ID] = map[cluster.DiskID]int{}
					}
					partners[a.ID][b.ID]++
				}
			}
		}
	}
	for id, p := range partners { // 256 groups x 4 partners over 76 other disks: 13 each
		most := 0
		for _, n := range p {
			most = max(most, n)
		}
		if len(p) < 70 || most > 40 {
			t.Fatalf("disk %s has %d partners, one of them in %d groups", id, len(p), most)
		}
	}
}

func TestInputIsChecked(t *testing.T) {
	ms := region(3, 2)
	l, err := Compute(input(ms, 2, 1, 64))
	must(t, err)
	stranger := append(append([]cluster.Member(nil), ms...), member("c1", 1))
	twice := append(append([]cluster.Member(nil), ms...), ms[0])
	moved := input(ms, 2, 1, 128)
	moved.Before = l
	late := input(ms, 2, 1, 64)
	late.Before, late.Epoch = l, l.Epoch
	for name, in := range map[string]Input{
		"no k": input(ms, 0, 1, 64), "groups": input(ms, 2, 1, 1<<17), "zone": input(stranger, 2, 1, 64),
		"disk twice": input(twice, 2, 1, 64), "number of groups changed": moved, "epoch": late,
		"too few disks": input(region(1, 2), 2, 1, 64), "no members": input(nil, 1, 0, 64),
	} {
		if _, err := Compute(in); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// BenchmarkCompute makes the first layout of a large region, and the one with a node more.
func BenchmarkCompute(b *testing.B) {
	in := input(region(500, 12), 8, 1, 1<<16)
	first, err := Compute(in)
	if err != nil {
		b.Fatal(err)
	}
	more := in
	more.Members = append(append([]cluster.Member(nil), in.Members...), member("a999", same(12, 4000)...))
	more.Before = first
	for name, in := range map[string]Input{"first": in, "a node more": more} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Compute(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
