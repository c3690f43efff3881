package membership

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"bivalve/cluster"
)

// Config of one node's membership.
type Config struct {
	ID            cluster.NodeID
	Meta          Meta   // what this node says of itself at first
	BindAddr      string // IP to listen on, TCP and UDP
	BindPort      int    // 0 picks a free one
	AdvertiseAddr string // IP that others reach it by; default BindAddr
	AdvertisePort int    // default BindPort
	Key           []byte // 32 bytes, of the cluster
	// Seeds are addresses (host:port) to join by. Asked in each round of the
	// rejoin loop, so they may come from the root group's member table.
	Seeds  func() []string
	Logger *slog.Logger     // default slog.Default()
	Now    func() time.Time // default time.Now
	// Lost tells whether what is sent to an address (host:port) gets lost: faults
	// for tests.
	Lost func(addr string) bool

	tune func(*memberlist.Config) // tests shorten times
	// rejoin is rejoinInterval unless a test says otherwise.
	rejoin time.Duration
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	if c.ID == "" || len(c.ID) > 63 {
		errs = append(errs, fmt.Errorf("membership: id %q: want 1..63 bytes", c.ID))
	}
	if len(c.Key) != 32 {
		errs = append(errs, fmt.Errorf("membership: gossip key has %d bytes, want 32", len(c.Key)))
	}
	if net.ParseIP(c.BindAddr) == nil {
		errs = append(errs, fmt.Errorf("membership: bind address %q is no IP", c.BindAddr))
	}
	if b, err := c.Meta.encode(); err != nil {
		errs = append(errs, err)
	} else if _, err := parseMeta(b); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// State is what this node sees of a member, itself included.
type State struct {
	ID     cluster.NodeID
	Zone   cluster.Zone
	Role   cluster.Role
	Alive  bool
	Since  time.Time // of Alive being what it is, by this node's clock
	Gossip string    // host:port
	Meta   Meta      // the last that was heard
}

// Membership is one node's view. Safe for concurrent use.
type Membership struct {
	cfg   Config
	log   *slog.Logger
	ml    *memberlist.Memberlist
	close sync.Once

	// end guards shut: memberlist panics when it is told to leave after it was
	// shut down, as happens when another part has ended the node.
	end  sync.Mutex
	shut bool

	mu      sync.Mutex
	meta    []byte // of this node, encoded
	members map[cluster.NodeID]State
	back    map[string]bool // addresses of who came back and was not greeted yet
	changed chan struct{}   // closed and replaced at every change
	left    bool
	err     error // of Shutdown
}

// New binds the sockets and answers probes from then on; Run joins the others.
// Close releases the sockets, also if Run was never called.
func New(cfg Config) (*Membership, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.rejoin == 0 {
		cfg.rejoin = rejoinInterval
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Membership{cfg: cfg, log: cfg.Logger, members: make(map[cluster.NodeID]State), back: map[string]bool{}, changed: make(chan struct{})}
	var err error
	if m.meta, err = cfg.Meta.encode(); err != nil {
		return nil, err
	}
	mc := tuned()
	mc.Name = string(cfg.ID)
	mc.BindAddr, mc.BindPort = cfg.BindAddr, cfg.BindPort
	mc.AdvertiseAddr, mc.AdvertisePort = cfg.AdvertiseAddr, cfg.AdvertisePort
	if mc.AdvertisePort == 0 {
		mc.AdvertisePort = cfg.BindPort
	}
	mc.SecretKey = cfg.Key
	mc.GossipVerifyIncoming, mc.GossipVerifyOutgoing = true, true
	mc.Label = cfg.Meta.Cluster // packets of another cluster do not even decrypt
	mc.Logger = log.New(debugWriter{m.log}, "", 0)
	mc.Delegate, mc.Events, mc.Alive, mc.Merge = delegate{m}, delegate{m}, delegate{m}, delegate{m}
	if cfg.tune != nil {
		cfg.tune(mc)
	}
	if cfg.Lost != nil {
		if mc.Transport, err = newLossy(mc, cfg.Lost); err != nil {
			return nil, fmt.Errorf("membership: %w", err)
		}
	}
	if m.ml, err = memberlist.Create(mc); err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	return m, nil
}

// Addr is where others reach this node's gossip.
func (m *Membership) Addr() string {
	n := m.ml.LocalNode()
	return net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
}

// Run joins the seeds and goes on rejoining whoever is not alive until ctx ends;
// then it closes the sockets. memberlist forgets the dead after a while, so
// without this two zones that were cut from each other would stay apart.
func (m *Membership) Run(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.rejoin)
	defer tick.Stop()
	for {
		m.rejoin(ctx)
		select {
		case <-ctx.Done():
			return m.Close()
		case <-tick.C:
		}
	}
}

// rejoin tries a few of the addresses where nobody is seen alive, and exchanges
// all that is known with those who have just come back: one who was told that it
// is dead and objects is seen alive before it knows anybody itself.
func (m *Membership) rejoin(ctx context.Context) {
	// Asked before mu is taken: memberlist calls the delegate under its own lock,
	// and the delegate takes mu.
	alive := map[string]bool{m.Addr(): true}
	m.mu.Lock()
	left := m.left
	var try []string
	for _, s := range m.members {
		if s.Alive {
			alive[s.Gossip] = true
		} else {
			try = append(try, s.Gossip)
		}
	}
	back := slices.Collect(maps.Keys(m.back))
	clear(m.back)
	m.mu.Unlock()
	if left {
		return
	}
	if m.cfg.Seeds != nil {
		try = append(try, m.cfg.Seeds()...)
	}
	slices.Sort(try)
	try = slices.DeleteFunc(slices.Compact(try), func(a string) bool { return a == "" || alive[a] })
	rand.Shuffle(len(try), func(i, j int) { try[i], try[j] = try[j], try[i] })
	for _, a := range append(back, try[:min(len(try), rejoinTries)]...) {
		if ctx.Err() != nil {
			return
		}
		if _, err := m.ml.Join([]string{a}); err != nil {
			m.log.Debug("gossip: join failed", "addr", a, "err", err)
		}
	}
}

// Alive tells whether the node is seen alive; an unknown one is not.
func (m *Membership) Alive(id cluster.NodeID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members[id].Alive
}

// Members are all that were ever seen and not forgotten, by id.
func (m *Membership) Members() []State {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]State, 0, len(m.members))
	for _, s := range m.members {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

// Changes is closed at the next change of Members. Take it before looking at
// them, so that no change falls between.
func (m *Membership) Changes() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Forget drops a dead member that the root group has removed, so that it is not
// rejoined.
func (m *Membership) Forget(id cluster.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.members[id]; ok && !s.Alive {
		delete(m.members, id)
		m.notify()
	}
}

// UpdateMeta tells the others; it waits no longer than a second for the news to
// be sent, and gossip goes on spreading it afterwards.
func (m *Membership) UpdateMeta(meta Meta) error {
	if meta.Cluster != m.cfg.Meta.Cluster {
		return fmt.Errorf("membership: meta of cluster %q, this is %q", meta.Cluster, m.cfg.Meta.Cluster)
	}
	b, err := meta.encode()
	if err != nil {
		return err
	}
	if _, err := parseMeta(b); err != nil {
		return err
	}
	m.mu.Lock()
	m.meta = b
	m.mu.Unlock()
	if err := m.ml.UpdateNode(time.Second); err != nil {
		return fmt.Errorf("membership: update meta: %w", err)
	}
	return nil
}

// Leave says goodbye, so that the others need not find out. The node stays
// silent about itself afterwards; Close or the end of Run comes next. After
// either it does nothing.
func (m *Membership) Leave(timeout time.Duration) error {
	m.mu.Lock()
	m.left = true
	m.mu.Unlock()
	m.end.Lock()
	defer m.end.Unlock()
	if m.shut {
		return nil
	}
	if err := m.ml.Leave(timeout); err != nil {
		return fmt.Errorf("membership: leave: %w", err)
	}
	return nil
}

// Close releases the sockets without a goodbye. It may be called again.
func (m *Membership) Close() error {
	m.close.Do(func() {
		m.end.Lock()
		defer m.end.Unlock()
		m.shut = true
		if err := m.ml.Shutdown(); err != nil {
			m.err = fmt.Errorf("membership: %w", err)
		}
	})
	return m.err
}

// notify wakes who waits for changes; the caller holds mu.
func (m *Membership) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// debugWriter takes memberlist's log lines, which are all about what gossip
// mends by itself.
type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug("gossip", "line", strings.TrimSpace(string(p)))
	return len(p), nil
}
