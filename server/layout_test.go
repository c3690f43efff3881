//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/server"
	"bivalve/server/servertest"

	"github.com/anishathalye/porcupine"
)

// load is clients that work on a region while its layout changes; what they saw
// must be linearizable, and every read right.
type load struct {
	h    *history
	stop chan struct{}
	wg   sync.WaitGroup
}

func startLoad(t *testing.T, r *servertest.Region, clients int) *load {
	t.Helper()
	l := &load{h: &history{r: r, keys: 24, start: time.Now(), dead: map[cluster.NodeID]bool{}, last: map[string]string{}}, stop: make(chan struct{})}
	for id := range clients {
		l.wg.Go(func() { l.h.client(t, id, rand.New(rand.NewPCG(uint64(id), 7)), l.stop) })
	}
	return l
}

// end stops the clients and judges what they saw.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if n := l.h.wrong.Load(); n > 0 {
		t.Errorf("%d wrong answers", n)
	}
	if l.h.acked.Load() < 20 {
		t.Errorf("%d writes were acknowledged: the test shows little", l.h.acked.Load())
	}
	if ok := porcupine.CheckOperationsTimeout(keyModel, l.h.ops, time.Minute); ok != porcupine.Ok {
		t.Errorf("the history of %d operations is not linearizable: %v", len(l.h.ops), ok)
	}
}

// put stores objects of several sizes and tells their MD5 by key.
func put(t *testing.T, r *servertest.Region, bucket string, n int) map[string]string {
	t.Helper()
	out := map[string]string{}
	do(t, r, "a1", "PUT", "/"+bucket, nil)
	for i := range n {
		body := bytes.Repeat(fmt.Appendf(nil, "object %d of %s ", i, bucket), 20_000*(1+i%5)/12)
		sum := md5.Sum(body)
		key := fmt.Sprintf("/%s/o%d", bucket, i)
		out[key] = hex.EncodeToString(sum[:])
		do(t, r, "b1", "PUT", key, body)
	}
	return out
}

func do(t *testing.T, r *servertest.Region, node cluster.NodeID, method, path string, body []byte) []byte {
	t.Helper()
	var out []byte
	r.Until(method+" "+path, func(ctx context.Context) error {
		var reader io.ReadSeeker
		if body != nil {
			reader = bytes.NewReader(body)
		}
		resp, err := r.Do(ctx, node, method, path, reader, http.Header{})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		out, err = io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode >= 300 {
			err = fmt.Errorf("%s: %s", resp.Status, out)
		}
		return err
	})
	return out
}

func readAll(t *testing.T, r *servertest.Region, node cluster.NodeID, want map[string]string) {
	t.Helper()
	for key, sum := range want {
		got := md5.Sum(do(t, r, node, "GET", key, nil))
		if hex.EncodeToString(got[:]) != sum {
			t.Fatalf("%s from %s is not what was put", key, node)
		}
	}
}

// disksOf lists the disks of nodes, by the layout report.
func report(t *testing.T, r *servertest.Region, node cluster.NodeID) *server.LayoutReport {
	t.Helper()
	var out *server.LayoutReport
	r.Until("layout", func(ctx context.Context) (err error) { out, err = r.Node(node).Layout(ctx); return err })
	return out
}

// allMoved waits until nothing moves any more, by the same layout on all nodes, and the
// given disks hold no shard.
func allMoved(t *testing.T, r *servertest.Region, node cluster.NodeID, empty ...cluster.DiskID) {
	t.Helper()
	r.Until("all slots have moved", func(ctx context.Context) error {
		known := map[cluster.Epoch]bool{}
		for _, id := range r.Nodes() {
			n := r.Node(id)
			if n == nil {
				continue
			}
			l, err := n.Layout(ctx)
			if err != nil {
				return err
			}
			if l.Moving.Slots > 0 {
				return fmt.Errorf("%d slots are moving by what %s knows", l.Moving.Slots, id)
			}
			known[l.Epoch] = true
		}
		if len(known) != 1 {
			return fmt.Errorf("not all know the same layout: %v", known)
		}
		return nil
	})
	r.Until("the disks have let go", func(ctx context.Context) error {
		s, err := r.Node(node).Status(ctx)
		if err != nil {
			return err
		}
		for _, n := range s.(*server.Status).Nodes {
			if n.Local == nil {
				continue
			}
			for _, d := range n.Local.Disks {
				for _, id := range empty {
					// What a write has left that broke off is for the sweep of orphans.
					if d.ID == id && d.Shards > int64(d.Kept) {
						return fmt.Errorf("disk %s has %d shards, %d of them left over", id, d.Shards, d.Kept)
					}
				}
			}
		}
		return nil
	})
}

