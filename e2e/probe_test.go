//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// probe asks at a steady pace, one request at a time, without retries, and notes
// when it was answered.
type probe struct {
	name string
	ask  func(ctx context.Context, n int) error

	mu      sync.Mutex
	good    []time.Time // when right answers came
	bad     int
	lastErr error
}

const (
	probeEvery = 100 * time.Millisecond
	// probePatience is how long one request may take: a client that waits longer
	// would have gone to another node.
	probePatience = 10 * time.Second
)

func (p *probe) run(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		rctx, cancel := context.WithTimeout(ctx, probePatience)
		err := p.ask(rctx, n)
		cancel()
		p.mu.Lock()
		if err == nil {
			p.good = append(p.good, time.Now())
		} else if ctx.Err() == nil {
			p.bad++
			p.lastErr = err
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// gap is the longest time without an answer that began within the first ten
// seconds from when on; the pace itself is not part of it. after is how many
// answers came since.
func (p *probe) gap(when time.Time) (gap time.Duration, after int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := when
	for _, at := range p.good {
		if at.Before(when) {
			continue
		}
		if last.Sub(when) < 10*time.Second {
			gap = max(gap, at.Sub(last)-probeEvery)
		}
		last = at
		after++
	}
	return gap, after
}

// usual is the longest gap before when: what a busy machine costs by itself.
func usual(probes []*probe, when time.Time) time.Duration {
	var out time.Duration
	for _, p := range probes {
		p.mu.Lock()
		for i := 1; i < len(p.good) && p.good[i].Before(when); i++ {
			out = max(out, p.good[i].Sub(p.good[i-1])-probeEvery)
		}
		p.mu.Unlock()
	}
	return out
}

// answered waits until each probe has n answers since when.
func answered(t testing.TB, probes []*probe, when time.Time, n int) {
	t.Helper()
	eventually(t, time.Minute, "the probes are answered", func() error {
		for _, p := range probes {
			if _, after := p.gap(when); after < n {
				p.mu.Lock()
				defer p.mu.Unlock()
				return fmt.Errorf("probe %s: %d answers, %d errors, the last: %w", p.name, after, p.bad, p.lastErr)
			}
		}
		return nil
	})
}

// longest is the longest gap of all probes.
func longest(probes []*probe, when time.Time) time.Duration {
	var out time.Duration
	for _, p := range probes {
		g, _ := p.gap(when)
		out = max(out, g)
	}
	return out
}

// distribution is a row of a Markdown table: name, runs, min, median, p90, max.
func distribution(name string, d []time.Duration) string {
	d = slices.Clone(d)
	slices.Sort(d)
	at := func(q float64) string { return fmt.Sprintf("%.2f s", d[int(q*float64(len(d)-1)+0.5)].Seconds()) }
	return fmt.Sprintf("| %s | %d | %s | %s | %s | %s |", name, len(d), at(0), at(0.5), at(0.9), at(1))
}
