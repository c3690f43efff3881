package cluster

import "testing"

// Which slots a class takes, and that a profile keeps its numbers beside it.
func TestProfileClasses(t *testing.T) {
	for _, p := range []Profile{{K: 1}, {K: 2, M: 1}, {K: 4, M: 1}, {K: 8, M: 24}} {
		want := map[Class]int{Standard: 2 * p.PerZone(), Lean: 2 * int(p.K), OneZone: p.PerZone()}
		for class, n := range want {
			q := p.Of(class)
			if q.Class() != class || q.Extra() != int(p.M) || q.PerZone() != p.PerZone() || q.Of(Standard) != p {
				t.Errorf("%+v of class %d became %+v", p, class, q)
			}
			took, first := 0, 0
			for i := range 256 {
				if q.Takes(ShardIndex(i)) {
					took++
					if i < p.PerZone() {
						first++
					}
				}
			}
			if took != n || class == Lean && first != int(p.K) || class == OneZone && first != n {
				t.Errorf("%+v of class %d takes %d slots, %d of them in the first zone, want %d", p, class, took, first, n)
			}
		}
	}
	if (Profile{K: 2, M: 1}).Of(3).Takes(0) {
		t.Error("a class that is not known takes a slot")
	}
}

func TestProbeIn(t *testing.T) {
	for _, groups := range []int{2, 3, 16, 1024} {
		l := &Layout{Zones: [2]Zone{"a", "b"}, Groups: make([][]uint16, groups)}
		seen := map[PG]bool{}
		for c := range uint32(4096) {
			for _, z := range l.Zones {
				pg := l.ProbeIn(z, BlobID{1}, c, 0)
				if int(pg) >= groups || l.FirstZone(pg) != z {
					t.Fatalf("chunk %d of zone %s went to group %d of %d", c, z, pg, groups)
				}
				seen[pg] = true
			}
		}
		if len(seen) < groups*9/10 {
			t.Errorf("%d of %d groups are used", len(seen), groups)
		}
	}
}
