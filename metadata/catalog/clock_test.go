package catalog_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
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

// ofLevelOne has commands of whatever level applied as this program does.
type ofLevelOne struct{ *catalogtest.Groups }

func (g ofLevelOne) Propose(ctx context.Context, id replica.GroupID, data []byte) ([]byte, error) {
	data[0] = 1
	return g.Groups.Propose(ctx, id, data)
}

// TestClocksOfNodesThatAreGone: most nodes of a region are lost, or were taken out of it.
// Its clock and its level stand still until they are removed, and then go on.
func TestClocksOfNodesThatAreGone(t *testing.T) {
	ctx := context.Background()
	groups := ofLevelOne{catalogtest.Open(t, 1)}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(level uint8) *catalog.Catalog {
		return must(catalog.New(catalog.Config{Groups: groups, Local: groups, Partitions: 1, Level: level,
			Now: func() time.Time { return now }}))(t)
	}
	names := []string{"a", "b", "c", "d", "e"}
	pass := func(c *catalog.Catalog, of []string, founders int) metadata.RegionClock {
		t.Helper()
		for range 3 {
			now = now.Add(20 * time.Second)
			for _, n := range of {
				if err := c.ReportClock(ctx, n, founders); err != nil {
					t.Fatal(err)
				}
			}
		}
		return must(c.RegionClock())(t)
	}
	was := pass(at(1), names, len(names))
	if was.Agreed != now.UnixNano() || was.Level != 1 {
		t.Fatalf("%+v at %s", was, now)
	}
	alive, next := names[:2], at(2)
	for range 10 {
		now = now.Add(24 * time.Hour)
		if is := pass(next, alive, len(names)); is.Agreed != was.Agreed || is.Level != 1 {
			t.Fatalf("two nodes of five agree on %+v", is)
		}
	}
	removed := func(node string) bool { return !slices.Contains(alive, node) }
	if err := next.ForgetClocks(ctx, removed); err != nil {
		t.Fatal(err)
	}
	if is := must(next.RegionClock())(t); is.Agreed != was.Agreed || is.Level != 1 || len(is.Reports) != 2 {
		t.Fatalf("what was agreed is forgotten too: %+v", is)
	}
	if is := pass(next, alive, len(alive)); is.Agreed != now.UnixNano() || is.Level != 2 {
		t.Errorf("%+v at %s", is, now)
	}
	// Not what it did not see.
	groups.OnPropose = func(_ context.Context, _ replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
		if kind == metadata.CmdPutConfig {
			groups.OnPropose = nil
			pass(next, []string{"f"}, len(alive))
		}
		return true, nil
	}
	if err := next.ForgetClocks(ctx, func(node string) bool { return node == "b" }); !errors.Is(err, metadata.ErrConflict) {
		t.Errorf("over another report: %v", err)
	}
	if is := must(next.RegionClock())(t); len(is.Reports) != 3 {
		t.Errorf("%+v", is)
	}
}
