package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
)

// Host runs all the replicas of one node.
type Host struct {
	cfg     Config
	metrics *metrics
	in      inbox
	seq     atomic.Uint64 // ids of proposals, reads and changes; starts at random in each life

	groups atomic.Pointer[[]*group] // sorted by id; replaced as a whole

	mu      sync.Mutex
	running bool
	closed  bool
	away    map[GroupID]*absent // changed only by Open and the loop

	stop     chan struct{} // closed: Run must return
	stopOnce sync.Once
	done     chan struct{} // closed: Run has returned, or never will run
	fatal    chan error    // from appliers
	workers  sync.WaitGroup
	guests   sync.WaitGroup // callers from outside that open files
	receives chan struct{}  // snapshots coming in at once

	saves saveTimes

	stalled atomic.Pointer[error] // why the log takes nothing at present

	// Only the loop.
	turnNo uint64
	out    sender
	stall  stall
}

// Open reads the log store and opens the state machine of every group in it. What
// is damaged concerns its group alone, which Status then shows as absent. If Open
// fails, the log store is still the caller's to close.
func Open(cfg Config) (*Host, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	cfg.withDefaults()
	h := &Host{
		cfg:      cfg,
		away:     map[GroupID]*absent{},
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
		fatal:    make(chan error, 1),
		receives: make(chan struct{}, maxReceives),
	}
	h.in.init(&cfg)
	h.out.host = h
	h.seq.Store(rand.New(rand.NewPCG(cfg.Seed, uint64(cfg.Replica))).Uint64())
	h.groups.Store(&[]*group{})
	var err error
	if h.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, err
	}
	if err := removeLeftovers(cfg.Dir); err != nil {
		return nil, err
	}
	if err := cfg.Log.Claim(cfg.Replica); err != nil {
		return nil, err
	}
	ids, err := cfg.Log.Groups()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := h.openGroup(id); err != nil {
			return nil, errors.Join(err, h.closeMachines())
		}
	}
	return h, nil
}

func (h *Host) all() []*group { return *h.groups.Load() }

func (h *Host) group(id GroupID) *group {
	gs := h.all()
	i, ok := slices.BinarySearchFunc(gs, id, func(g *group, id GroupID) int {
		return int(int64(g.id) - int64(id))
	})
	if !ok {
		return nil
	}
	return gs[i]
}

// addGroup makes a group visible and starts its applier if the host runs.
func (h *Host) addGroup(g *group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	gs := append(slices.Clone(h.all()), g)
	slices.SortFunc(gs, func(a, b *group) int { return int(int64(a.id) - int64(b.id)) })
	h.groups.Store(&gs)
	if h.running {
		h.startApplier(g)
	}
}

// Groups lists the groups that have a replica here, absent ones too.
func (h *Host) Groups() []GroupID {
	var ids []GroupID
	for _, s := range h.Status() {
		ids = append(ids, s.Group)
	}
	return ids
}

// Run is the loop. It returns nil once ctx is done or Close was called, and an
// error if the log could not be synced: then the process must end, since what the
// file holds is no longer known.
func (h *Host) Run(ctx context.Context) error {
	h.mu.Lock()
	if h.running || h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.running = true
	for _, g := range h.all() {
		h.startApplier(g)
	}
	h.mu.Unlock()
	err := h.loop(ctx)
	h.stopOnce.Do(func() { close(h.stop) })
	h.workers.Wait()
	select {
	case ferr := <-h.fatal: // an applier's error is the cause, if there is one
		err = errors.Join(ferr, err)
	default:
	}
	if err != nil {
		h.cfg.Logger.Error("metadata replicas stopped", "err", err)
	}
	close(h.done)
	return err
}

func (h *Host) loop(ctx context.Context) error {
	ticks := h.cfg.Ticks
	if ticks == nil {
		t := time.NewTicker(h.cfg.Tick)
		defer t.Stop()
		ticks = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.stop:
			return nil
		case err := <-h.fatal:
			return err
		case <-ticks:
			h.in.tick()
		case <-h.in.wake:
		}
		for more := true; more; {
			var err error
			if more, err = h.turn(); err != nil {
				return err
			}
			select {
			case <-ticks: // never starve the clock
				h.in.tick()
			default:
			}
		}
	}
}

func (h *Host) startApplier(g *group) {
	h.workers.Add(1)
	go func() {
		defer h.workers.Done()
		if err := g.ap.run(h.stop); err != nil {
			h.fail(err)
		}
	}()
}

// fail ends Run with err.
func (h *Host) fail(err error) {
	select {
	case h.fatal <- err:
	default: // one is enough
	}
}

// Close stops Run, waits for it, and closes the state machines and the log.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		<-h.done
		return nil
	}
	h.closed = true
	running := h.running
	h.mu.Unlock()
	h.stopOnce.Do(func() { close(h.stop) })
	if running {
		<-h.done
	} else {
		close(h.done)
	}
	h.workers.Wait() // of a host that never ran
	h.guests.Wait()
	return errors.Join(h.closeMachines(), h.cfg.Log.Close())
}

func (h *Host) closeMachines() error {
	var errs []error
	for _, g := range h.all() {
		if err := g.ap.close(); err != nil {
			errs = append(errs, fmt.Errorf("group %d: close: %w", g.id, err))
		}
	}
	for _, a := range h.absentGroups() {
		if a.loose != nil { // nobody joins it any more
			errs = append(errs, a.loose.Close())
		}
	}
	return errors.Join(errs...)
}

// raftConfig has the numbers that all replicas must share.
func (h *Host) raftConfig(g GroupID, st *storage, applied uint64) *raft.Config {
	return &raft.Config{
		ID:                        uint64(st.mark.self(h.cfg.Replica)),
		ElectionTick:              electionTicks,
		HeartbeatTick:             2,
		Storage:                   st,
		Applied:                   applied,
		MaxSizePerMsg:             1 << 20,
		MaxInflightMsgs:           256,
		MaxCommittedSizePerReady:  8 << 20,
		MaxUncommittedEntriesSize: 64 << 20,
		PreVote:                   true,
		CheckQuorum:               true,
		StepDownOnRemoval:         true,
		DisableProposalForwarding: true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{h.cfg.Logger.With("group", uint32(g))},
	}
}
