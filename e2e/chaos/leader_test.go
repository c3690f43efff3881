//go:build e2e

package chaos

import (
	"fmt"
	"testing"
	"time"
)

// TestPausedLeader stops whoever leads a group, for one to eight seconds, again and
// again, clients asking it all the while: when it goes on, it must not answer from
// what it knew. A new leader is there soon.
func TestPausedLeader(t *testing.T) {
	needNetworks(t)
	x := begin(t, shape{}, quietCrowd)
	p := x.probe()
	for i, length := range []time.Duration{time.Second, 3 * time.Second, 8 * time.Second, 5 * time.Second} {
		n, err := x.r.leader(t.Context(), i+1)
		if err != nil {
			t.Fatal(err)
		}
		when := x.now()
		if err := n.pause(); err != nil {
			t.Fatal(err)
		}
		sleep(t.Context(), length)
		if err := n.resume(); err != nil {
			t.Fatal(err)
		}
		x.say("%s, leader of group %d, was paused for %s", n.id, i+1, length)
		sleep(t.Context(), 2*time.Second)
		// Of its own clients nothing is asked meanwhile but that they are told the truth.
		x.missed(t, p, "paused "+n.id, when, x.now(), n.id, 5*time.Second, 5*time.Second)
	}
	p.stop()
	x.settle()
	x.reckon()
}

// TestBadLines loses packets, first some, then half of them; and delays them. What
// clients are told stays true; with half of the packets lost TCP brings hardly
// anything across, and nothing is asked of the pace.
func TestBadLines(t *testing.T) {
	needNetworks(t)
	x := begin(t, shape{}, quietCrowd)
	for _, percent := range []int{5, 20, 50} {
		before := x.report()
		done := x.done()
		undo, err := x.r.net.rule(bothWays(subnet("a"), subnet("b"), lossy(percent)), bothWays(subnet("w"), everywhere, lossy(percent)))
		if err != nil {
			t.Fatal(err)
		}
		sleep(t.Context(), 6*time.Second)
		got := x.done() - done
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		x.say("%d%% lost between the sites for 6 s: %d requests done", percent, got)
		if got < 10 && percent <= 20 {
			t.Errorf("%d%% lost: %d requests done; before:\n%s", percent, got, before)
		}
	}
	undo, err := x.r.net.slow(subnet("a"), subnet("b"), 75*time.Millisecond, 50*time.Millisecond, Step{Seed: x.seed}.Rand())
	if err != nil {
		t.Fatal(err)
	}
	done := x.done()
	sleep(t.Context(), 8*time.Second) // the first seconds are those after the losses
	x.say("75 ± 50 ms each way between the zones for 8 s: %d requests done", x.done()-done)
	if got := x.done() - done; got < 15 {
		t.Errorf("75 ± 50 ms: %d requests done", got)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	x.settle()
	x.reckon()
}

// done is how many requests were done.
func (c *crowd) done() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.told {
		n += t.reads[Done] + t.writes[Done] + t.reads[Missing]
	}
	return n
}

// TestFlapping restarts a node every few seconds: nobody else is ever taken for
// dead. Then a node is cut off for longer than gossip remembers the dead: it comes
// back by itself.
func TestFlapping(t *testing.T) {
	needNetworks(t)
	x := begin(t, shape{}, quietCrowd)
	flapping := x.r.node("a2")
	end := x.now() + 12*time.Second
	for i := 0; x.now() < end; i++ {
		if err := flapping.kill(); err != nil {
			t.Fatal(err)
		}
		sleep(t.Context(), time.Second)
		if err := flapping.start(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			sleep(t.Context(), 500*time.Millisecond)
			s, err := x.r.node("b1").status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range s.Nodes {
				if string(n.ID) != flapping.id && !n.Alive {
					t.Errorf("%s is taken for dead while %s flaps", n.ID, flapping.id)
				}
			}
		}
	}
	cut := x.r.node("b2")
	undo, err := x.r.net.rule(bothWays(cut.host.addr, everywhere, "drop"))
	if err != nil {
		t.Fatal(err)
	}
	sleep(t.Context(), 35*time.Second) // GossipToTheDead ends after 30
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	when := x.now()
	x.await(slack*15*time.Second, "the node that was cut off is met again", func() error {
		s, err := x.r.node("a1").status(t.Context())
		if err != nil {
			return err
		}
		for _, n := range s.Nodes {
			if string(n.ID) == cut.id && (!n.Alive || n.Local == nil) {
				return fmt.Errorf("%s is not alive", cut.id)
			}
		}
		return nil
	})
	x.say("%s is back %.2f s after a cut of 35 s", cut.id, (x.now() - when).Seconds())
	x.settle()
	x.reckon()
}
