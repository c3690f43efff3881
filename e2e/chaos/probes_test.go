//go:build e2e

package chaos

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// sample is one request of a probe: a single try, at one node.
type sample struct {
	zone, node string
	write      bool
	from, to   time.Duration // since the start of the round
	answer     answer
}

func (s sample) took() time.Duration { return s.to - s.from }

// probes ask every node of the data zones at a steady pace, from a client in its
// zone: a read of an object that is there, and a write of a fresh one.
type probes struct {
	*crowd
	stop func()

	mu      sync.Mutex
	samples []sample
}

const probePace = 250 * time.Millisecond

// probe begins to ask. Its objects are part of the ledger.
func (x *round) probe() *probes {
	ctx, cancel := context.WithCancel(context.Background())
	p := &probes{crowd: x.crowd}
	var wg sync.WaitGroup
	for i, n := range x.r.zone("") {
		w := &worker{crowd: x.crowd, id: 500 + i, zone: n.zone, client: x.r.client(n.zone), nodes: []*node{n}}
		known := fmt.Sprintf("l/p%s/known", n.id)
		if a := w.enter(n, known, Noise(known, 200_000)); a.Outcome != Done {
			x.t.Fatalf("probe of %s: %s", n.id, a)
		}
		for _, ask := range []func(k int) (bool, answer){
			func(int) (bool, answer) { return false, w.lookup(n, known) },
			func(k int) (bool, answer) {
				key := fmt.Sprintf("l/p%s/%05d", n.id, k)
				return true, w.enter(n, key, Noise(key, []int{100, 50_000}[k%2]))
			},
		} {
			wg.Go(func() {
				tick := time.NewTicker(probePace)
				defer tick.Stop()
				for k := 0; ctx.Err() == nil; k++ {
					from := p.now()
					write, a := ask(k)
					p.mu.Lock()
					p.samples = append(p.samples, sample{n.zone, n.id, write, from, p.now(), a})
					p.mu.Unlock()
					select {
					case <-ctx.Done():
					case <-tick.C:
					}
				}
			})
		}
	}
	p.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	x.t.Cleanup(p.stop)
	return p
}

// of are the samples that fit and began between two moments.
func (p *probes) of(from, to time.Duration, fits func(sample) bool) (out []sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.samples {
		if s.from >= from && s.from < to && fits(s) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b sample) int { return int(a.from - b.from) })
	return out
}

func inZone(zone string, write bool) func(sample) bool {
	return func(s sample) bool { return s.zone == zone && s.write == write }
}

func notAt(id string, write bool) func(sample) bool {
	return func(s sample) bool { return s.node != id && s.write == write }
}

// gap is the longest time that any node's probes went without a done answer in the
// span, counted from its start, and whether each was answered again by its end.
// The pace itself is not part of it.
func (p *probes) gap(from, to time.Duration, fits func(sample) bool) (longest time.Duration, back bool) {
	last := map[string]time.Duration{}
	done := map[string]bool{}
	for _, s := range p.of(0, to, fits) {
		if _, ok := last[s.node]; !ok {
			last[s.node] = from
		}
		if s.to < from || s.to > to {
			continue
		}
		if done[s.node] = s.answer.Outcome == Done; done[s.node] {
			longest = max(longest, s.to-last[s.node]-probePace)
			last[s.node] = s.to
		}
	}
	back = len(last) > 0
	for id := range last {
		back = back && done[id]
	}
	return max(longest, 0), back
}

// slowest is the sample that took longest.
func slowest(samples []sample) (out sample) {
	for _, s := range samples {
		if s.took() > out.took() {
			out = s
		}
	}
	return out
}

// tell counts samples by outcome.
func tell(samples []sample) string {
	by := map[Outcome]int{}
	for _, s := range samples {
		by[s.answer.Outcome]++
	}
	return fmt.Sprintf("%v, the slowest %.2f s", by, slowest(samples).took().Seconds())
}

// waits tells how long requests waited for their answer after a moment, of those that
// had none at that moment: how many, the quantiles, and each that waited for more than a
// second and a half, with when it began.
func waits(samples []sample, after time.Duration) string {
	wait := func(s sample) time.Duration { return s.to - max(s.from, after) }
	samples = slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.to < after })
	if len(samples) == 0 {
		return "none"
	}
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(wait(a), wait(b)) })
	out := fmt.Sprintf("%d, waits of p50 %.2f s, p90 %.2f s, most %.2f s", len(samples),
		wait(samples[len(samples)/2]).Seconds(), wait(samples[len(samples)*9/10]).Seconds(), wait(samples[len(samples)-1]).Seconds())
	for _, s := range samples {
		if w := wait(s); w > 1500*time.Millisecond || s.answer.status == 500 {
			out += fmt.Sprintf("; %s at %+.2f s: %.2f s, %s", s.node, (s.from - after).Seconds(), w.Seconds(), s.answer)
		}
	}
	return out
}

// retried asks one node after the other until one has done it, as an SDK with
// several endpoints does, and returns how many tries it took.
func (w *worker) retried(ctx context.Context, r request, tries int) (answer, int) {
	var a answer
	for i := range tries {
		a = w.client.do(ctx, w.nodes[(w.rng.IntN(len(w.nodes))+i)%len(w.nodes)], r)
		if a.Outcome == Done {
			return a, i + 1
		}
		sleep(ctx, time.Duration(50<<i)*time.Millisecond)
	}
	return a, tries
}
