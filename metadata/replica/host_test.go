package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// region is a few hosts in this process, joined by pipes.
type region struct {
	t     testing.TB
	tick  time.Duration
	tune  func(*Config)
	newSM func(dir string) func(GroupID) (StateMachine, error)

	mu      sync.Mutex
	nodes   map[ReplicaID]*node
	ids     []ReplicaID
	blocked map[[2]ReplicaID]bool
}

type node struct {
	id     ReplicaID
	dir    string
	host   *Host
	router *Router
	cancel context.CancelFunc
	ended  chan error
	queues map[ReplicaID]chan []byte // in order, per sender
	wg     sync.WaitGroup
}

func newRegion(t testing.TB, n, groups int, tune func(*Config)) *region {
	return (&region{t: t, tick: 10 * time.Millisecond, tune: tune, newSM: openKVFile}).start(n, groups)
}

func newRegionWith(t testing.TB, n, groups int, tick time.Duration, sm func(string) func(GroupID) (StateMachine, error)) *region {
	return (&region{t: t, tick: tick, newSM: sm}).start(n, groups)
}

func (r *region) start(n, groups int) *region {
	t := r.t
	r.nodes, r.blocked = map[ReplicaID]*node{}, map[[2]ReplicaID]bool{}
	for i := 1; i <= n; i++ {
		r.ids = append(r.ids, ReplicaID(i))
	}
	for _, id := range r.ids {
		nd := r.open(id, t.TempDir())
		for g := range groups {
			if err := nd.host.Bootstrap(GroupID(g), r.ids, nil); err != nil {
				t.Fatal(err)
			}
		}
		r.run(nd)
	}
	t.Cleanup(r.close)
	return r
}

