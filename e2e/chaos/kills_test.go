//go:build e2e

package chaos

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// TestKills ends processes in every way, with clients at work.
func TestKills(t *testing.T) {
	needNetworks(t)
	x := begin(t, shape{}, quietCrowd)
	p := x.probe()
	ok := t.Run("one", func(t *testing.T) { x.killOne(t, p) }) &&
		t.Run("witness", func(t *testing.T) { x.loseWitness(t, p) }) &&
		t.Run("rolling", func(t *testing.T) { x.roll(t, p) }) &&
		t.Run("all", func(t *testing.T) { x.killEverything(t, p) })
	p.stop()
	if !ok {
		t.Log(x.report())
		return
	}
	x.settle()
	x.reckon()
}

// killOne kills a storage node: clients of the others miss reads for a second at
// most, and writes for five.
func (x *round) killOne(t *testing.T, p *probes) {
	n := x.r.zone("")[int(x.seed%6)]
	when := x.now()
	if err := n.kill(); err != nil {
		t.Fatal(err)
	}
	sleep(t.Context(), 8*time.Second)
	x.missed(t, p, "node "+n.id, when, x.now(), n.id, time.Second, 5*time.Second)
	x.restarted(t, n)
}

// missed tells how long clients of all nodes but one went without answers.
func (x *round) missed(t *testing.T, p *probes, what string, from, to time.Duration, but string, reads, writes time.Duration) {
	for write, limit := range map[bool]time.Duration{false: reads, true: writes} {
		gap, back := p.gap(from, to, notAt(but, write))
		kind := map[bool]string{false: "reads", true: "writes"}[write]
		x.say("%s: without %s for %.2f s; %s", what, kind, gap.Seconds(), tell(p.of(from, to, notAt(but, write))))
		if !back || gap > slack*limit {
			t.Errorf("%s: without %s for %s, going on %t", what, kind, gap, back)
		}
	}
}

// restarted starts nodes, which must be ready soon, and the region whole.
func (x *round) restarted(t *testing.T, nodes ...*node) {
	begun := x.now()
	if err := each(nodes, (*node).start)(); err != nil {
		t.Fatal(err)
	}
	x.await(slack*15*time.Second, "the nodes are ready", func() error {
		return each(nodes, func(n *node) error { return n.ready(t.Context()) })()
	})
	x.say("ready %.2f s after the start", (x.now() - begun).Seconds())
	x.await(time.Minute, "the region is whole", func() error {
		s, err := x.r.status(t.Context())
		if err != nil {
			return err
		}
		return wellness(s)
	})
}

// loseWitness: no client notices, and an operator is told.
func (x *round) loseWitness(t *testing.T, p *probes) {
	w := x.r.node("w1")
	when := x.now()
	if err := w.kill(); err != nil {
		t.Fatal(err)
	}
	x.await(20*time.Second, "an alert", func() error {
		s, err := x.r.node("a1").status(t.Context())
		if err == nil && len(s.Alerts) == 0 {
			err = fmt.Errorf("no alerts")
		}
		return err
	})
	sleep(t.Context(), 6*time.Second)
	for _, s := range p.of(when, x.now(), func(sample) bool { return true }) {
		if s.answer.Outcome != Done {
			t.Errorf("without the witness, %s (write %t): %s", s.node, s.write, s.answer)
		}
	}
	x.missed(t, p, "the witness", when, x.now(), "", time.Second, time.Second)
	x.restarted(t, w)
}

// roll restarts every node in order, as an upgrade does: an operation that an SDK
// retries never fails.
func (x *round) roll(t *testing.T, p *probes) {
	stop, failed := make(chan struct{}), make(chan int, 2)
	most := 0
	for i, zone := range []string{"a", "b"} {
		w := &worker{crowd: x.crowd, id: 600 + i, zone: zone, client: x.r.client(zone), nodes: x.r.zone(zone), rng: rand.New(rand.NewPCG(x.seed, uint64(600+i)))}
		go func() {
			bad := 0
			for k := 0; ; k++ {
				select {
				case <-stop:
					failed <- bad
					return
				default:
				}
				path := fmt.Sprintf("/%s/rolled/%d/%d", registerBucket, w.id, k/2)
				r := request{method: http.MethodPut, path: path, body: Noise(path, 40_000)}
				if k%2 == 1 {
					r = request{method: http.MethodGet, path: path}
				}
				a, tries := w.retried(t.Context(), r, 5)
				x.mu.Lock()
				most = max(most, tries)
				x.mu.Unlock()
				if a.Outcome != Done {
					bad++
					t.Errorf("%s %s after %d tries: %s", r.method, path, tries, a)
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	longest := time.Duration(0)
	for _, n := range x.r.nodes {
		begun := time.Now()
		if err := n.drain(); err != nil {
			t.Error(err)
		}
		longest = max(longest, time.Since(begun))
		x.restarted(t, n)
	}
	close(stop)
	bad := <-failed + <-failed
	x.say("rolling restart: a node drained in %.2f s at most; %d operations failed after retries, %d tries at most", longest.Seconds(), bad, most)
}

// killEverything kills all nodes at once.
func (x *round) killEverything(t *testing.T, p *probes) {
	if err := each(x.r.nodes, (*node).kill)(); err != nil {
		t.Fatal(err)
	}
	x.restarted(t, x.r.nodes...)
	when := x.now()
	sleep(t.Context(), 3*time.Second)
	for write := range map[bool]bool{false: true, true: true} {
		if _, back := p.gap(when, x.now(), notAt("", write)); !back {
			t.Errorf("clients are not answered after all nodes were killed (writes %t)", write)
		}
	}
}
