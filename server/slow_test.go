package server

import (
	"testing"
	"time"

	"bivalve/cluster/disk/watch"
)

func TestDiskPace(t *testing.T) {
	ms := func(read, sync int) watch.Latency {
		return watch.Latency{ReadP99: time.Duration(read) * time.Millisecond, SyncP99: time.Duration(sync) * time.Millisecond}
	}
	peers := []watch.Latency{ms(2, 10), ms(3, 12), ms(0, 0)}
	for name, c := range map[string]struct {
		mine   watch.Latency
		others []watch.Latency
		slow   bool
	}{
		"as the others":          {ms(3, 12), peers, false},
		"slow syncs":             {ms(3, 200), peers, true},
		"slow reads":             {ms(400, 12), peers, true},
		"fast enough for anyone": {ms(30, 40), peers, false},
		"all are slow":           {ms(300, 1000), []watch.Latency{ms(300, 900), ms(200, 800)}, false},
		"nobody to compare with": {ms(300, 1000), []watch.Latency{ms(1, 1), ms(0, 0)}, false},
		"idle":                   {ms(0, 0), peers, false},
	} {
		var p diskPace
		for i := range slowInARow {
			if slow, changed := p.judge(c.mine, c.others); changed != (c.slow && i == slowInARow-1) || slow != changed {
				t.Errorf("%s: look %d: slow %v, changed %v", name, i, slow, changed)
			}
		}
		for i := range slowInARow {
			if slow, changed := p.judge(ms(1, 1), peers); c.slow && (changed != (i == slowInARow-1) || slow == changed) {
				t.Errorf("%s: again fast: look %d: slow %v, changed %v", name, i, slow, changed)
			}
		}
	}
	for d, want := range map[time.Duration]uint32{0: 0, time.Microsecond: 1, 3 * time.Microsecond: 4, time.Millisecond: 1024, time.Hour: 1 << 31} {
		if got := roundMicros(d); got != want {
			t.Errorf("%v: %d", d, got)
		}
	}
}
