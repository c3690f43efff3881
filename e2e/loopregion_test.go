//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/server"
)

// loopRegion says which nodes of a region have their disks on file systems of
// their own.
type loopRegion struct {
	nodesPerZone, disksPerNode int
	loops                      []string // node ids
	mib                        int64    // of each image
	limits                     server.Limits
	grace                      time.Duration // of garbage
	tls                        server.TLSFiles
}

// start runs the region until the test ends. The disks are those of the nodes in
// loops, in order.
func (o loopRegion) start(t *testing.T) (*region, []*loopDisk) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "bivalve-e2e-loops-")
	if err != nil {
		t.Fatal(err)
	}
	var disks []*loopDisk
	var r *region
	t.Cleanup(func() {
		if r != nil && r.cmd != nil {
			if err := r.stop(); err != nil {
				t.Errorf("stop the region: %v", err)
			}
		}
		if t.Failed() && r != nil {
			r.dumpLogs(t)
		}
		for _, d := range disks {
			if err := d.umount(); err != nil {
				t.Error(err)
			}
		}
		if mountedBelow(tmp) {
			t.Errorf("%s is left: something is mounted there", tmp)
		} else if os.Getenv("BIVALVE_E2E_KEEP") != "1" {
			if err := os.RemoveAll(tmp); err != nil {
				t.Error(err)
			}
		}
	})
	for try := range 5 { // somebody else may take a port meanwhile
		r = &region{dir: filepath.Join(tmp, fmt.Sprint("region", try))}
		var made []*loopDisk
		if r.port, err = freePorts(); err == nil {
			made, err = o.prepare(r, filepath.Join(tmp, fmt.Sprint("img", try)))
		}
		disks = append(disks, made...)
		if err != nil {
			t.Fatal(err)
		}
		if err = r.startOnce(); err == nil {
			return r, made
		}
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	t.Fatal(err)
	return nil, nil
}

// prepare makes the region's folders and mounts the images before any node
// starts, so that it formats its disks in them.
func (o loopRegion) prepare(r *region, images string) (disks []*loopDisk, err error) {
	init := server.InitOptions{Dir: r.dir, Name: "us-east-1", Partitions: 4, PGs: 64}
	var loops []string
	add := func(id, zone string, role cluster.Role) {
		n := len(init.Members)
		addr := func(group int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port+100*group+n)) }
		m := server.InitMember{SeedMember: server.SeedMember{ID: cluster.NodeID(id), Zone: cluster.Zone(zone), Role: role,
			Addr: addr(1), Gossip: addr(2), Admin: addr(3)}}
		m.Config.Limits, m.Config.GarbageGrace, m.Config.S3.TLS = o.limits, server.Duration(o.grace), o.tls
		if role == cluster.RoleStorage {
			m.S3 = addr(0)
			for d := range o.disksPerNode {
				name := fmt.Sprintf("disks/d%d", d+1)
				m.Config.Disks = append(m.Config.Disks, name)
				if slices.Contains(o.loops, id) {
					loops = append(loops, filepath.Join(r.dir, id, name))
				}
			}
		}
		init.Members = append(init.Members, m)
	}
	for _, zone := range []string{"a", "b"} {
		for i := range o.nodesPerZone {
			add(fmt.Sprint(zone, i+1), zone, cluster.RoleStorage)
		}
	}
	add("w1", "w", cluster.RoleWitness)
	if _, err := server.InitRegion(init); err != nil {
		return nil, err
	}
	if err := os.Mkdir(images, 0o700); err != nil {
		return nil, err
	}
	for i, dir := range loops {
		d := &loopDisk{img: filepath.Join(images, fmt.Sprint("disk", i, ".img")), dir: dir}
		disks = append(disks, d)
		if err := errors.Join(d.make(o.mib, 128), d.mount()); err != nil {
			return disks, err
		}
	}
	return disks, nil
}

// diskReport is what `bivalve status` says of the disk at a path.
func (r *region) diskReport(t testing.TB, path string) server.DiskReport {
	t.Helper()
	var out server.DiskReport
	eventually(t, time.Minute, "status tells of the disk", func() error {
		for _, n := range r.status(t).Nodes {
			if n.Local == nil {
				continue
			}
			for _, d := range n.Local.Disks {
				if d.Path == path {
					out = d
					return nil
				}
			}
		}
		return fmt.Errorf("no disk at %s", path)
	})
	return out
}

// awaitState waits until status says one of the states, and returns how long that
// took and what it said.
func (r *region) awaitState(t testing.TB, d *loopDisk, limit time.Duration, want ...disk.State) (time.Duration, server.DiskReport) {
	t.Helper()
	began := time.Now()
	var last server.DiskReport
	eventually(t, limit, fmt.Sprintf("disk %s is %v", filepath.Base(d.dir), want), func() error {
		if last = r.diskReport(t, d.dir); slices.Contains(want, last.State) {
			return nil
		}
		return fmt.Errorf("it is %q: %s", last.State, last.Failed)
	})
	return time.Since(began).Round(100 * time.Millisecond), last
}

// awaitShards waits until the disk has taken shards.
func (r *region) awaitShards(t testing.TB, d *loopDisk) {
	t.Helper()
	before := r.diskReport(t, d.dir).Shards
	eventually(t, time.Minute, "shards land on "+filepath.Base(d.dir), func() error {
		if now := r.diskReport(t, d.dir); now.Shards <= before {
			return fmt.Errorf("%d shards, %d before; %s %s", now.Shards, before, now.State, now.Failed)
		}
		return nil
	})
}
