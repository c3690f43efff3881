package server

import (
	"context"
	"sync"
	"time"

	"bivalve/cluster/transport"
)

const (
	trafficEvery = 5 * time.Second
	// trafficLooks is how many looks back a rate is taken over: half a minute.
	trafficLooks = 6
)

// Traffic is what crossed between zones for one cause, in both directions, counted
// by the nodes that called. The rate is of the last half minute.
type Traffic struct {
	Out  int64   `json:"out"`
	In   int64   `json:"in"`
	Rate float64 `json:"bytes_per_second"`
}

// trafficMeter remembers recent readings of the transport's counters, so that a
// rate can be told at any time.
type trafficMeter struct {
	read func() map[string]transport.Crossed
	now  func() time.Time

	mu    sync.Mutex
	looks []trafficLook // oldest first, at most trafficLooks
}

type trafficLook struct {
	at  time.Time
	sum map[string]int64
}

func newTrafficMeter(read func() map[string]transport.Crossed, now func() time.Time) *trafficMeter {
	m := &trafficMeter{read: read, now: now}
	m.look()
	return m
}

// Run looks now and then until ctx ends.
func (m *trafficMeter) Run(ctx context.Context) error {
	t := time.NewTicker(trafficEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			m.look()
		}
	}
}

func (m *trafficMeter) look() {
	l := trafficLook{at: m.now(), sum: map[string]int64{}}
	for cause, c := range m.read() {
		l.sum[cause] = c.Out + c.In
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.looks = append(m.looks, l); len(m.looks) > trafficLooks {
		m.looks = m.looks[1:]
	}
}

// Traffic by cause; causes that moved nothing are left out.
func (m *trafficMeter) Traffic() map[string]Traffic {
	m.mu.Lock()
	oldest := m.looks[0]
	m.mu.Unlock()
	took := m.now().Sub(oldest.at).Seconds()
	out := map[string]Traffic{}
	for cause, c := range m.read() {
		if c.Out+c.In == 0 {
			continue
		}
		t := Traffic{Out: c.Out, In: c.In}
		if took > 0 {
			t.Rate = float64(c.Out+c.In-oldest.sum[cause]) / took
		}
		out[cause] = t
	}
	return out
}

// sumTraffic adds up what the nodes say of themselves.
func sumTraffic(nodes []NodeReport) map[string]Traffic {
	out := map[string]Traffic{}
	for _, n := range nodes {
		if n.Local == nil {
			continue
		}
		for cause, t := range n.Local.Traffic {
			s := out[cause]
			out[cause] = Traffic{Out: s.Out + t.Out, In: s.In + t.In, Rate: s.Rate + t.Rate}
		}
	}
	return out
}
