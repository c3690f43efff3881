//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// readBack reads everything there ever was, from both zones: each key of the
// registers as one more operation of its history, each key of the ledger for what
// was acknowledged. The region is whole and nobody writes, so every read must be
// answered.
func (c *crowd) readBack() {
	for i, zone := range []string{"a", "b"} {
		c.readBackFrom(zone, 1000*(i+1))
	}
}

func (c *crowd) readBackFrom(zone string, firstID int) {
	nodes := c.r.zone(zone)
	var g errgroup.Group
	g.SetLimit(6)
	for i, key := range c.history.Keys() {
		w := &worker{crowd: c, id: firstID + i, zone: zone, client: c.r.client(zone), nodes: nodes}
		g.Go(func() error {
			if !patiently(func() bool { return w.get(nodes[i%len(nodes)], key) }) {
				c.broken("the last GET of %s from zone %s is not answered", key, zone)
			}
			return nil
		})
	}
	client := c.r.client(zone)
	for i, key := range c.ledger.Keys() {
		g.Go(func() error {
			var a answer
			node := nodes[i%len(nodes)]
			patiently(func() bool {
				a = client.do(context.Background(), node, request{method: http.MethodGet, path: "/" + ledgerBucket + "/" + key})
				return a.Outcome == Done || a.Outcome == Missing
			})
			if a.Outcome != Done && a.Outcome != Missing {
				c.broken("%s cannot be read through %s after all is over: %s", key, node.id, a)
			} else if err := c.ledger.Settle(key, a.Outcome == Done, sumOf(a.body), c.now()); err != nil {
				c.broken("read back through %s: %v", node.id, err)
			}
			return nil
		})
	}
	_ = g.Wait() // nobody returns an error
	w := &worker{crowd: c, id: firstID + 999, zone: zone, client: client, nodes: nodes}
	for _, n := range nodes {
		walk, ok := w.walkAll(n, "l/", 1000)
		if !ok {
			c.broken("the last listing through %s is not answered", n.id)
			continue
		}
		for _, text := range c.ledger.Listed(walk) {
			c.broken("the last listing through %s: %s", n.id, text)
		}
	}
}

// patiently tries a few times: a busy machine may be too slow for one.
func patiently(try func() bool) bool {
	for range 4 {
		if try() {
			return true
		}
		time.Sleep(500 * time.Millisecond)
	}
	return false
}

// usage is what a process holds.
type usage struct {
	goroutines, fds int
	rss             int64 // bytes
}

func (r *region) usage(ctx context.Context) (map[string]usage, error) {
	out := map[string]usage{}
	for _, n := range r.nodes {
		u, err := n.usage(ctx)
		if err != nil {
			return nil, err
		}
		out[n.id] = u
	}
	return out, nil
}

func (n *node) usage(ctx context.Context) (u usage, err error) {
	raw, err := n.ask(ctx, http.MethodGet, "/metrics")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			if u.goroutines, err = strconv.Atoi(strings.TrimSpace(rest)); err != nil {
				return u, err
			}
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.pid()))
	if err != nil {
		return u, err
	}
	u.fds = len(fds)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid()))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return u, err
			}
			u.rss = kib << 10
		}
	}
	if u.goroutines == 0 || u.rss == 0 {
		return u, fmt.Errorf("%s does not tell its goroutines or its memory: %+v", n.id, u)
	}
	return u, nil
}

// After load a process is back at what it held at the beginning, give or take.
const (
	moreGoroutines, moreFDs = 150, 150
	mostRSS                 = 1 << 30
	backWithin              = 45 * time.Second
)

// bounded makes sure that nothing is left behind by what happened.
func (x *round) bounded() {
	ctx, cancel := context.WithTimeout(x.t.Context(), backWithin)
	defer cancel()
	err := until(ctx, time.Second, func() error {
		now, err := x.r.usage(ctx)
		if err != nil {
			return err
		}
		for id, u := range now {
			was := x.usage[id]
			if u.goroutines > was.goroutines+moreGoroutines || u.fds > was.fds+moreFDs || u.rss > mostRSS {
				return fmt.Errorf("%s held %+v at the beginning and %+v now", id, was, u)
			}
		}
		return nil
	})
	if err != nil {
		x.t.Errorf("not within %s: %v", backWithin, err)
	}
}
