//go:build e2e

package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/server/servertest"
	"bivalve/server/upkeep"
)

// orphansOf is how far the sweep of a node's first disk is.
func orphansOf(t *testing.T, r *servertest.Region, via, node cluster.NodeID) (upkeep.OrphanProgress, int64) {
	t.Helper()
	for _, n := range status(t, r, via).Nodes {
		if n.ID == node && n.Local != nil && n.Local.Disks[0].Orphans != nil {
			return *n.Local.Disks[0].Orphans, n.Local.Disks[0].Shards
		}
	}
	return upkeep.OrphanProgress{}, 0
}

// TestOrphansAreSwept: shards that no record knows go, from every disk, while clients
// write, overwrite and leave uploads open; and none goes that a record wants. A side
// without a majority removes nothing.
func TestOrphansAreSwept(t *testing.T) {
	r := servertest.Start(t, servertest.Options{OrphanAge: 20 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	mixed(t, r, "a1", l)
	protected(t, r, "a1")

	r.Kill(append(r.Nodes(servertest.ZoneA), "w")...)
	minted := time.Now().Add(-time.Hour)
	one, err := r.Node("b1").WriteOrphans(t.Context(), 1, minted, 20)
	fatal(t, err)
	two, err := r.Node("b1").WriteOrphans(t.Context(), 2, minted, 20)
	fatal(t, err)
	_, before := orphansOf(t, r, "b1", "b1")
	r.Until("the partitions were asked, and nobody answered", func(context.Context) error {
		p, shards := orphansOf(t, r, "b1", "b1")
		if shards != before || p.Removed != 0 || p.RemovedTotal != 0 {
			t.Fatalf("%d shards were %d: %+v", shards, before, p)
		}
		if p.Error == "" || p.Unasked < int64(one+two) {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})

	r.Start(append(r.Nodes(servertest.ZoneA), "w")...)
	r.WaitReady(r.Nodes()...)
	for _, n := range []cluster.NodeID{"a1", "a2", "a3", "b2", "b3"} {
		_, err := r.Node(n).WriteOrphans(t.Context(), 2, minted, 20)
		fatal(t, err)
	}
	r.Until("the orphans are gone", func(context.Context) error {
		l.put("a2", "busy") // over and over
		got := census(t, r, "b2", false)
		if got.Orphans+got.Young != 0 || !got.Agrees {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	if p, _ := orphansOf(t, r, "a1", "b1"); p.RemovedTotal != int64(one+two) {
		t.Errorf("%d orphans: %+v", one+two, p)
	}
	r.Until("every shard of every object was looked at", func(context.Context) error {
		for _, n := range append(r.Nodes(servertest.ZoneA), r.Nodes(servertest.ZoneB)...) {
			if p, _ := orphansOf(t, r, "a1", n); p.Last.IsZero() || p.Looked == 0 || p.Found != 0 || p.Error != "" {
				return fmt.Errorf("%s: %+v", n, p)
			}
		}
		return nil
	})
	if got := census(t, r, "a1", false); got.Missing != 0 {
		t.Errorf("the sweep took what was wanted: %+v", got)
	}
	l.check("b1")
}
