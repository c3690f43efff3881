package replica

import (
	"bytes"
	"container/heap"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// The simulation runs hosts in one goroutine under a virtual clock of
// milliseconds. All chance comes from one seed, also raft's own.

var errCrash = errors.New("simulated crash")

const (
	simStep = 5
	simTick = 50
)

// zones of the replicas: A 1 2, B 3 4, witness 5.
var simVoters = []ReplicaID{1, 2, 3, 4, 5}

const simWitness ReplicaID = 5

type sim struct {
	rnd    *rand.Rand
	dir    string
	groups int
	now    int
	seq    int
	events eventHeap
	nodes  map[ReplicaID]*simNode
	ids    []ReplicaID

	blocked        map[[2]ReplicaID]bool
	loss, dup      float64
	maxDelay       int
	laggy          float64 // chance that an applier does nothing in a step
	noSync, noRead bool
	tune           func(*Config)

	hits  map[string]int
	trace interface {
		io.Writer
		Sum64() uint64
	}
	failure error
	debug   *slog.Logger
}

type simNode struct {
	id     ReplicaID
	log    *memLog
	disks  map[GroupID]*kvDisk
	host   *Host // nil while down
	life   int
	armed  map[string]bool // points at which to crash
	phase  int
	paused int // until then
	upAt   int // when to restart; 0 if not planned
}

type event struct {
	at, seq int
	run     func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// seededReader stands in for crypto/rand, from which raft draws its election
// timeouts.
type seededReader struct{ rnd *rand.Rand }

func (s seededReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.rnd.Uint32())
	}
	return len(p), nil
}

// withSeed runs f with raft's randomness tied to the seed.
func withSeed(seed uint64, f func()) {
	old := crand.Reader
	crand.Reader = seededReader{rand.New(rand.NewPCG(seed, 77))}
	defer func() { crand.Reader = old }()
	f()
}

func newSim(seed uint64, dir string, groups int) *sim {
	s := &sim{
		rnd: rand.New(rand.NewPCG(seed, 1)), dir: dir, groups: groups,
		nodes: map[ReplicaID]*simNode{}, blocked: map[[2]ReplicaID]bool{},
		maxDelay: 15, hits: map[string]int{}, trace: fnv.New64a(), ids: simVoters,
	}
	if os.Getenv("BIVALVE_SIM_DEBUG") != "" {
		s.debug = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return s
}

// start bootstraps all nodes.
func (s *sim) start() {
	for _, id := range s.ids {
		n := &simNode{id: id, log: newMemLog(), disks: map[GroupID]*kvDisk{}, armed: map[string]bool{}, phase: s.rnd.IntN(simTick)}
		s.nodes[id] = n
		s.boot(n)
		for g := range s.groups {
			s.check(n.host.Bootstrap(GroupID(g), s.ids, nil))
		}
	}
}

func (s *sim) check(err error) {
	if err != nil && s.failure == nil {
		s.failure = fmt.Errorf("t=%d: %w", s.now, err)
	}
}

func (s *sim) after(ms int, run func()) {
	s.seq++
	heap.Push(&s.events, event{s.now + ms, s.seq, run})
}

func (s *sim) note(format string, v ...any) {
	fmt.Fprintf(s.trace, "%d "+format+"\n", append([]any{s.now}, v...)...)
	if s.debug != nil {
		s.debug.Debug(fmt.Sprintf(format, v...), "t", s.now)
	}
}

func (s *sim) boot(n *simNode) {
	n.life++
	cfg := Config{
		Replica: n.id, Dir: filepath.Join(s.dir, fmt.Sprint("n", n.id)), Log: n.log,
		Transport: simTransport{s, n}, Seed: uint64(n.id)*1000 + uint64(n.life),
		NewStateMachine: func(g GroupID) (StateMachine, error) {
			if n.disks[g] == nil {
				n.disks[g] = &kvDisk{}
				if err := n.disks[g].load(); err != nil {
					return nil, err
				}
			}
			if err := n.disks[g].check(); err != nil {
				return nil, err
			}
			return openKV(n.disks[g]), nil
		},
		RestoreStateMachine: func(g GroupID, path string) (StateMachine, error) {
			return restoreKV(n.disks[g], path)
		},
		DropStateMachine: func(g GroupID) error {
			delete(n.disks, g)
			return nil
		},
		PreferLeader: func(id ReplicaID) bool { return id != simWitness },
		TailEntries:  8, PinFactor: 2, CacheBytes: 600,
		hooks: hooks{
			at:          func(point string, _ GroupID) error { return s.at(n, point) },
			noSync:      s.noSync,
			runSnapshot: func(j *snapshotJob) { s.snapshot(n, j) },
			background:  func(f func()) { f() },
		},
	}
	if s.debug != nil {
		cfg.Logger = s.debug.With("node", uint64(n.id))
	}
	if s.tune != nil {
		s.tune(&cfg)
	}
	s.note("boot %d", n.id)
	var err error
	if n.host, err = Open(cfg); err != nil {
		s.check(fmt.Errorf("node %d does not come up: %w", n.id, err))
	}
}

func (s *sim) at(n *simNode, point string) error {
	if n.armed[point] {
		clear(n.armed)
		s.hits[point]++
		return errCrash
	}
	return nil
}

// crash loses everything that is not durable.
func (s *sim) crash(n *simNode, downFor int) {
	s.note("crash %d", n.id)
	n.host, n.paused = nil, 0
	clear(n.armed)
	n.log.crash(s.rnd.IntN(2) == 0)
	n.upAt = s.now + downFor
}

// advance moves the clock to until.
func (s *sim) advance(until int, each func()) {
	for s.now < until && s.failure == nil {
		s.now += simStep
		for len(s.events) > 0 && s.events[0].at <= s.now {
			heap.Pop(&s.events).(event).run()
		}
		for _, id := range s.ids {
			s.drive(s.nodes[id])
		}
		if each != nil {
			each()
		}
	}
}

// drive gives a node its share of the processor.
func (s *sim) drive(n *simNode) {
	if n.host == nil {
		if n.upAt > 0 && s.now >= n.upAt {
			n.upAt = 0
			s.boot(n)
		}
		return
	}
	if s.now < n.paused {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.check(fmt.Errorf("node %d: panic: %v", n.id, p))
			n.host = nil
		}
	}()
	if (s.now+n.phase)%simTick < simStep {
		n.host.in.tick()
	}
	for range 20 {
		more, err := n.host.turn()
		if s.died(n, err) {
			return
		}
		for _, g := range n.host.all() {
			for busy := s.rnd.Float64() >= s.laggy; busy; {
				busy, err = g.ap.step()
				if s.died(n, err) {
					return
				}
			}
		}
		if !more {
			return
		}
	}
}

