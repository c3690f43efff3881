package server

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/watch"

	"github.com/fxamacker/cbor/v2"

	"bivalve/metadata"
)

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestStanding(t *testing.T) {
	l := func(read, sync int) watch.Latency { return watch.Latency{ReadP99: ms(read), SyncP99: ms(sync)} }
	peers := []watch.Latency{l(2, 10), l(3, 12), l(0, 0)}
	for name, c := range map[string]struct {
		mine   watch.Latency
		others []watch.Latency
		want   standing
	}{
		"as the others":          {l(3, 12), peers, standsFast},
		"slow syncs":             {l(3, 200), peers, standsSlow},
		"slow reads":             {l(400, 12), peers, standsSlow},
		"slow reads, no syncs":   {l(400, 0), peers, standsSlow},
		"neither fast nor slow":  {l(3, 52), []watch.Latency{l(2, 12), l(3, 12)}, standsBetween},
		"fast enough for anyone": {l(30, 40), peers, standsFast},
		"all are slow":           {l(300, 1000), []watch.Latency{l(300, 900), l(200, 800)}, standsFast},
		"nobody to compare with": {l(300, 1000), []watch.Latency{l(1, 1), l(0, 0)}, standsUnknown},
		"idle":                   {l(0, 0), peers, standsUnknown},
	} {
		if got := standingOf(c.mine, c.others); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got := compare(ms(300), []time.Duration{ms(2)}, slowNodePeers); got != standsSlow {
		t.Errorf("against one peer: %v", got)
	}
	for d, want := range map[time.Duration]uint32{0: 0, time.Microsecond: 1, 3 * time.Microsecond: 4, time.Millisecond: 1024, time.Hour: 1 << 31} {
		if got := roundMicros(d); got != want {
			t.Errorf("%v: %d", d, got)
		}
	}
}

// TestPace: a judgement takes several looks in a row, looks that know nothing change
// nothing, and who is slow again soon after must be fast for longer.
func TestPace(t *testing.T) {
	var p pace
	now := time.Unix(0, 0)
	// looks until the judgement changes; -1 if it does not within most.
	looks := func(s standing, most int) int {
		for i := range most {
			now = now.Add(judgeEvery)
			if p.look(s, now) {
				return i + 1
			}
		}
		return -1
	}
	expect := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: after %d looks, want %d", what, got, want)
		}
	}
	for range 5 { // two slow looks, then one that is not
		expect("a hiccup", looks(standsSlow, slowInARow-1), -1)
		expect("and on", looks([]standing{standsFast, standsBetween}[now.Unix()%2], 1), -1)
	}
	expect("slow", looks(standsSlow, slowInARow-1), -1)
	expect("idle meanwhile", looks(standsUnknown, 10), -1)
	expect("slow", looks(standsSlow, 10), 1)
	if time.Duration(slowInARow+1)*judgeEvery > 30*time.Second {
		t.Error("a slow disk holds up others for longer than 30 s")
	}
	expect("nothing to see", looks(standsUnknown, 100), -1)
	expect("not fast enough", looks(standsBetween, 100), -1)
	expect("fast", looks(standsFast, 1000), fastInARow)
	for i := 1; i <= maxRelapses+2; i++ {
		expect("slow again", looks(standsSlow, 10), slowInARow)
		expect("fast again", looks(standsFast, 1000), fastInARow<<min(i, maxRelapses))
	}
	now = now.Add(relapse)
	expect("long after", looks(standsSlow, 10), slowInARow)
	expect("forgiven", looks(standsFast, 1000), fastInARow)
}

