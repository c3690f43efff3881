//go:build e2e

package server_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/s3api"
	"bivalve/server"
	"bivalve/server/servertest"
)

// protected waits until no object lacks a shard.
func protected(t *testing.T, r *servertest.Region, via cluster.NodeID) {
	t.Helper()
	r.Until("every object is fully protected", func(context.Context) error {
		st := status(t, r, via)
		if p := st.Protected; p.Unknown || p.UnderProtected != 0 || p.UnderBytes != 0 || st.Zones[0].Lost != 0 || st.Zones[1].Lost != 0 {
			return fmt.Errorf("%+v %+v", p, st.Zones)
		}
		return nil
	})
}

// shards sums up what the disks of a zone hold.
func shards(t *testing.T, r *servertest.Region, via cluster.NodeID, z cluster.Zone) (n int64) {
	t.Helper()
	for _, node := range status(t, r, via).Nodes {
		if node.Zone == z && node.Local != nil {
			for _, d := range node.Local.Disks {
				n += d.Shards
			}
		}
	}
	return n
}

// TestZoneReturns: what was written while a zone was away is healed when it is
// back, with the chunk crossing once, and what was deleted meanwhile stays deleted.
func TestZoneReturns(t *testing.T) {
	r := servertest.Start(t, servertest.Options{Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "before")
	l.put("a1", "doomed")
	r.Kill(r.Nodes(servertest.ZoneB)...)
	l.put("a2", "meanwhile")
	s := r.Node("a1").Stores()
	for key := range l.m {
		if strings.HasPrefix(key, "doomed") {
			r.Until("delete", func(context.Context) error {
				_, err := s.Objects.DeleteObject(t.Context(), s3api.DeleteRequest{Bucket: "ledger", Key: key})
				return err
			})
			delete(l.m, key)
		}
	}
	if st := status(t, r, "a1"); st.Protected.UnderProtected != 5 {
		t.Errorf("%+v", st.Protected)
	}
	r.Start(r.Nodes(servertest.ZoneB)...)
	r.WaitReady(r.Nodes()...)
	protected(t, r, "b1")
	r.Until("garbage is gone, and both zones hold as many shards", func(context.Context) error {
		a, b := shards(t, r, "a1", servertest.ZoneA), shards(t, r, "a1", servertest.ZoneB)
		if st := status(t, r, "a1"); st.Protected.Garbage != 0 || a != b {
			return fmt.Errorf("%d blobs of garbage, %d and %d shards", st.Protected.Garbage, a, b)
		}
		return nil
	})
	var crossed float64
	for _, n := range r.Nodes(servertest.ZoneB) {
		crossed += r.Node(n).Counter("bivalve_mended_bytes_total", "other")
	}
	if want := 16<<10 + 1 + 100_000 + 1<<20 + 4<<20 + 1 + 9<<20; crossed > 1.05*float64(want) || crossed < float64(want) {
		t.Errorf("%.0f bytes crossed for %d bytes of objects", crossed, want)
	}
	r.Kill(r.Nodes(servertest.ZoneA)...) // the returned zone alone has everything
	l.check("b2")
}

// wipe removes all segments of the disks of a node that is stopped.
func wipe(t *testing.T, dirs []string) {
	t.Helper()
	removed := 0
	for _, dir := range dirs {
		fatal(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(e.Name(), "seg-") {
				removed++
				err = os.Remove(path)
			}
			return err
		}))
	}
	if removed == 0 {
		t.Fatal("nothing was wiped")
	}
}