func (s *sim) died(n *simNode, err error) bool {
	if err == nil {
		return false
	}
	if !errors.Is(err, errCrash) {
		s.check(fmt.Errorf("node %d: %w", n.id, err))
	}
	s.crash(n, 100+s.rnd.IntN(1500))
	return true
}

type simTransport struct {
	s *sim
	n *simNode
}

func (t simTransport) SendRaft(to ReplicaID, payload []byte) bool {
	s := t.s
	fmt.Fprintf(s.trace, "%d %d>%d %x\n", s.now, t.n.id, to, fnvOf(payload))
	if s.rnd.Float64() < 0.002 {
		return false
	}
	for copies := 1; copies > 0; copies-- {
		if s.rnd.Float64() < s.dup {
			copies++
		}
		if s.blocked[[2]ReplicaID{t.n.id, to.Host()}] || s.rnd.Float64() < s.loss {
			continue
		}
		delay := 1 + s.rnd.IntN(s.maxDelay)
		if s.rnd.Float64() < 0.01 {
			delay += s.rnd.IntN(500) // a straggler overtaken by much
		}
		s.after(delay, func() {
			// Cut while on its way: what a partition does to a full pipe.
			if r := s.nodes[to.Host()]; r != nil && r.host != nil && !s.blocked[[2]ReplicaID{t.n.id, to.Host()}] {
				r.host.HandleRaft(t.n.id, payload)
			}
		})
	}
	return true
}

func (t simTransport) SendSnapshot(context.Context, ReplicaID, []byte, io.Reader) error {
	return errors.New("the simulation sends snapshots itself")
}

