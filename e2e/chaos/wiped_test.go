//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestWipedDisk has one disk of many rebuilt after it was emptied: its zone has all that
// is needed, so nothing crosses to it for that, not even a list of shards. Told is how fast that is beside what
// the disk and the network can do, with the limit that comes by default and without.
func TestWipedDisk(t *testing.T) {
	needNetworks(t)
	for name, rate := range map[string]int64{"default": 0, "unlimited": 16 << 30} {
		t.Run(name, func(t *testing.T) {
			// What is deleted meanwhile, or reclaimed, would be looked for in the other zone too.
			x := begin(t, shape{healRate: rate, grace: time.Hour}, quietCrowd)
			x.stop()
			x.fillWith(64, 8<<20)
			x.wiped(x.r.node("a2"))
			x.settle()
			x.reckon()
		})
	}
}

// fillWith puts so many objects of a size, through all nodes.
func (x *round) fillWith(objects, size int) {
	var g errgroup.Group
	g.SetLimit(4)
	nodes := x.r.zone("")
	for i := range objects {
		g.Go(func() error {
			n := nodes[i%len(nodes)]
			w := &worker{crowd: x.crowd, id: 800, zone: n.zone, client: x.r.client(n.zone)}
			key := fmt.Sprintf("l/800/%05d", i)
			body := Noise(key, size)
			x.ledger.Putting(key, sumOf(body), x.now())
			a := w.client.do(x.t.Context(), n, request{method: http.MethodPut, path: "/" + ledgerBucket + "/" + key, body: body})
			x.ledger.Put(key, a.Outcome, x.now())
			if a.Outcome != Done {
				return fmt.Errorf("%s: %s", key, a)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		x.t.Fatal(err)
	}
}

// wiped empties a disk, has it replaced, and tells how fast it was rebuilt from what.
func (x *round) wiped(n *node) {
	t, dir := x.t, n.disks[0]
	ctx := t.Context()
	if err := x.r.quiet(ctx); err != nil {
		t.Fatal(err)
	}
	diskRate, err := writeRate(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	netRate, err := x.r.netRate(x.r.node("a1"), n)
	if err != nil {
		t.Fatal(err)
	}
	before, err := x.r.counters(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(empty(dir), x.r.noticed(n, dir)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := x.r.replaceDisk(n, dir); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	after, err := x.r.counters(ctx)
	if err != nil {
		t.Fatal(err)
	}
	grown := func(name string) float64 { return after[name] - before[name] }
	rebuilt, bytes := grown(`bivalve_moved_shards_total{how="rebuilt"}`), grown("bivalve_moved_bytes_total")
	rate := bytes / took.Seconds()
	x.say("%.0f shards, %.1f MiB rebuilt in %.1f s: %.1f MiB/s, %.0f%% of what the disk writes (%.0f MiB/s), %.0f%% of the network between nodes (%.0f MiB/s)",
		rebuilt, bytes/(1<<20), took.Seconds(), rate/(1<<20), 100*rate/diskRate, diskRate/(1<<20), 100*rate/netRate, netRate/(1<<20))
	x.say("read for it: %.1f MiB of shards in its own zone, %.1f MiB in the other", grown(`bivalve_mended_bytes_total{from="own"}`)/(1<<20),
		grown(`bivalve_mended_bytes_total{from="other"}`)/(1<<20))
	for name := range after {
		labels, ok := strings.CutPrefix(name, "bivalve_zone_traffic_bytes_total")
		if !ok || grown(name) == 0 {
			continue
		}
		x.say("between the zones: %s %.0f bytes", labels, grown(name))
		for _, cause := range []string{"put", "get", "heal", "resync", "rebalance"} { // not those of metadata, nor deletes
			if strings.Contains(labels, `"`+cause+`"`) {
				t.Errorf("%.0f bytes crossed between the zones for the disk: %s", grown(name), labels)
			}
		}
	}
	if other := grown(`bivalve_mended_bytes_total{from="other"}`); other > 0 || rebuilt < 50 {
		t.Errorf("%.0f shards were rebuilt, with %.0f bytes from the other zone", rebuilt, other)
	}
}

// counters are the sums over all nodes, by name and labels.
func (r *region) counters(ctx context.Context) (map[string]float64, error) {
	out := map[string]float64{}
	for _, n := range r.nodes {
		raw, err := n.ask(ctx, http.MethodGet, "/metrics")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(raw)) {
			i := strings.LastIndexByte(line, ' ')
			if i < 0 || line[0] == '#' {
				continue
			}
			v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
			if err != nil {
				return nil, fmt.Errorf("%s says %q: %w", n.id, line, err)
			}
			out[line[:i]] += v
		}
	}
	return out, nil
}

// measured is how much is written and sent to find out how fast that is.
const measured = 256 << 20

// writeRate is how many bytes in a second a file in a folder takes, synced.
func writeRate(dir string) (rate float64, err error) {
	path := filepath.Join(dir, "rate")
	begun := time.Now()
	err = tool("dd", "if=/dev/zero", "of="+path, "bs=4M", fmt.Sprintf("count=%d", measured/(4<<20)), "oflag=direct", "conv=fsync")
	took := time.Since(begun)
	return measured / took.Seconds(), errors.Join(err, os.Remove(path))
}

// netRate is how many bytes in a second one connection carries from a node's host to
// another's.
func (r *region) netRate(from, to *node) (float64, error) {
	var l net.Listener
	err := to.host.in(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(to.host.addr, "0"))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	var g errgroup.Group
	g.Go(func() error {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.Copy(io.Discard, c)
		return err
	})
	c, err := from.host.namespace.dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	block := make([]byte, 1<<20)
	for range measured / len(block) {
		if _, err := c.Write(block); err != nil {
			return 0, errors.Join(err, c.Close())
		}
	}
	if err := errors.Join(c.Close(), g.Wait()); err != nil {
		return 0, err
	}
	return measured / time.Since(begun).Seconds(), nil
}
