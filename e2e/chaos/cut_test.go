//go:build e2e

package chaos

import (
	"fmt"
	"testing"
	"time"

	"bivalve/server"
)

// Bounds of these tests are three times what is promised: the machine is small and
// busy. What was measured is logged.
const slack = 3

// fewer clients than in a round of all faults: the probes come on top.
var quietCrowd = crowdSize{registers: 3, ledgers: 1, walkers: 1, every: 200 * time.Millisecond}

// TestZonesCut cuts a zone from all others, clients on both sides. The side without
// the witness must refuse writes and reads alike, and soon; the other goes on; and
// what both saw must fit one order of events.
func TestZonesCut(t *testing.T) {
	needNetworks(t)
	x := begin(t, shape{}, quietCrowd)
	p := x.probe()
	for _, zone := range []string{"a", "b"} {
		other := map[string]string{"a": "b", "b": "a"}[zone]
		when := x.now()
		undo, err := x.r.net.rule(bothWays(subnet(zone), subnet(other), "drop"), bothWays(subnet(zone), subnet("w"), "drop"))
		if err != nil {
			t.Fatal(err)
		}
		x.say("%s is cut from %s and the witness", zone, other)
		sleep(t.Context(), 15*time.Second)
		over := x.now()
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		x.say("the cut is over")
		x.cutOff(p, zone, when, over)
		x.goesOn(p, other, when, over)
		x.backAgain(p, zone, over)
	}
	p.stop()
	x.settle()
	x.reckon()
}

// cutOff: nothing was done in the zone that is cut off, and every request was
// answered soon.
func (x *round) cutOff(p *probes, zone string, from, to time.Duration) {
	for write, what := range map[bool]string{false: "reads", true: "writes"} {
		all := p.of(from, to, inZone(zone, write))
		late := p.of(from+2*time.Second, to-slack*2*time.Second, inZone(zone, write))
		x.say("cut off in %s: %s %s; from 2 s on %s", zone, what, tell(all), tell(late))
		x.say("cut off in %s: %s under way at the cut or begun in the 2 s after it: %s", zone, what, waits(p.of(from-10*time.Second, from+2*time.Second, inZone(zone, write)), from))
		if len(late) < 5 {
			x.t.Errorf("only %d %s were tried in zone %s", len(late), what, zone)
		}
		for _, s := range late {
			if s.answer.status != 503 {
				x.t.Errorf("cut off: %s through %s at %.3f: %s, want 503", what, s.node, s.from.Seconds(), s.answer)
			}
		}
		for _, s := range all {
			if s.took() > slack*2*time.Second && s.to < to {
				x.t.Errorf("cut off: %s through %s at %.3f took %.2f s: %s", what, s.node, s.from.Seconds(), s.took().Seconds(), s.answer)
			}
		}
	}
}

// goesOn: the zone was without answers for a few seconds at most.
func (x *round) goesOn(p *probes, zone string, from, to time.Duration) {
	for write, limit := range map[bool]time.Duration{false: 5 * time.Second, true: 10 * time.Second} {
		gap, back := p.gap(from, to, inZone(zone, write))
		x.say("%s goes on: without %s for %.2f s", zone, map[bool]string{false: "reads", true: "writes"}[write], gap.Seconds())
		if !back || gap > slack*limit {
			x.t.Errorf("zone %s (writes %t): without an answer for %s, going on %t", zone, write, gap, back)
		}
	}
}

// backAgain waits until the zone serves again, reads and writes, and tells how long
// that took.
func (x *round) backAgain(p *probes, zone string, from time.Duration) {
	x.t.Helper()
	for _, write := range []bool{false, true} {
		var at time.Duration
		x.await(30*time.Second, "zone "+zone+" serves again", func() error {
			done := map[string]bool{}
			at = 0
			for _, s := range p.of(from, x.now(), inZone(zone, write)) {
				if s.answer.Outcome == Done && !done[s.node] {
					done[s.node], at = true, max(at, s.to)
				}
			}
			if len(done) < len(x.r.zone(zone)) {
				return fmt.Errorf("writes %t: %d nodes do", write, len(done))
			}
			return nil
		})
		x.say("%s is back (writes %t) after %.2f s", zone, write, (at - from).Seconds())
	}
	x.await(time.Minute, "the region is whole", func() error {
		s, err := x.r.status(x.t.Context())
		if err != nil {
			return err
		}
		return wellness(s)
	})
}

// await waits for a condition.
func (x *round) await(limit time.Duration, what string, cond func() error) {
	x.t.Helper()
	late := time.After(limit)
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-late:
			x.t.Fatalf("not within %s: %s: %v", limit, what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestZonesApart cuts the zones from each other while the witness sees both: one
// side goes on, the other says 503, and leaders do not dance.
func TestZonesApart(t *testing.T) {
	needNetworks(t)
	x := begin(t, shape{}, quietCrowd)
	p := x.probe()
	when := x.now()
	undo, err := x.r.net.rule(bothWays(subnet("a"), subnet("b"), "drop"))
	if err != nil {
		t.Fatal(err)
	}
	var zone, other string
	x.await(30*time.Second, "one zone is judged down", func() error {
		s, err := x.r.node("w1").status(t.Context())
		if err != nil {
			return err
		}
		for i, z := range s.Zones {
			if z.Down {
				zone, other = string(z.Zone), string(s.Zones[1-i].Zone)
				return nil
			}
		}
		return fmt.Errorf("both are up")
	})
	x.say("%s is judged down %.2f s after the cut", zone, (x.now() - when).Seconds())
	sleep(t.Context(), 5*time.Second) // leaders move to where they can work
	settled := x.terms()
	began := x.now()
	sleep(t.Context(), 15*time.Second)
	over := x.now()
	terms := x.terms()
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	for group, term := range terms {
		if more := term - settled[group]; more > 1 {
			t.Errorf("group %d: %d elections in %s while nothing changed", group, more, over-began)
		}
	}
	x.say("terms went from %v to %v in %s", settled, terms, over-began)
	x.cutOff(p, zone, began, over)
	x.goesOn(p, other, when, over)
	x.backAgain(p, zone, over)
	p.stop()
	x.settle()
	x.reckon()
}

// terms of all groups, the highest that any node knows of.
func (x *round) terms() map[int]uint64 {
	out := map[int]uint64{}
	for _, n := range x.r.nodes {
		s, err := n.status(x.t.Context())
		if err != nil {
			continue
		}
		add := func(l *server.LocalStatus) {
			for _, g := range l.Groups {
				out[int(g.Group)] = max(out[int(g.Group)], g.Term)
			}
		}
		for _, r := range s.Nodes {
			if r.Local != nil {
				add(r.Local)
			}
		}
	}
	return out
}
