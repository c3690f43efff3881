//go:build e2e

package chaos

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// TestZoneAway kills a zone for a minute (BIVALVE_CHAOS_AWAY=10m for longer) of
// writes and deletes. When it is back, all that was missed is made up for, nothing
// that was deleted comes back, and clients of the other zone hardly notice.
func TestZoneAway(t *testing.T) {
	needNetworks(t)
	away := time.Minute
	if s := os.Getenv("BIVALVE_CHAOS_AWAY"); s != "" {
		var err error
		if away, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	x := begin(t, shape{}, usualCrowd)
	p := x.probe()
	sleep(t.Context(), 10*time.Second)
	zone := x.r.zone("b")
	lost := x.now()
	if err := each(zone, (*node).kill)(); err != nil {
		t.Fatal(err)
	}
	sleep(t.Context(), away)
	back := x.now()
	s := x.protection(t)
	x.say("zone b was away for %s: %d objects (%d bytes) lack shards", away, s.objects, s.bytes)
	if s.objects == 0 {
		t.Error("nothing lacks shards after a zone was away: the test shows nothing")
	}
	if err := each(zone, (*node).start)(); err != nil {
		t.Fatal(err)
	}
	most := int64(0)
	x.await(2*time.Minute+2*away, "all shards are there", func() error {
		s := x.protection(t)
		if most = max(most, s.objects); s.unknown || s.objects > 0 {
			return fmt.Errorf("%d objects (%d bytes) lack shards, unknown %t", s.objects, s.bytes, s.unknown)
		}
		return nil
	})
	healed := x.now()
	x.say("converged %.1f s after the zone was back; at most %d objects lacked shards", (healed - back).Seconds(), most)
	p.stop()
	for _, write := range []bool{false, true} {
		usual := p99(p.of(lost-10*time.Second, lost, inZone("a", write)))
		meanwhile := p99(p.of(back, healed, inZone("a", write)))
		ratio := float64(meanwhile) / float64(max(usual, time.Millisecond))
		x.say("p99 of clients in a (writes %t): %s before, %s while the zone caught up: %.1f times", write, usual.Round(time.Millisecond), meanwhile.Round(time.Millisecond), ratio)
		if ratio > 2*slack && meanwhile > 500*time.Millisecond {
			t.Errorf("p99 of clients (writes %t) went from %s to %s", write, usual, meanwhile)
		}
	}
	x.settle()
	x.reckon()
}

// protected says which objects lack shards, by the counters.
func (x *round) protected() error {
	s := x.protection(x.t)
	if s.unknown || s.objects > 0 {
		return fmt.Errorf("%d objects (%d bytes), unknown %t", s.objects, s.bytes, s.unknown)
	}
	return nil
}

// protection is what lacks shards, by the counters.
type protection struct {
	objects, bytes int64
	unknown        bool
}

func (x *round) protection(t *testing.T) protection {
	s, err := x.r.status(t.Context())
	if err != nil {
		return protection{unknown: true}
	}
	return protection{s.Protected.UnderProtected, s.Protected.UnderBytes, s.Protected.Unknown}
}

// p99 of how long requests took that were done.
func p99(samples []sample) time.Duration {
	var took []time.Duration
	for _, s := range samples {
		if s.answer.Outcome == Done {
			took = append(took, s.took())
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}
