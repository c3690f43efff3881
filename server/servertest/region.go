// Package servertest runs a whole region inside one test process: two zones and
// a witness, every node with its own directories and loopback ports, real in all
// layers. A node can be stopped, killed and started again.
package servertest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/s3api/s3test"
	"bivalve/server"
)

// Options of a region; zero means the default in brackets.
type Options struct {
	NodesPerZone int              // [3]
	DisksPerNode int              // [1]
	Partitions   int              // [2]
	PGs          int              // [32]
	Grace        time.Duration    // of garbage [1 s]
	Relay        server.RelayMode // [auto: off, since all is on loopback]
	Replace      time.Duration    // of voters [15 min]
	LostAfter    time.Duration    // a disk that is away for so long is marked [as in the product]
	HealRate     server.Size      // [as in the product]
	Profile      cluster.Profile  // [the region's own default]
	OrphanAge    time.Duration    // [as in the product]
	Logger       *slog.Logger     // [only what an operator must act on, to the test's log]
}

// Zones of the region; WitnessZone holds the witness "w".
const (
	ZoneA       cluster.Zone = "a"
	ZoneB       cluster.Zone = "b"
	WitnessZone cluster.Zone = "w"
)

// Region is a region of nodes a1.., b1.. and w. Its methods are for one goroutine;
// clients may use what Client answers from any.
type Region struct {
	Name    string
	Secrets *server.Secrets

	t      testing.TB
	dir    string
	logger *slog.Logger
	http   *http.Client

	grace     time.Duration
	orphanAge time.Duration
	slow      delays
	lines     [2]throttle // from a to b, from b to a

	mu      sync.Mutex
	members []server.SeedMember // replaced, not changed
	running map[cluster.NodeID]*running
	cut     map[[2]cluster.NodeID]bool // from, to
	skew    map[cluster.NodeID]time.Duration
	links   map[*link]bool
}

// running is one life of a node.
type running struct {
	node   *server.Node
	cfg    *server.Config
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once ended
}

