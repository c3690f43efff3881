package membership

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"bivalve/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// quick shortens memberlist's times; the kill of a zone uses the real ones.
func quick(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond
	c.GossipInterval = 20 * time.Millisecond
	c.GossipToTheDeadTime = 50 * time.Millisecond
	c.DeadNodeReclaimTime = time.Millisecond
	c.TCPTimeout = 500 * time.Millisecond
	c.SuspicionMult = 3
}

func config(id cluster.NodeID, seeds ...string) Config {
	return Config{
		ID: id, BindAddr: "127.0.0.1", AdvertiseAddr: "127.0.0.1", Key: []byte(strings.Repeat("k", 32)),
		Meta:   Meta{Cluster: "test", Zone: cluster.Zone(id[:1]), Role: cluster.RoleStorage, Addr: "127.0.0.1:1"},
		Seeds:  func() []string { return seeds },
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), tune: quick, rejoin: 100 * time.Millisecond,
	}
}

type node struct {
	*Membership
	stop func() // without a goodbye, as a kill would
}

func start(t *testing.T, cfg Config) *node {
	t.Helper()
	m, err := New(cfg)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stopped := false
	n := &node{m, func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}}
	t.Cleanup(n.stop)
	return n
}

// until waits for the view of one node, woken by its changes.
func until(t *testing.T, n *node, what string, cond func() bool) {
	t.Helper()
	late := time.After(15 * time.Second)
	for {
		c := n.Changes()
		if cond() {
			return
		}
		select {
		case <-c:
		case <-late:
			t.Fatalf("node %s: no %s within 15 s: %+v", n.cfg.ID, what, n.Members())
		}
	}
}

func alive(n *node) int {
	k := 0
	for _, s := range n.Members() {
		if s.Alive {
			k++
		}
	}
	return k
}

func TestJoinUpdateLeave(t *testing.T) {
	a := start(t, config("a1"))
	b := start(t, config("b1", a.Addr()))
	c := start(t, config("c1", a.Addr()))
	for _, n := range []*node{a, b, c} {
		until(t, n, "three members", func() bool { return alive(n) == 3 })
	}
	if !c.Alive("b1") || c.Alive("zz") || !c.Alive("c1") {
		t.Fatal("wrong about who is alive")
	}
	meta := b.cfg.Meta
	meta.Load, meta.Disks = 77, DiskSummary{Total: 12, Failed: 1, FreeGiB: 1000}
	must(t, b.UpdateMeta(meta))
	until(t, c, "new load of b1", func() bool { return c.Members()[1].Meta == meta })
	if s := c.Members()[1]; s.ID != "b1" || s.Zone != "b" || s.Role != cluster.RoleStorage || s.Gossip != b.Addr() {
		t.Fatalf("b1 is seen as %+v", s)
	}
	meta.Cluster = "other"
	if b.UpdateMeta(meta) == nil {
		t.Fatal("changed cluster")
	}
	must(t, b.Leave(5*time.Second))
	until(t, a, "goodbye of b1", func() bool { return !a.Alive("b1") })
	b.stop()
	must(t, b.Close())
	a.Forget("b1")
	a.Forget("c1") // alive: stays
	if len(a.Members()) != 2 {
		t.Fatalf("members %+v", a.Members())
	}
}

// A node comes back at once, and also long after memberlist has forgotten it
// and though it has no seeds of its own.
func TestRejoinAfterForgotten(t *testing.T) {
	a := start(t, config("a1"))
	b := start(t, config("b1", a.Addr()))
	c := start(t, config("c1", a.Addr()))
	until(t, a, "three members", func() bool { return alive(a) == 3 })
	until(t, c, "three members", func() bool { return alive(c) == 3 })
	port := int(b.ml.LocalNode().Port)
	b.stop()
	for _, n := range []*node{a, c} {
		until(t, n, "death of b1", func() bool { return !n.Alive("b1") })
	}
	// memberlist drops the dead from its own list after GossipToTheDeadTime.
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		if len(a.ml.Members()) == 2 && a.ml.NumMembers() == 2 {
			tick.Stop()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("memberlist does not forget")
		}
	}
	again := config("b1") // no seeds: the others must come for it
	again.BindPort = port
	b = start(t, again)
	until(t, b, "three members", func() bool { return alive(b) == 3 })
	for _, n := range []*node{a, c} {
		until(t, n, "return of b1", func() bool { return n.Alive("b1") })
	}
}

func TestStrangersAreRefused(t *testing.T) {
	a := start(t, config("a1"))
	wrongKey := config("b1", a.Addr())
	wrongKey.Key = []byte(strings.Repeat("x", 32))
	otherCluster := config("c1", a.Addr())
	otherCluster.Meta.Cluster = "other"
	sameLabel := config("d1", a.Addr())
	sameLabel.Meta.Cluster = "other"
	sameLabel.tune = func(c *memberlist.Config) { quick(c); c.Label = "test" }
	for _, cfg := range []Config{wrongKey, otherCluster, sameLabel} {
		m, err := New(cfg)
		must(t, err)
		if n, err := m.ml.Join([]string{a.Addr()}); err == nil && n > 0 && len(a.Members()) > 1 {
			t.Errorf("%s joined", cfg.ID)
		}
		must(t, m.Close())
	}
	good := start(t, config("e1", a.Addr()))
	until(t, a, "the good node", func() bool { return a.Alive("e1") })
	until(t, good, "two members", func() bool { return alive(good) == 2 })
	if len(a.Members()) != 2 {
		t.Fatalf("members %+v", a.Members())
	}
}

func TestConfig(t *testing.T) {
	bad := Config{ID: "", Key: []byte("short"), BindAddr: "nowhere"}
	err := bad.Validate()
	for _, want := range []string{"id", "key", "bind address", "cluster"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	long := config("a1")
	long.Meta.Version = strings.Repeat("v", 600)
	if _, err := New(long); err == nil {
		t.Error("meta of 600 bytes")
	}
}

// With the times of production: a zone of three dies, and each of the four
// others must see it (in about two seconds), with no false death among them.
func TestZoneKillIsSeen(t *testing.T) {
	var nodes []*node
	seed := ""
	for i, id := range []cluster.NodeID{"a1", "a2", "a3", "w1", "b1", "b2", "b3"} {
		cfg := config(id, seed)
		cfg.tune, cfg.rejoin = nil, 0
		n := start(t, cfg)
		if i == 0 {
			seed = n.Addr()
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		until(t, n, "seven members", func() bool { return alive(n) == 7 })
	}
	killed := time.Now()
	for _, n := range nodes[4:] {
		must(t, n.Close()) // the sockets go at once, for all three
	}
	for _, n := range nodes[:4] {
		until(t, n, "death of zone b", func() bool { return !n.Alive("b1") && !n.Alive("b2") && !n.Alive("b3") })
	}
	t.Logf("zone seen dead by all after %v", time.Since(killed).Round(time.Millisecond))
	for _, n := range nodes[:4] {
		if alive(n) != 4 {
			t.Errorf("%s sees %d alive", n.cfg.ID, alive(n))
		}
	}
}

func FuzzMeta(f *testing.F) {
	b, err := config("a1").Meta.encode()
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMeta(b)
		if err != nil {
			return
		}
		if again, err := m.encode(); err == nil {
			if m2, err := parseMeta(again); err != nil || m2 != m {
				t.Fatalf("%+v became %+v, %v", m, m2, err)
			}
		}
	})
}
