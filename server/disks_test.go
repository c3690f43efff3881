package server_test

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"bivalve/cluster"
	"bivalve/server/servertest"
)

// TestDiskThatDoesNotOpen: a node whose disk was lost goes on with its other disk
// and its votes, serves what the region still has, and says what is missing.
func TestDiskThatDoesNotOpen(t *testing.T) {
	r := servertest.Start(t, servertest.Options{DisksPerNode: 2, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "whole")
	disks := status(t, r, "a1").Nodes[0].Local.Disks
	if len(disks) != 2 {
		t.Fatal(disks)
	}
	for _, lose := range []func(dir string) error{
		func(dir string) error { return os.Rename(dir, dir+".away") },
		func(dir string) error { return os.Mkdir(dir, 0o700) }, // a new one in its place, never formatted by itself
	} {
		r.Kill("a1")
		fatal(t, lose(disks[0].Path))
		r.Start("a1")
		r.WaitReady("a1")
		l.check("a1")
		l.check("b2")
		got := map[cluster.DiskID]bool{}
		for _, d := range status(t, r, "b1").Nodes[0].Local.Disks {
			got[d.ID] = d.Failed != ""
		}
		if len(got) != 2 || !got[disks[0].ID] || got[disks[1].ID] {
			t.Errorf("out of service: %v, the lost disk is %s", got, disks[0].ID)
		}
	}
	l.put("b1", "without")
	l.put("a1", "by-itself")
	l.check("a1")
	if st := status(t, r, "a1"); st.Protected.UnderProtected == 0 {
		t.Error("nothing lacks the shards of the lost disk")
	}
	r.Kill("a1")
	fatal(t, errors.Join(os.RemoveAll(disks[0].Path), os.Rename(disks[0].Path+".away", disks[0].Path)))
	r.Start("a1")
	r.WaitReady("a1")
	l.check("a1")
	for _, d := range status(t, r, "a1").Nodes[0].Local.Disks {
		if d.Failed != "" {
			t.Error(d)
		}
	}
}

// TestStatusWithoutQuorum never reads as if all were well.
func TestStatusWithoutQuorum(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 1, Logger: slog.New(slog.DiscardHandler)})
	if st := status(t, r, "w"); st.Protected.Unknown || len(st.Problems) > 0 {
		t.Errorf("%+v", st)
	}
	r.Kill("a1", "b1")
	if st := status(t, r, "w"); !st.Protected.Unknown || !strings.Contains(strings.Join(st.Problems, " "), "protection") {
		t.Errorf("%+v", st)
	}
}
