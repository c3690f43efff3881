package catalog_test

import (
	"context"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
)

// nodeClock is the clock of one node, and how long it has been up.
type nodeClock struct{ off, up time.Duration }

// TestClockFarAhead: what a node writes whose clock is a day ahead has the region's
// time, and so has what others write after it; a node that has not yet seen the
// region's clock move takes its own, since the region may have stood still.
func TestClockFarAhead(t *testing.T) {
	ctx := context.Background()
	groups := catalogtest.Open(t, 1)
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(n *nodeClock) *catalog.Catalog {
		return must(catalog.New(catalog.Config{Groups: groups, Local: groups, Partitions: 1,
			Now:     func() time.Time { return zero.Add(n.up + n.off) },
			Elapsed: func() time.Duration { return n.up }}))(t)
	}
	var clocks [3]nodeClock
	nodes := []*catalog.Catalog{at(&clocks[0]), at(&clocks[1]), at(&clocks[2])}
	b := must(nodes[0].CreateBucket(ctx, "b"))(t)
	pass := func(d time.Duration) {
		for i := range clocks {
			clocks[i].up += d
		}
		for i, n := range nodes {
			if err := n.ReportClock(ctx, string(rune('a'+i)), len(nodes)); err != nil {
				t.Fatal(err)
			}
		}
	}
	written := func(n *catalog.Catalog) time.Duration {
		v := must(n.PutVersion(ctx, metadata.Version{Bucket: b.ID, Key: "k", ETag: "e"}, metadata.Condition{}))(t)
		return time.Unix(0, v.Modified).Sub(zero) - clocks[0].up
	}
	for range 4 {
		pass(20 * time.Second)
	}
	clocks[2].off = 24 * time.Hour
	for range 3 {
		pass(20 * time.Second)
		if d := written(nodes[2]); d < 0 || d > 2*time.Minute {
			t.Errorf("the node whose clock is ahead writes at +%s", d)
		}
		if d := written(nodes[0]); d < 0 || d > 2*time.Minute {
			t.Errorf("the other then writes at +%s", d)
		}
	}

	// All stood still for a week: the agreed clock is that of the last day.
	for i := range clocks {
		clocks[i] = nodeClock{off: clocks[0].up + 7*24*time.Hour}
		nodes[i] = at(&clocks[i])
	}
	if d := written(nodes[0]); d < 7*24*time.Hour {
		t.Errorf("after a week it writes at +%s", d)
	}
}
