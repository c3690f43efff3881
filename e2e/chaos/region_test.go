//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/server"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sync/errgroup"
)

// shape of a region; zero values are the defaults.
type shape struct {
	perZone  int           // storage nodes in each zone [3]
	disks    int           // on each [2]
	grace    time.Duration // of garbage [20s]
	healRate int64         // bytes in a second [what servers have]
	small    bool          // the last node of each zone has its disks on small file systems
}

// region is the one under test.
type region struct {
	dir     string
	net     *network
	nodes   []*node // a1 a2 .. b1 b2 .. w1, and who joined
	former  []*node // who left
	joined  int     // how many ever joined
	clients map[string]*host
	keys    aws.Credentials
	mounts  []string
	small   map[string]string // a disk's directory, by the node whose disks are small
}

const regionName = "us-east-1"

// startRegion makes a region, waits until it serves, and takes it away with the
// test.
func startRegion(t *testing.T, s shape) *region {
	t.Helper()
	dir, err := tempDir("region")
	if err != nil {
		t.Fatal(err)
	}
	r := &region{dir: dir, clients: map[string]*host{}, small: map[string]string{}}
	t.Cleanup(func() { r.away(t) })
	if err := r.build(s); err != nil {
		t.Fatal(err)
	}
	for _, n := range r.nodes {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if err := r.healthy(ctx); err != nil {
		t.Fatalf("the region does not come up: %v", err)
	}
	return r
}

// folder is where something of the region lies.
func (r *region) folder(names ...string) string {
	return filepath.Join(append([]string{r.dir, "region"}, names...)...)
}

// diskNames are where the disks of a node lie in its folder.
func diskNames(n int) (out []string) {
	for d := range n {
		out = append(out, fmt.Sprintf("disks/d%d", d+1))
	}
	return out
}

// build makes the network and the files of all nodes.
func (r *region) build(s shape) (err error) {
	if s.perZone == 0 {
		s.perZone = 3
	}
	if s.disks == 0 {
		s.disks = 2
	}
	if s.grace == 0 {
		s.grace = 20 * time.Second
	}
	if r.net, err = newNetwork(); err != nil {
		return err
	}
	init := server.InitOptions{Dir: r.folder(), Name: regionName, Partitions: 4, PGs: 64}
	disks := diskNames(s.disks)
	add := func(zone string, number int) error {
		id := fmt.Sprint(zone, number)
		h, err := r.net.plug(id, zone, number)
		if err != nil {
			return err
		}
		n := newNode(id, zone, r.folder(id), binary, h)
		at := func(port string) string { return net.JoinHostPort(h.addr, port) }
		m := server.InitMember{SeedMember: server.SeedMember{ID: cluster.NodeID(id), Zone: cluster.Zone(zone), Role: cluster.RoleWitness,
			Addr: at("9100"), Gossip: at("9200"), Admin: adminAddr}}
		m.Config.GarbageGrace, m.Config.Heal.Rate = server.Duration(s.grace), server.Size(s.healRate)
		if zone != "w" {
			m.Role, m.S3, m.Config.Disks = cluster.RoleStorage, n.s3, disks
			for _, d := range disks {
				n.disks = append(n.disks, filepath.Join(n.dir, d))
			}
			if s.small && number == s.perZone {
				m.Config.Limits = server.Limits{DiskReserve: smallReserve, Segment: 16 << 20}
			}
		}
		r.nodes = append(r.nodes, n)
		init.Members = append(init.Members, m)
		return nil
	}
	for _, zone := range []string{"a", "b"} {
		for i := range s.perZone {
			if err := add(zone, i+1); err != nil {
				return err
			}
		}
		if r.clients[zone], err = r.net.plug("client-"+zone, zone, 200); err != nil {
			return err
		}
	}
	if err := add("w", 1); err != nil {
		return err
	}
	secrets, err := server.InitRegion(init)
	if err != nil {
		return err
	}
	r.keys = aws.Credentials{AccessKeyID: secrets.AccessKey, SecretAccessKey: secrets.SecretKey}
	if s.small {
		return r.mountSmall(s)
	}
	return nil
}

// away ends all processes, by force where they were not ended in order, and
// removes what was made. A failed test leaves its folder.
func (r *region) away(t *testing.T) {
	for _, n := range r.nodes {
		if err := n.kill(); err != nil {
			t.Errorf("kill %s: %v", n.id, err)
		}
	}
	if r.net != nil {
		if err := r.net.close(); err != nil {
			t.Error(err)
		}
	}
	for _, m := range r.mounts {
		if err := tool("umount", "-l", m); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Logf("what the servers said:\n%s", r.complaints())
	}
	if os.Getenv("BIVALVE_E2E_KEEP") == "1" {
		kept := strings.Replace(r.dir, tempPrefix, "bivalve-kept-", 1)
		t.Logf("the region is left in %s: %v", kept, os.Rename(r.dir, kept))
		return
	}
	if err := os.RemoveAll(r.dir); err != nil {
		t.Error(err)
	}
}

func (r *region) node(id string) *node {
	for _, n := range r.nodes {
		if n.id == id {
			return n
		}
	}
	panic("chaos: no node " + id)
}

// zone lists the nodes of a zone; "" those of both data zones.
func (r *region) zone(zone string) (out []*node) {
	for _, n := range r.nodes {
		if n.zone == zone || zone == "" && n.zone != "w" {
			out = append(out, n)
		}
	}
	return out
}

// client is a new client in a zone.
func (r *region) client(zone string) *client { return newClient(r.clients[zone], r.keys, regionName) }

// status is what the first node that answers says of the region.
func (r *region) status(ctx context.Context) (*server.Status, error) {
	var errs []error
	for _, n := range r.nodes {
		if n.pid() == 0 {
			continue
		}
		s, err := n.status(ctx)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(append(errs, errNotRunning)...)
}

// healthy waits until every node is ready, both zones are up, every group has a
// leader and all its voters, and every disk is in service without damage.
func (r *region) healthy(ctx context.Context) error {
	return until(ctx, 250*time.Millisecond, func() error {
		var g errgroup.Group
		for _, n := range r.nodes {
			g.Go(func() error {
				if err := n.ready(ctx); err != nil {
					return fmt.Errorf("%s: %w", n.id, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		s, err := r.status(ctx)
		if err != nil {
			return err
		}
		return wellness(s)
	})
}

// wellness says what a status lacks of a whole region.
func wellness(s *server.Status) error {
	for _, z := range s.Zones {
		if z.Down {
			return fmt.Errorf("zone %s is down", z.Zone)
		}
	}
	for _, n := range s.Nodes {
		if n.Local == nil || n.Local.Ready != "" {
			return fmt.Errorf("node %s is not ready", n.ID)
		}
		for _, d := range n.Local.Disks {
			if d.State != disk.StateOK && d.State != disk.StateSlow || d.Damaged > 0 || d.Loss != "" {
				return fmt.Errorf("disk %s of %s is %s with %d damaged shards: %s%s", d.Path, n.ID, d.State, d.Damaged, d.Failed, d.Loss)
			}
		}
	}
	for _, g := range s.Groups {
		if g.Leader == "" || g.Alive < len(g.Voters) {
			return fmt.Errorf("group %d: leader %q, %d of %d voters", g.Group, g.Leader, g.Alive, len(g.Voters))
		}
	}
	return nil
}

// until asks again and again until there is nothing amiss.
func until(ctx context.Context, every time.Duration, amiss func() error) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		err := amiss()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-t.C:
		}
	}
}

// crashes are the processes that ended by themselves, and what any has said of a
// panic or a race.
func (r *region) crashes() (out []string) {
	for _, n := range slices.Concat(r.nodes, r.former) {
		n.mu.Lock()
		out = append(out, n.crashes...)
		n.mu.Unlock()
		raw, err := os.ReadFile(n.logPath())
		if err != nil {
			out = append(out, err.Error())
			continue
		}
		text := string(raw)
		for _, word := range []string{"panic", "fatal error:", "DATA RACE"} {
			if i := strings.Index(text, word); i >= 0 {
				out = append(out, fmt.Sprintf("%s said %q:\n%s", n.id, word, text[max(0, i-200):min(len(text), i+4000)]))
			}
		}
	}
	return out
}

// complaints are the last lines of each log above Info.
func (r *region) complaints() string {
	var out strings.Builder
	for _, n := range r.nodes {
		raw, err := os.ReadFile(n.logPath())
		if err != nil {
			fmt.Fprintln(&out, err)
			continue
		}
		var lines []string
		for line := range strings.Lines(string(raw)) {
			if !strings.Contains(line, "level=INFO") && !strings.Contains(line, "level=DEBUG") {
				lines = append(lines, line)
			}
		}
		fmt.Fprintf(&out, "--- %s, the last of %d lines\n%s", n.id, len(lines), strings.Join(lines[max(0, len(lines)-15):], ""))
	}
	return out.String()
}