// TestDrainDisk drains a disk under load: its shards go to the others of its zone
// by copying, and it holds nothing in the end.
func TestDrainDisk(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 3, DisksPerNode: 2})
	want := put(t, r, "layout", 20)
	do(t, r, "a1", "PUT", "/history", nil)
	l := startLoad(t, r, 3)
	before := report(t, r, "a1")
	var disk server.LayoutDisk
	for _, d := range before.Disks {
		if d.Disk.Node == "a2" {
			disk = d
		}
	}
	if disk.Slots == 0 {
		t.Fatalf("%+v", before)
	}
	ctx := t.Context()
	if _, err := r.Node("b1").SetDisk(ctx, disk.Disk.ID.String(), cluster.StateRemoved, false); err == nil || !strings.Contains(err.Error(), "drain it first") {
		t.Fatalf("a disk that holds slots was removed: %v", err)
	}
	_, err := r.Node("b1").SetDisk(ctx, disk.Disk.ID.String()[:8], cluster.StateDraining, false)
	fatal(t, err)
	plan, err := r.Node("a1").PlanLayout(ctx)
	fatal(t, err)
	if plan.Price.Slots < disk.Slots || plan.Price.Between != 0 || plan.Price.Zones[1].Slots != 0 || plan.Price.Bytes == 0 {
		t.Errorf("%d slots of the disk: %+v", disk.Slots, plan.Price)
	}
	if _, err := r.Node("b2").ApplyLayout(ctx, "2-0"); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Fatalf("another plan: %v", err)
	}
	_, err = r.Node("b2").ApplyLayout(ctx, plan.ID)
	fatal(t, err)
	if _, err := r.Node("b2").ApplyLayout(ctx, plan.ID); err == nil {
		t.Fatal("a plan was applied twice")
	}
	allMoved(t, r, "b1", disk.Disk.ID)
	l.end(t)
	readAll(t, r, "a2", want)
	readAll(t, r, "b3", want)
	_, err = r.Node("a3").SetDisk(ctx, disk.Disk.ID.String(), cluster.StateRemoved, false)
	fatal(t, err)
}

// diskShards is how many a disk holds, by its node's word.
func diskShards(t *testing.T, r *servertest.Region, asked cluster.NodeID, id cluster.DiskID) (n int64) {
	t.Helper()
	r.Until("status", func(ctx context.Context) error {
		s, err := r.Node(asked).Status(ctx)
		if err != nil {
			return err
		}
		for _, node := range s.(*server.Status).Nodes {
			if node.Local == nil {
				continue
			}
			for _, d := range node.Local.Disks {
				if d.ID == id && d.Failed == "" {
					n = d.Shards
					return nil
				}
			}
		}
		return fmt.Errorf("no disk %s is in service", id)
	})
	return n
}

func diskOf(t *testing.T, r *servertest.Region, node cluster.NodeID) server.LayoutDisk {
	t.Helper()
	for _, d := range report(t, r, "b1").Disks {
		if d.Disk.Node == node && d.Slots > 0 {
			return d
		}
	}
	t.Fatalf("node %s has no disk with slots", node)
	return server.LayoutDisk{}
}