// Start makes a region, starts every node and waits until all are ready. The end
// of the test stops it.
func Start(t testing.TB, o Options) *Region {
	t.Helper()
	def(&o.NodesPerZone, 3)
	def(&o.DisksPerNode, 1)
	def(&o.Partitions, 2)
	def(&o.PGs, 32)
	def(&o.Grace, time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	r := &Region{Name: "test-region", t: t, dir: filepath.Join(t.TempDir(), "region"), logger: o.Logger, grace: o.Grace, orphanAge: o.OrphanAge, running: map[cluster.NodeID]*running{},
		cut: map[[2]cluster.NodeID]bool{}, skew: map[cluster.NodeID]time.Duration{}, links: map[*link]bool{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}}
	init := server.InitOptions{Dir: r.dir, Name: r.Name, Partitions: o.Partitions, PGs: o.PGs, Profile: o.Profile}
	addrs := freeAddrs(t, 4*(2*o.NodesPerZone+1))
	add := func(id cluster.NodeID, z cluster.Zone, role cluster.Role) {
		m := server.InitMember{SeedMember: server.SeedMember{ID: id, Zone: z, Role: role, Addr: addrs[0], Gossip: addrs[1], Admin: addrs[2]}}
		if role == cluster.RoleStorage {
			m.S3 = addrs[3]
			for d := range o.DisksPerNode {
				m.Config.Disks = append(m.Config.Disks, fmt.Sprintf("disk%d", d))
			}
		}
		addrs = addrs[4:]
		m.Config.Limits = server.Limits{Budget: 64 << 20, Segment: 16 << 20, DiskReserve: 1 << 20}
		m.Config.Transport.Relay = o.Relay
		m.Config.GarbageGrace = server.Duration(o.Grace)
		m.Config.ReplaceVoters = server.Duration(o.Replace)
		m.Config.Heal = server.Heal{After: server.Duration(o.LostAfter), Rate: o.HealRate}
		init.Members = append(init.Members, m)
		r.members = append(r.members, m.SeedMember)
	}
	for _, z := range []cluster.Zone{ZoneA, ZoneB} {
		for i := range o.NodesPerZone {
			add(cluster.NodeID(fmt.Sprintf("%s%d", z, i+1)), z, cluster.RoleStorage)
		}
	}
	add("w", WitnessZone, cluster.RoleWitness)
	var err error
	if r.Secrets, err = server.InitRegion(init); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	for _, m := range r.members {
		r.start(m.ID)
	}
	r.WaitReady(r.Nodes()...)
	return r
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Nodes lists all nodes, running or not; of a zone if one is given.
func (r *Region) Nodes(zones ...cluster.Zone) []cluster.NodeID {
	var out []cluster.NodeID
	for _, m := range r.all() {
		if len(zones) == 0 || slices.Contains(zones, m.Zone) {
			out = append(out, m.ID)
		}
	}
	return out
}

// Config is the path of a node's configuration.
func (r *Region) Config(id cluster.NodeID) string {
	return filepath.Join(r.dir, string(id), "config.yaml")
}

// TryStart tells why a node does not start; it must not.
func (r *Region) TryStart(id cluster.NodeID) error {
	cfg, err := server.LoadConfig(r.Config(id))
	if err != nil {
		return err
	}
	node, err := server.New(cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		err = node.Close()
	}
	return err
}

// Data is the folder of a node's metadata.
func (r *Region) Data(id cluster.NodeID) string { return filepath.Join(r.dir, string(id), "data") }

// Disk is the directory of a disk of a node, as its configuration names it.
func (r *Region) Disk(id cluster.NodeID, disk int) string {
	return filepath.Join(r.dir, string(id), fmt.Sprintf("disk%d", disk))
}

func (r *Region) all() []server.SeedMember {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members
}

// Join adds a storage node to the region through another one, makes its folder,
// starts it and waits until it is ready.
func (r *Region) Join(id cluster.NodeID, z cluster.Zone, by cluster.NodeID, disks int) {
	r.t.Helper()
	addrs := freeAddrs(r.t, 4)
	m := server.SeedMember{ID: id, Zone: z, Addr: addrs[0], Gossip: addrs[1], Admin: addrs[2], S3: addrs[3]}
	r.Until(fmt.Sprintf("%s is a member", id), func(ctx context.Context) error {
		joined, err := r.Node(by).AddNode(ctx, m)
		if err == nil {
			m = *joined
		}
		return err
	})
	f := server.NodeFolder{Out: filepath.Join(r.dir, string(id)), CA: filepath.Join(r.dir, "ca"), Like: filepath.Join(r.dir, string(by)), Member: m}
	for d := range disks {
		f.Config.Disks = append(f.Config.Disks, fmt.Sprintf("disk%d", d))
	}
	f.Config.Limits = server.Limits{Budget: 64 << 20, Segment: 16 << 20, DiskReserve: 1 << 20}
	f.Config.GarbageGrace = server.Duration(r.grace)
	if err := f.Write(); err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.members = append(slices.Clone(r.members), m)
	r.mu.Unlock()
	r.start(id)
	r.WaitReady(id)
}

// Member is a node as the region knows it, with its addresses.
func (r *Region) Member(id cluster.NodeID) server.SeedMember {
	for _, m := range r.all() {
		if m.ID == id {
			return m
		}
	}
	r.t.Fatalf("no node %s", id)
	return server.SeedMember{}
}

// Node is the present life of a node; nil if it does not run.
func (r *Region) Node(id cluster.NodeID) *server.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.running[id]; l != nil {
		return l.node
	}
	return nil
}

// start begins a life of a node. It does not wait for the node to be ready.
func (r *Region) start(id cluster.NodeID) {
	r.t.Helper()
	cfg, err := server.LoadConfig(filepath.Join(r.dir, string(id), "config.yaml"))
	if err != nil {
		r.t.Fatal(err)
	}
	cfg.Drain = server.Duration(5 * time.Second)
	cfg.Faults = r.faults(id)
	cfg.OrphanAge = server.Duration(r.orphanAge)
	node, err := server.New(cfg, r.logger)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	life := &running{node: node, cfg: cfg, cancel: cancel, ended: make(chan struct{})}
	go func() { // end waits for it
		defer close(life.ended)
		life.err = node.Run(ctx)
	}()
	r.mu.Lock()
	r.running[id] = life
	r.mu.Unlock()
}

// Start starts nodes that do not run, without waiting until they are ready.
func (r *Region) Start(ids ...cluster.NodeID) {
	r.t.Helper()
	for _, id := range ids {
		r.start(id)
	}
}

// Stop ends nodes as SIGTERM does: requests under way are finished.
func (r *Region) Stop(ids ...cluster.NodeID) {
	r.t.Helper()
	r.end(ids, func(l *running) error { l.cancel(); <-l.ended; return l.err })
}

// Kill ends nodes without a goodbye or a drain: the sockets, disks and logs are
// closed under whatever is going on. What was not synced is still in the page
// cache, so this is the end of a process, not of its machine.
func (r *Region) Kill(ids ...cluster.NodeID) {
	r.t.Helper()
	r.end(ids, func(l *running) error {
		l.cfg.Drain = 1 // nanosecond: whatever is under way is cut off
		err := l.node.Close()
		l.cancel()
		<-l.ended // with errors of all that was cut off
		return err
	})
}

// end ends several nodes at once.
func (r *Region) end(ids []cluster.NodeID, how func(*running) error) {
	r.t.Helper()
	var wg sync.WaitGroup
	for _, id := range ids {
		r.mu.Lock()
		l := r.running[id]
		delete(r.running, id)
		r.mu.Unlock()
		if l == nil {
			continue
		}
		wg.Go(func() {
			if err := how(l); err != nil {
				r.t.Logf("end of %s: %v", id, err)
			}
			if err := l.node.Close(); err != nil {
				r.t.Logf("close of %s: %v", id, err)
			}
		})
	}
	wg.Wait()
}

// close stops whatever runs.
func (r *Region) close() {
	r.http.CloseIdleConnections()
	r.Kill(r.Nodes()...)
	r.http.CloseIdleConnections()
}

// WaitReady waits until the nodes say that they can serve.
func (r *Region) WaitReady(ids ...cluster.NodeID) {
	r.t.Helper()
	for _, id := range ids {
		r.Until(fmt.Sprintf("%s is ready", id), func(ctx context.Context) error { return r.Node(id).Ready(ctx) })
	}
}

// patience is how long Until waits, far longer than anything should take.
const patience = 2 * time.Minute

// Until waits for a condition; it asks again after every failure.
func (r *Region) Until(what string, ask func(context.Context) error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		actx, done := context.WithTimeout(ctx, 2*time.Second)
		err := ask(actx)
		done()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("waited %v until %s: %v", patience, what, err)
		case <-time.After(20 * time.Millisecond): // between two questions
		}
	}
}

// Do sends one signed S3 request to a node. A body is sent as it is.
func (r *Region) Do(ctx context.Context, id cluster.NodeID, method, path string, body io.ReadSeeker, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = body
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.Member(id).S3+path, reader)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if body != nil {
		if req.ContentLength, err = body.Seek(0, io.SeekEnd); err == nil {
			_, err = body.Seek(0, io.SeekStart)
		}
		if err != nil {
			return nil, err
		}
	}
	s3test.Signer{AccessKey: r.Secrets.AccessKey, SecretKey: r.Secrets.SecretKey, Region: r.Name, Time: time.Now()}.Sign(req)
	return r.http.Do(req)
}

// testWriter writes log lines to the test's log.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}