// TestSlowAfterRestart: a node that was started again takes nothing back before it has
// looked, and goes on from what it said.
func TestSlowAfterRestart(t *testing.T) {
	var j judged
	if j.report() != nil {
		t.Error("it reports before it has looked")
	}
	slots := []*diskSlot{{id: cluster.DiskID{1}}, {id: cluster.DiskID{2}}, {}}
	j.begin(slowRecord{Disks: []cluster.DiskID{{2}, {3}}, Log: true, Nodes: []cluster.NodeID{"b1"}}, slots)
	if !j.log.slow || len(j.nodes) != 1 || !j.nodes["b1"].slow {
		t.Errorf("the log and nodes: %+v", &j)
	}
	for i, s := range slots {
		if want := i == 1; s.pace.slow != want || s.slow != want {
			t.Errorf("disk %d: %v, %v", i, s.pace.slow, s.slow)
		}
	}
	for i := range fastInARow {
		if changed := j.log.look(standsFast, time.Unix(int64(i), 0)); changed != (i == fastInARow-1) {
			t.Errorf("look %d: %v", i, changed)
		}
	}
}

// TestVoices: a node is slow by the word of half of the others that are not removed,
// of zones that are up.
func TestVoices(t *testing.T) {
	r := newRegion("a1", slog.New(slog.DiscardHandler))
	revision := uint64(0)
	put := func(key string, v any) {
		t.Helper()
		value, err := cbor.Marshal(v)
		if raw, ok := v.(string); ok {
			value = []byte(raw)
		}
		revision++
		if err == nil {
			err = r.take(metadata.ConfigValue{Key: key, Value: value, Revision: revision})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, z := range []cluster.Zone{"a", "b"} {
		for i := 1; i <= 3; i++ {
			id := cluster.NodeID(fmt.Sprint(z, i))
			put(keyMemberPrefix+string(id), cluster.Member{ID: id, Zone: z, Role: cluster.RoleStorage})
		}
	}
	put(keyMemberPrefix+"w", cluster.Member{ID: "w", Zone: "w", Role: cluster.RoleWitness})
	says := func(by string, of ...cluster.NodeID) { put(keySlowPrefix+by, slowRecord{Nodes: of}) }
	slow := func(want ...cluster.NodeID) {
		t.Helper()
		var got []cluster.NodeID
		for _, m := range r.Members() {
			if r.NodeSlow(m.ID) {
				got = append(got, m.ID)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("slow: %v, want %v", got, want)
		}
	}
	slow()
	says("a1", "a2", "b1")
	says("w", "a2")
	says("a2", "a2")
	says("b1", "a2")
	slow() // two of five, the witness and the node itself do not count
	says("b2", "a2")
	slow("a2")
	d := cluster.Disk{ID: cluster.DiskID{1}, Node: "a2"}
	if !r.DiskSlow(d) || r.LogSlow("a2") {
		t.Error("a disk of a slow node is not slow, or its log is")
	}
	put(keyZonePrefix+"b", `{"down":true}`)
	slow() // the voices of b are old: two others are left, one of them says so
	says("a3", "a2")
	slow("a2")
	put(keyZonePrefix+"b", `{"down":false}`)
	says("b1")
	slow("a2")
	says("a1")
	slow()
	for _, by := range []string{"a2", "a3", "b1"} {
		says(by, "a1") // which is this node
	}
	slow("a1")
	if r.DiskSlow(cluster.Disk{ID: cluster.DiskID{1}, Node: "a1"}) {
		t.Error("the disks of a slow node are slow to itself")
	}
	other := cluster.Disk{ID: cluster.DiskID{2}, Node: "a2"}
	put(keySlowPrefix+"a2", slowRecord{Disks: []cluster.DiskID{d.ID}, Log: true})
	if !r.DiskSlow(d) || r.DiskSlow(other) || !r.LogSlow("a2") {
		t.Error("what a node says of itself is not heard")
	}
	slow() // a3 and b1 are two of five
	put(keyStatePrefix+stateOfNode("b2"), `{"state":"removed"}`)
	slow("a1")
	put(keyStatePrefix+stateOfNode("b1"), `{"state":"removed"}`)
	slow() // one of three; b1 takes nothing back
	put(keyStatePrefix+stateOfNode("b1"), `{"state":"draining"}`)
	slow("a1")
}