// snapshot takes the way of HandleSnapshot without its goroutines.
func (s *sim) snapshot(from *simNode, j *snapshotJob) {
	life, told := from.life, false
	report := func(err error) {
		if from.host != nil && from.life == life && !told {
			told = true
			j.report(err)
		}
	}
	// The connection ends with the receiver, or a timeout ends it.
	defer s.after(3000, func() { report(errors.New("timeout")) })
	var image bytes.Buffer
	if err := j.stream(&image); err != nil {
		if !errors.Is(err, ErrDamaged) {
			s.check(err)
		}
		report(err)
		return
	}
	s.note("snapshot %d>%d", from.id, j.to)
	lost := errors.New("lost")
	s.after(10+s.rnd.IntN(200), func() {
		n := s.nodes[j.to.Host()]
		if n == nil || n.host == nil || s.blocked[[2]ReplicaID{from.id, j.to.Host()}] || s.rnd.Float64() < s.loss {
			report(lost)
			return
		}
		m, err := n.host.checkHead(from.id, j.head)
		if err != nil {
			report(err)
			return
		}
		g, away := n.host.group(m.group), n.host.absentGroup(m.group)
		if g == nil && away == nil {
			report(ErrNoGroup)
			return
		}
		if away == nil && !g.expects(m) {
			report(ErrNoGroup)
			return
		}
		if away == nil && !g.receiving.CompareAndSwap(false, true) {
			report(lost)
			return
		}
		s.hits["snapshot"]++
		path := filepath.Join(n.host.cfg.Dir, fmt.Sprintf("received-%d.snap", s.hits["snapshot"]))
		data, err := io.ReadAll(newStreamReader(&image))
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		s.check(err)
		if away != nil {
			sm, err := away.restore(path)
			s.check(err)
			n.host.in.call(func() {
				err := away.join(sm)
				if err == nil {
					s.hits["rebuilt"]++
				}
				s.after(5, func() { report(err) })
			})
			return
		}
		g.install(m.msg, path, func(err error) {
			g.receiving.Store(false)
			s.after(5, func() { report(err) })
		})
	})
}

func fnvOf(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// cut blocks (or opens) the ways from each of a to each of b.
func (s *sim) cut(a, b []ReplicaID, block, bothWays bool) {
	for _, x := range a {
		for _, y := range b {
			if x != y {
				s.blocked[[2]ReplicaID{x, y}] = block
				if bothWays {
					s.blocked[[2]ReplicaID{y, x}] = block
				}
			}
		}
	}
}

func (s *sim) heal() {
	clear(s.blocked)
	s.loss, s.dup, s.maxDelay, s.laggy = 0, 0, 15, 0
	for _, id := range s.ids {
		n := s.nodes[id]
		n.paused = 0
		clear(n.armed)
		if n.host == nil {
			n.upAt = s.now
		}
	}
}

// loseStates takes the state files of a node that is down.
func (s *sim) loseStates(n *simNode) {
	for _, g := range sortedKeys(n.disks) {
		if s.rnd.IntN(3) > 0 {
			s.hits["lost state"]++
			d := &kvDisk{}
			s.check(d.load())
			n.disks[g] = d
		}
	}
}

// leader is the live node that leads g and that no newer term denies.
func (s *sim) leader(g GroupID) *simNode {
	var best *simNode
	var term uint64
	var epoch uint32
	for _, id := range s.ids {
		n := s.nodes[id]
		if n.host == nil || n.host.group(g) == nil {
			continue
		}
		if st := n.host.group(g).status.Load(); st.Leader == st.Self && (st.Epoch > epoch || st.Epoch == epoch && st.Term > term) {
			best, term, epoch = n, st.Term, st.Epoch
		}
	}
	return best
}

// converged reports whether all replicas hold all of the longest commit.
func (s *sim) converged() bool {
	for g := range s.groups {
		var index uint64
		for _, id := range s.ids {
			n := s.nodes[id]
			if n.host == nil {
				return false
			}
			gr := n.host.group(GroupID(g))
			if gr == nil {
				return false
			}
			if s.leader(GroupID(g)) == nil || gr.st.last != gr.commit {
				return false
			}
			a := gr.ap.applied.Load().Index
			if index != 0 && a != index || a != gr.commit {
				return false
			}
			index = a
		}
	}
	return true
}

func simDir(base string) string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		if d, err := os.MkdirTemp("/dev/shm", "bivalve-sim-"); err == nil {
			return d
		}
	}
	return base
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func without(ids []ReplicaID, drop ...ReplicaID) []ReplicaID {
	return slices.DeleteFunc(slices.Clone(ids), func(id ReplicaID) bool { return slices.Contains(drop, id) })
}
