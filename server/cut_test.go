//go:build e2e

package server_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/server/servertest"

	"github.com/anishathalye/porcupine"
)

// tries one request and returns its status.
func tries(r *servertest.Region, id cluster.NodeID, method, path, body string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var reader *strings.Reader
	if method == http.MethodPut {
		reader = strings.NewReader(body)
		resp, err := r.Do(ctx, id, method, path, reader, nil)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	resp, err := r.Do(ctx, id, method, path, nil, nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// TestZonesCut: the zones are cut from each other with clients on both sides, once
// with the witness on one side and once with the witness seen by both. One side goes
// on, the other answers 503 soon; all clients together saw one order of events; once
// the cut heals everything is whole again by itself.
func TestZonesCut(t *testing.T) {
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d (replay with -history.seed=%d)", seed, seed)
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2})
	a, b := r.Nodes(servertest.ZoneA), r.Nodes(servertest.ZoneB)
	resp, err := r.Do(t.Context(), "a1", http.MethodPut, "/history", nil, nil)
	fatal(t, err)
	fatal(t, resp.Body.Close())
	h := &history{r: r, keys: 60, start: time.Now(), dead: map[cluster.NodeID]bool{}, last: map[string]string{}}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	finish := sync.OnceFunc(func() { close(stop); clients.Wait() })
	t.Cleanup(finish)
	for i := range 3 {
		mine := rand.New(rand.NewPCG(seed, uint64(i+2)))
		clients.Go(func() { h.client(t, i, mine, stop) })
	}
	h.await("in a whole region", 10)
	for _, c := range []struct {
		name string
		side []cluster.NodeID // whom zone a is cut from
		lost []cluster.Zone   // which zones may be the one that stops
	}{
		{"the witness is with zone b", append([]cluster.NodeID{"w"}, b...), []cluster.Zone{servertest.ZoneA}},
		{"both zones see the witness", b, []cluster.Zone{servertest.ZoneA, servertest.ZoneB}},
	} {
		cut := time.Now()
		r.Cut(a, c.side)
		h.await(c.name, 1)
		t.Logf("%s: first write after %v", c.name, time.Since(cut))
		// The side that stops is the one where everything is 503.
		var lost []cluster.NodeID
		r.Until("one side has stopped", func(context.Context) error {
			for _, z := range c.lost {
				if lost = r.Nodes(z); stopped(r, lost) {
					return nil
				}
			}
			return errors.New("both serve")
		})
		t.Logf("%s: %v has stopped after %v", c.name, lost, time.Since(cut))
		h.await(c.name, 8)
		t.Logf("%s: 8 writes after %v", c.name, time.Since(cut))
		for _, id := range lost {
			for _, method := range []string{http.MethodPut, http.MethodGet, http.MethodHead, http.MethodDelete} {
				for _, body := range []string{"small", strings.Repeat("x", 100_000)} {
					began := time.Now()
					code, err := tries(r, id, method, "/history/k0", body)
					took := time.Since(began)
					if err != nil || code != http.StatusServiceUnavailable || took > 6*time.Second {
						t.Errorf("%s: %s at %s: %d after %v, %v", c.name, method, id, code, took, err)
					}
				}
			}
		}
		r.Heal()
		healed := time.Now()
		r.Until("all serve again", func(context.Context) error {
			for _, id := range append(a, b...) {
				if code, err := tries(r, id, http.MethodPut, "/history/whole", "x"); err != nil || code != http.StatusOK {
					return fmt.Errorf("%s answers %d: %w", id, code, err)
				}
			}
			s := status(t, r, "a1")
			if s.Zones[0].Down || s.Zones[1].Down {
				return errors.New("a zone is down")
			}
			return nil
		})
		t.Logf("%s: whole again %v after the cut healed", c.name, time.Since(healed))
		h.await("after the cut", 3)
		t.Logf("%s: 3 more writes %v after the cut healed", c.name, time.Since(healed))
	}
	finish()
	for k := range 10 {
		for _, n := range append(a, b...) {
			h.do(t, 99, n, ask{key: fmt.Sprintf("k%d", k), verb: "GET"}, nil)
		}
	}
	t.Logf("%d operations", len(h.ops))
	if result := porcupine.CheckOperationsTimeout(keyModel, h.ops, 20*time.Second); result == porcupine.Illegal {
		t.Errorf("the history of seed %d is not linearizable", seed)
	}
}

// stopped tells whether all of the nodes refuse writes and reads.
func stopped(r *servertest.Region, ids []cluster.NodeID) bool {
	for _, id := range ids {
		for _, method := range []string{http.MethodPut, http.MethodHead} {
			if code, err := tries(r, id, method, "/history/stopped", "x"); err != nil || code != http.StatusServiceUnavailable {
				return false
			}
		}
	}
	return true
}

// TestOneLineCut: two nodes do not reach each other, and all others reach both. What one of
// them is asked to write is written, whoever leads, and is read back.
func TestOneLineCut(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2})
	resp, err := r.Do(t.Context(), "a1", http.MethodPut, "/line", nil, nil)
	fatal(t, err)
	fatal(t, resp.Body.Close())
	for _, other := range []cluster.NodeID{"a2", "b1", "b2"} {
		r.Cut([]cluster.NodeID{"a1"}, []cluster.NodeID{other})
		var all sync.WaitGroup
		for i := range 24 { // some for each group
			all.Go(func() {
				path := fmt.Sprintf("/line/%s/%d", other, i)
				for _, method := range []string{http.MethodPut, http.MethodGet} {
					if status, err := tries(r, "a1", method, path, "x"); err != nil || status != http.StatusOK {
						t.Errorf("cut from %s: %s %s: %d, %v", other, method, path, status, err)
					}
				}
			})
		}
		all.Wait()
		r.Heal()
		r.WaitReady(r.Nodes()...)
	}
}

// TestClocks: a node whose clock is wrong is told of, and of no use to clients when it
// is wrong by much.
func TestClocks(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 1})
	alarmed := func(s string, want bool) func(context.Context) error {
		return func(context.Context) error {
			got := strings.Contains(strings.Join(status(t, r, "b1").Alerts, "\n"), s)
			if got != want {
				return fmt.Errorf("alerts %q", status(t, r, "b1").Alerts)
			}
			return nil
		}
	}
	r.Until("no alarm", alarmed("clock of node", false))
	r.SetClock("a1", 30*time.Second)
	r.Until("an alarm", alarmed("the clock of node a1 is off by 30s", true))
	fatal(t, r.Node("a1").Ready(t.Context()))
	r.SetClock("a1", -24*time.Hour)
	r.Until("a1 is not ready", func(ctx context.Context) error {
		if err := r.Node("a1").Ready(ctx); err == nil || !strings.Contains(err.Error(), "clock") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	fatal(t, r.Node("b1").Ready(t.Context())) // the others are right
	r.SetClock("a1", 0)
	r.WaitReady("a1")
}
