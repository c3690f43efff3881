// Package watch sees every call that a disk makes to its file system: which are
// under way and for how long, how long they take, which reads fail. It judges
// nothing; package disk does.
//
// Age is counted in ticks of the one who watches and not by a clock, so that a
// process that was stopped for a minute does not take its disks for hung.
package watch

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"

	"bivalve/cluster/disk/vfs"
)

const (
	// windowTicks is how far back latencies and errors are looked at.
	windowTicks = 60
	// windowCalls bounds the calls that a latency is taken from.
	windowCalls = 512
)

// Monitor is safe for concurrent use.
type Monitor struct {
	now func() time.Time

	mu     sync.Mutex
	tick   uint64
	next   uint64
	flying map[uint64]Call
	reads  window
	syncs  window
	failed window // reads that gave EIO, of each file one in a tick
}

// Call is a call under way. Ticks is its age.
type Call struct {
	Op    vfs.Op
	Name  string
	Ticks uint64
	since uint64
	began time.Time
}

// Latency is what calls took in the last minute, zero where there were none.
type Latency struct {
	ReadP99, SyncP99 time.Duration
}

// New monitor; now gives the time that calls take.
func New(now func() time.Time) *Monitor { return &Monitor{now: now, flying: map[uint64]Call{}} }

// Around is a vfs.Around.
func (m *Monitor) Around(op vfs.Op, name string, call func() error) error {
	m.mu.Lock()
	id := m.next
	m.next++
	began := m.now()
	m.flying[id] = Call{Op: op, Name: name, since: m.tick, began: began}
	m.mu.Unlock()
	err := call()
	took := m.now().Sub(began)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.flying, id)
	switch {
	case op == vfs.OpRead && errors.Is(err, syscall.EIO):
		if !slices.Contains(m.failed.calls, sample{m.tick, name, 0}) {
			m.failed.add(sample{m.tick, name, 0})
		}
	case op == vfs.OpRead:
		m.reads.add(sample{tick: m.tick, took: took})
	case op == vfs.OpSyncData, op == vfs.OpSync:
		m.syncs.add(sample{tick: m.tick, took: took})
	}
	return err
}

// Tick makes all calls under way a tick older and returns the oldest.
func (m *Monitor) Tick() (oldest Call, any bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tick++
	for _, c := range m.flying {
		if c.Ticks = m.tick - c.since; !any || c.Ticks > oldest.Ticks {
			oldest, any = c, true
		}
	}
	return oldest, any
}

// Latency of the last minute of ticks.
func (m *Monitor) Latency() Latency {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Latency{p99(m.reads.recent(m.tick, windowTicks)), p99(m.syncs.recent(m.tick, windowTicks))}
}

// LatencyOf is that of the last ticks, windowTicks at most. Calls that began before
// the last tick and are still under way count by their age.
func (m *Monitor) LatencyOf(ticks uint64) Latency {
	m.mu.Lock()
	defer m.mu.Unlock()
	reads, syncs := m.reads.recent(m.tick, ticks), m.syncs.recent(m.tick, ticks)
	for _, c := range m.flying {
		if c.since == m.tick {
			continue
		}
		switch c.Op {
		case vfs.OpRead:
			reads = append(reads, m.now().Sub(c.began))
		case vfs.OpSyncData, vfs.OpSync:
			syncs = append(syncs, m.now().Sub(c.began))
		}
	}
	return Latency{p99(reads), p99(syncs)}
}

// FailedReads counts the reads that gave EIO in the last minute of ticks: of each file one
// in a tick, for many may want what lies on one bad sector until it is mended.
func (m *Monitor) FailedReads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.failed.recent(m.tick, windowTicks))
}

// window is a ring of the latest calls.
type window struct {
	calls []sample
	at    int
}

type sample struct {
	tick uint64
	file string // of failed reads
	took time.Duration
}

func (w *window) add(s sample) {
	if len(w.calls) < windowCalls {
		w.calls = append(w.calls, s)
		return
	}
	w.calls[w.at] = s
	w.at = (w.at + 1) % windowCalls
}

func (w *window) recent(tick, ticks uint64) []time.Duration {
	var out []time.Duration
	for _, c := range w.calls {
		if tick-c.tick < min(ticks, windowTicks) {
			out = append(out, c.took)
		}
	}
	return out
}

func p99(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[(len(took)*99-1)/100]
}