// TestReplaceDisk wipes a disk under load and gives its place to an empty one: what
// it held is rebuilt in its own zone. Then a second disk is added to the node.
func TestReplaceDisk(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 3, DisksPerNode: 1})
	ctx := t.Context()
	want := put(t, r, "layout", 20)
	do(t, r, "a1", "PUT", "/history", nil)
	old := diskOf(t, r, "a2")
	had := diskShards(t, r, "a1", old.Disk.ID)
	dir := r.Disk("a2", 0)
	order := server.DiskOrder{Path: dir, Replace: true}
	if _, err := r.Node("b1").NewDisk(ctx, "a2", order); err == nil || !strings.Contains(err.Error(), "drain it") {
		t.Fatalf("a disk in service was replaced: %v", err)
	}
	l := startLoad(t, r, 2)
	fatal(t, os.RemoveAll(dir))
	fatal(t, os.Mkdir(dir, 0o700))
	var added *server.DiskAdded
	r.Until("the disk is replaced", func(ctx context.Context) (err error) { // once it is known to be gone
		added, err = r.Node("b1").NewDisk(ctx, "a2", order)
		return err
	})
	if added.Replaced != old.Disk.ID || added.Epoch == 0 || added.Disk == old.Disk.ID {
		t.Fatalf("%+v", added)
	}
	allMoved(t, r, "a3")
	l.end(t)
	if n := diskOf(t, r, "a2"); n.Disk.ID != added.Disk || n.Slots != old.Slots {
		t.Errorf("%+v instead of %+v", n, old)
	}
	if n := diskShards(t, r, "a1", added.Disk); n < had {
		t.Errorf("%d shards on the new disk, the old one had %d", n, had)
	}
	// Of what clients delete meanwhile a shard or two may have to be looked for there.
	own, other := r.Node("a2").Counter("bivalve_mended_bytes_total", "own"), r.Node("a2").Counter("bivalve_mended_bytes_total", "other")
	if other > own/20 {
		t.Errorf("%v bytes came from the other zone, %v from the own", other, own)
	}
	if n := r.Node("a2").Counter("bivalve_moved_shards_total", "rebuilt"); n < float64(had) {
		t.Errorf("%v shards were rebuilt, the old disk had %d", n, had)
	}
	readAll(t, r, "a2", want)

	second := filepath.Join(filepath.Dir(dir), "disk9")
	_, err := r.Node("a1").NewDisk(ctx, "a2", server.DiskOrder{Path: second})
	if err == nil || !strings.Contains(err.Error(), "list it there first") {
		t.Fatalf("a directory that is not configured: %v", err)
	}
	raw, err := os.ReadFile(r.Config("a2"))
	fatal(t, err)
	fatal(t, os.WriteFile(r.Config("a2"), bytes.Replace(raw, []byte("disks:\n"), []byte("disks:\n    - disk9\n"), 1), 0o600))
	if _, err = r.Node("a1").NewDisk(ctx, "a2", server.DiskOrder{Path: second}); err == nil {
		t.Fatal("a directory that is not there was made")
	}
	fatal(t, os.Mkdir(second, 0o700))
	fatal(t, os.WriteFile(filepath.Join(second, "mine"), nil, 0o600))
	if _, err = r.Node("a1").NewDisk(ctx, "a2", server.DiskOrder{Path: second}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatalf("a directory with files: %v", err)
	}
	fatal(t, os.Remove(filepath.Join(second, "mine")))
	for range 2 { // the second time there is nothing left to do
		added, err = r.Node("a1").NewDisk(ctx, "a2", server.DiskOrder{Path: second})
		fatal(t, err)
	}
	_, err = r.Node("b2").ApplyLayout(ctx, "")
	fatal(t, err)
	allMoved(t, r, "a3")
	if n := diskShards(t, r, "b1", added.Disk); n == 0 {
		t.Error("the second disk holds nothing")
	}
	r.Stop("a2")
	r.Start("a2")
	r.WaitReady("a2")
	readAll(t, r, "a2", want)
	if n := diskShards(t, r, "b1", added.Disk); n == 0 {
		t.Error("the second disk holds nothing after a restart")
	}
}