// TestWipedDisk: what a disk has lost counts as missing, and is rebuilt inside its
// zone with no byte from the other.
func TestWipedDisk(t *testing.T) {
	r := servertest.Start(t, servertest.Options{Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	for i := range 5 {
		l.put("a1", fmt.Sprint("x", i))
	}
	disk := disksOf(t, r, "a1", "a1")[0]
	r.Kill("a1")
	wipe(t, []string{disk.Path})
	between := func() (n int64) { // without a1 as long as it is away, whose counters begin anew
		for _, cause := range []string{"put", "get", "heal", "resync", "rebalance"} {
			c := status(t, r, "b1").Traffic[cause]
			n += c.Out + c.In
		}
		return n
	}
	before := between()
	r.Start("a1")
	r.WaitReady("a1")
	r.Until("the disk has its shards again", func(context.Context) error {
		d := disksOf(t, r, "b1", "a1")[0]
		if d.Loss != "" || d.Shards != disk.Shards {
			return fmt.Errorf("%d of %d shards, loss %q, %+v", d.Shards, disk.Shards, d.Loss, d.Restore)
		}
		return nil
	})
	protected(t, r, "b1")
	for _, n := range r.Nodes(servertest.ZoneA) {
		if other := r.Node(n).Counter("bivalve_mended_bytes_total", "other"); other != 0 {
			t.Errorf("%.0f bytes came from the other zone", other)
		}
	}
	own := r.Node("a1").Counter("bivalve_mended_bytes_total", "own")
	if own == 0 {
		t.Error("nothing was read: the test shows nothing")
	}
	// Not even lists of shards: its own zone knows what the disk should have.
	if n := between() - before; n != 0 {
		t.Errorf("%d bytes crossed between the zones while %.0f were read in its own", n, own)
	}
	l.check("a1")
}

// TestDiskStaysAway: a node that restarts marks nothing; one that stays away is
// marked after the delay, its objects count as under-protected, and when it is back
// with all that it had nothing is rebuilt.
func TestDiskStaysAway(t *testing.T) {
	r := servertest.Start(t, servertest.Options{LostAfter: 3 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "x")
	r.Kill("a2")
	r.Start("a2")
	r.WaitReady("a2")
	if st := status(t, r, "a1"); st.Protected.UnderProtected != 0 {
		t.Errorf("a restart was marked: %+v", st.Protected)
	}
	r.Kill("a2")
	r.Until("what is away is marked", func(context.Context) error {
		if st := status(t, r, "a1"); st.Protected.UnderProtected != 5 {
			return fmt.Errorf("%+v", st.Protected)
		}
		return nil
	})
	r.Start("a2")
	r.WaitReady("a2")
	protected(t, r, "b1")
	if n := r.Node("a2").Counter("bivalve_mended_bytes_total", "other"); n != 0 {
		t.Errorf("%.0f bytes came from the other zone", n)
	}
	l.check("a2")
}

// TestHealGoesOn: healers that are killed midway go on where they were.
func TestHealGoesOn(t *testing.T) {
	r := servertest.Start(t, servertest.Options{HealRate: 8 << 20, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	r.Kill(r.Nodes(servertest.ZoneB)...)
	for i := range 4 {
		l.put("a1", fmt.Sprint("x", i))
	}
	under := func(via cluster.NodeID) *server.Protection {
		st := status(t, r, via)
		return &st.Protected
	}
	all := under("a1").UnderProtected
	r.Start(r.Nodes(servertest.ZoneB)...)
	r.WaitReady(r.Nodes(servertest.ZoneB)...)
	r.Until("some are healed", func(context.Context) error {
		if p := under("b1"); p.Unknown || p.UnderProtected == all {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	if p := under("b1"); p.UnderProtected == 0 {
		t.Fatal("all are healed already: the test shows nothing")
	}
	r.Kill(r.Nodes()...)
	r.Start(r.Nodes()...)
	r.WaitReady(r.Nodes()...)
	protected(t, r, "b1")
	r.Kill(r.Nodes(servertest.ZoneA)...)
	l.check("b2")
}

// TestZoneReturnIsSeen: while a zone is away and while it comes back, the status tells
// what it has left to catch up, at what rate and for how long; then nothing.
func TestZoneReturnIsSeen(t *testing.T) {
	r := servertest.Start(t, servertest.Options{HealRate: 2 << 20, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	r.Kill(r.Nodes(servertest.ZoneB)...)
	for i := range 4 {
		l.put("a1", fmt.Sprint("x", i))
	}
	zone := func(via cluster.NodeID) *server.CatchUp {
		st := status(t, r, via)
		if st.Zones[0].CatchUp != nil && len(st.Problems) == 0 && st.Zones[0].CatchUp.Shards > 0 {
			t.Fatalf("zone a lacks shards: %+v", st.Zones[0].CatchUp)
		}
		return st.Zones[1].CatchUp
	}
	var all *server.CatchUp
	r.Until("what zone b will lack is told", func(context.Context) error {
		if all = zone("a1"); all == nil || all.Groups == 0 || all.Shards < 4*5*3 || all.Bytes == 0 || all.Left != 0 {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	r.Start(r.Nodes(servertest.ZoneB)...)
	r.Until("it is seen to catch up", func(context.Context) error {
		c := zone("a1")
		if c == nil {
			t.Fatal("it has caught up already: the test shows nothing")
		}
		if c.Groups != 0 || c.Bytes >= all.Bytes || c.Rate <= 0 || c.Left <= 0 {
			return fmt.Errorf("%+v of %+v", c, all)
		}
		return nil
	})
	protected(t, r, "b1")
	r.Until("nothing is left", func(context.Context) error {
		for _, via := range []cluster.NodeID{"a1", "b1"} {
			if c := zone(via); c != nil {
				return fmt.Errorf("%+v", c)
			}
		}
		return nil
	})
}