func (r *region) open(id ReplicaID, dir string) *node {
	r.t.Helper()
	log := openLog(r.t, filepath.Join(dir, "raft.db"))
	cfg := Config{
		Replica: id, Dir: filepath.Join(dir, "tmp"), Log: log, Tick: r.tick,
		Transport: pipe{r, id}, NewStateMachine: r.newSM(dir), RestoreStateMachine: restoreKVFile(dir),
	}
	if r.tune != nil {
		r.tune(&cfg)
	}
	nd := &node{id: id, dir: dir, ended: make(chan error, 1), queues: map[ReplicaID]chan []byte{}}
	var err error
	if nd.host, err = Open(cfg); err != nil {
		r.t.Fatal(err)
	}
	nd.router, err = NewRouter(RouterConfig{
		Host: nd.host, Self: id, Peers: peers{r, id},
		Voters: func(GroupID) []ReplicaID { return r.ids },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return nd
}

func (r *region) run(nd *node) {
	ctx, cancel := context.WithCancel(context.Background())
	nd.cancel = cancel
	for id := ReplicaID(1); id <= 9; id++ {
		q := make(chan []byte, 1024)
		nd.queues[id] = q
		nd.wg.Go(func() {
			for {
				select {
				case b := <-q:
					nd.host.HandleRaft(id, b)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	r.mu.Lock()
	r.nodes[nd.id] = nd
	r.mu.Unlock()
	go func() { nd.ended <- nd.host.Run(ctx) }()
}

// stop ends a node as a kill would, as far as that is possible in one process.
func (r *region) stop(id ReplicaID) (dir string) {
	r.t.Helper()
	r.mu.Lock()
	nd := r.nodes[id]
	delete(r.nodes, id)
	r.mu.Unlock()
	nd.cancel()
	nd.wg.Wait()
	if err := <-nd.ended; err != nil {
		r.t.Errorf("node %d: %v", id, err)
	}
	if err := nd.host.Close(); err != nil {
		r.t.Errorf("node %d: close: %v", id, err)
	}
	return nd.dir
}

func (r *region) close() {
	for _, id := range append([]ReplicaID{}, r.ids...) {
		if r.node(id) != nil {
			r.stop(id)
		}
	}
}

func (r *region) node(id ReplicaID) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[id]
}

// reach is the receiving node, if the way there is open.
func (r *region) reach(from, to ReplicaID) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blocked[[2]ReplicaID{from, to}] {
		return nil
	}
	return r.nodes[to]
}

func (r *region) leader(g GroupID) ReplicaID {
	r.t.Helper()
	var lead ReplicaID
	eventually(r.t, "a leader", func() bool {
		for _, id := range r.ids {
			if nd := r.node(id); nd != nil && nd.host.Leader(g) == id {
				lead = id
				return true
			}
		}
		return false
	})
	return lead
}

// eventually polls a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

type pipe struct {
	r    *region
	self ReplicaID
}

func (p pipe) SendRaft(to ReplicaID, payload []byte) bool {
	nd := p.r.reach(p.self, to)
	if nd == nil {
		return true // lost
	}
	select {
	case nd.queues[p.self] <- payload:
		return true
	default:
		return false
	}
}

func (p pipe) SendSnapshot(ctx context.Context, to ReplicaID, head []byte, r io.Reader) error {
	nd := p.r.reach(p.self, to)
	if nd == nil {
		return errors.New("unreachable")
	}
	return nd.host.HandleSnapshot(ctx, p.self, head, r)
}

type peers struct {
	r    *region
	self ReplicaID
}

func (p peers) Call(ctx context.Context, to ReplicaID, method uint8, payload []byte) ([]byte, error) {
	nd := p.r.reach(p.self, to)
	if nd == nil {
		return nil, fmt.Errorf("replica %d: %w", to, ErrNotSent)
	}
	return nd.router.HandleCall(ctx, p.self, method, payload)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func put(t testing.TB, r *Router, g GroupID, id, key, value string) string {
	t.Helper()
	out, err := r.Propose(testContext(t), g, command(id, key, value))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func get(t testing.TB, r *Router, g GroupID, key string) string {
	t.Helper()
	out, err := r.Query(testContext(t), g, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestRegionForwardsAndFailsOver(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRegion(t, 3, 2, nil)
	defer r.close()
	for i, id := range r.ids {
		n := r.node(id)
		if got := put(t, n.router, 1, fmt.Sprint("a", i), "k", fmt.Sprint(i)); i > 0 && got != fmt.Sprint(i-1) {
			t.Fatalf("swap %d returned %q", i, got)
		}
		for _, other := range r.ids {
			if got := get(t, r.node(other).router, 1, "k"); got != fmt.Sprint(i) {
				t.Fatalf("replica %d read %q after write %d", other, got, i)
			}
		}
	}
	lead := r.leader(1)
	follower := lead%3 + 1
	var nl *NotLeaderError
	if _, err := r.node(follower).host.Propose(testContext(t), 1, command("b", "k", "x")); !errors.As(err, &nl) || nl.Leader != lead {
		t.Fatalf("propose at a follower: %v", err)
	}
	dir := r.stop(lead)
	if got := put(t, r.node(follower).router, 1, "c", "k", "after"); got != "2" {
		t.Fatalf("write after failover returned %q", got)
	}
	// The same request again is recognised.
	if got := put(t, r.node(follower).router, 1, "c", "k", "after"); got != "2" {
		t.Fatalf("repeated write returned %q", got)
	}
	r.run(r.open(lead, dir))
	if got := get(t, r.node(lead).router, 1, "k"); got != "after" {
		t.Fatalf("restarted replica read %q", got)
	}
	if err := r.node(lead).host.Bootstrap(1, r.ids, nil); !errors.Is(err, ErrExists) {
		t.Fatalf("second bootstrap: %v", err)
	}
}

func TestRegionCatchesUpBySnapshot(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRegion(t, 3, 1, func(c *Config) { c.TailEntries, c.PinFactor, c.CacheBytes = 50, 2, 4096 })
	defer r.close()
	put(t, r.node(1).router, 0, "first", "k", "v")
	lag := r.leader(0)%3 + 1
	dir := r.stop(lag)
	live := r.node(r.leader(0))
	for i := range 400 {
		put(t, live.router, 0, fmt.Sprint("w", i), fmt.Sprint("k", i), fmt.Sprint(i))
	}
	eventually(t, "compaction", func() bool { return live.host.Status()[0].FirstIndex > 200 })
	r.run(r.open(lag, dir))
	if got := get(t, r.node(lag).router, 0, "k399"); got != "399" {
		t.Fatalf("lagging replica read %q", got)
	}
	eventually(t, "catching up", func() bool {
		return r.node(lag).host.Status()[0].Applied >= live.host.Status()[0].Commit
	})
	// Everything restarts from disk, at once.
	dirs := map[ReplicaID]string{}
	for _, id := range r.ids {
		dirs[id] = r.stop(id)
	}
	for _, id := range r.ids {
		r.run(r.open(id, dirs[id]))
	}
	for _, id := range r.ids {
		if got := get(t, r.node(id).router, 0, "k7"); got != "7" {
			t.Fatalf("replica %d read %q after the restart", id, got)
		}
	}
}