// TestMoveResumes kills the source and the target of a move in its midst.
func TestMoveResumes(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 3, DisksPerNode: 2})
	ctx := t.Context()
	want := put(t, r, "layout", 30)
	var drained []cluster.DiskID
	for _, victim := range []cluster.NodeID{"a2", "b3"} { // one is killed as a source, one among the targets
		d := diskOf(t, r, victim)
		drained = append(drained, d.Disk.ID)
		_, err := r.Node("a1").SetDisk(ctx, d.Disk.ID.String(), cluster.StateDraining, false)
		fatal(t, err)
	}
	_, err := r.Node("a1").ApplyLayout(ctx, "")
	fatal(t, err)
	r.Kill("a2", "b1")
	if n := report(t, r, "a1").Moving.Slots; n == 0 {
		t.Fatal("all was over before anything was killed")
	}
	readAll(t, r, "a3", want)
	r.Start("a2", "b1")
	r.WaitReady("a2", "b1")
	allMoved(t, r, "b2", drained...)
	readAll(t, r, "b1", want)
}

// TestNodesComeAndGo adds a node under load, gives it its share, drains another and
// removes it; then a node is lost with its disks and a new one takes its share.
func TestNodesComeAndGo(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 3, DisksPerNode: 1})
	ctx := t.Context()
	want := put(t, r, "layout", 20)
	do(t, r, "a1", "PUT", "/history", nil)
	if _, err := r.Node("a1").AddNode(ctx, server.SeedMember{ID: "a4", Zone: "c", Addr: "127.0.0.1:1", Gossip: "127.0.0.1:2", S3: "127.0.0.1:3", Admin: "127.0.0.1:4"}); err == nil {
		t.Fatal("a node of an unknown zone joined")
	}
	l := startLoad(t, r, 2)
	r.Join("a4", servertest.ZoneA, "b1", 1)
	r.Until("a4 has told of its disk", func(ctx context.Context) error {
		p, err := r.Node("a4").PlanLayout(ctx)
		if err == nil && !p.Change {
			err = errors.New("nothing moves")
		}
		return err
	})
	_, err := r.Node("a4").ApplyLayout(ctx, "")
	fatal(t, err)
	allMoved(t, r, "a1")
	four := diskOf(t, r, "a4")
	if n := diskShards(t, r, "b1", four.Disk.ID); n == 0 {
		t.Error("the new node holds nothing")
	}
	readAll(t, r, "a4", want)

	two := diskOf(t, r, "a2")
	_, err = r.Node("a4").SetNode(ctx, "a2", cluster.StateDraining, false)
	fatal(t, err)
	_, err = r.Node("b2").ApplyLayout(ctx, "")
	fatal(t, err)
	allMoved(t, r, "a4", two.Disk.ID)
	l.end(t)
	r.Until("a2 is removed", func(ctx context.Context) error { // once its votes have gone elsewhere
		_, err := r.Node("a1").SetNode(ctx, "a2", cluster.StateRemoved, false)
		return err
	})
	r.Stop("a2")
	readAll(t, r, "a4", want)

	r.Kill("a3")
	r.Join("a5", servertest.ZoneA, "a1", 1)
	var replaced *server.NodeReplaced
	r.Until("a3 is replaced", func(ctx context.Context) (err error) {
		replaced, err = r.Node("b1").ReplaceNode(ctx, "a3", "a5")
		return err
	})
	if p := replaced.Plan.Price; p.Between != 0 || p.Rebuilt == 0 {
		t.Errorf("%+v", p)
	}
	allMoved(t, r, "a5")
	r.Until("the votes of a3 have gone elsewhere", func(ctx context.Context) error {
		s, err := r.Node("a5").Status(ctx)
		if err != nil {
			return err
		}
		for _, g := range s.(*server.Status).Groups {
			if g.Alive < 5 {
				return fmt.Errorf("group %d: %+v", g.Group, g)
			}
		}
		return nil
	})
	r.Kill("b1", "b2", "b3") // zone a alone has everything
	readAll(t, r, "a5", want)
}
