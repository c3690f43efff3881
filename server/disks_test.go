//go:build e2e

package server_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server/servertest"
)

// TestDiskThatDoesNotOpen: a node whose disk was lost goes on with its other disk
// and its votes, serves what the region still has, and says what is missing.
func TestDiskThatDoesNotOpen(t *testing.T) {
	r := servertest.Start(t, servertest.Options{DisksPerNode: 2, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "whole")
	disks := disksOf(t, r, "a1", "a1")
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
		for _, d := range disksOf(t, r, "b1", "a1") {
			got[d.ID] = d.Failed != ""
		}
		if len(got) != 2 || !got[disks[0].ID] || got[disks[1].ID] {
			t.Errorf("out of service: %v, the lost disk is %s", got, disks[0].ID)
		}
	}
	r.Until("the failed disk is known", func(context.Context) error {
		if r.Node("a1").Failed("a1") != 1 || r.Node("b1").Failed("a1") != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	l.put("b1", "without")
	l.put("a1", "by-itself")
	l.check("a1")
	if st := status(t, r, "a1"); st.Protected.UnderProtected != 0 {
		t.Errorf("%d objects did not step aside", st.Protected.UnderProtected)
	}
	r.Kill("a1")
	fatal(t, errors.Join(os.RemoveAll(disks[0].Path), os.Rename(disks[0].Path+".away", disks[0].Path)))
	r.Start("a1")
	r.WaitReady("a1")
	l.check("a1")
	for _, d := range disksOf(t, r, "a1", "a1") {
		if d.Failed != "" {
			t.Error(d)
		}
	}
}

// TestDiskGoesAndComesBack: a disk that is unmounted under a running node is
// noticed, gets nothing written in its place, and is back in service with all it
// held once it is there again, without a restart.
func TestDiskGoesAndComesBack(t *testing.T) {
	r := servertest.Start(t, servertest.Options{DisksPerNode: 2, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "before")
	lost := disksOf(t, r, "a1", "a1")[0]
	inState := func(want disk.State) func(context.Context) error {
		return func(context.Context) error {
			if got := disksOf(t, r, "b1", "a1")[0]; got.State != want {
				return fmt.Errorf("disk is %q: %s", got.State, got.Failed)
			}
			return nil
		}
	}
	r.Until("the disk is there", inState(disk.StateOK))
	fatal(t, os.Rename(lost.Path, lost.Path+".away"))
	fatal(t, os.Mkdir(lost.Path, 0o700))
	r.Until("the disk is missed", inState(disk.StateMissing))
	r.Until("the region knows", func(context.Context) error {
		if r.Node("b1").Failed("a1") != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	l.put("a1", "meanwhile")
	l.check("a1")
	l.check("b2")
	left, err := os.ReadDir(lost.Path)
	if err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
	fatal(t, os.Remove(lost.Path))
	fatal(t, os.Rename(lost.Path+".away", lost.Path))
	r.Until("the disk is back", inState(disk.StateOK))
	r.Until("the region knows", func(context.Context) error {
		if r.Node("b1").Failed("a1") != 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if got := disksOf(t, r, "a1", "a1")[0]; got.ID != lost.ID || got.Shards < lost.Shards {
		t.Errorf("%+v, was %+v", got, lost)
	}
	l.put("a1", "after")
	l.check("a1")
	l.check("b1")
}

// TestDiskOfAnEarlierTime: a disk that is put back from a copy made before, as a
// snapshot or a backup of the machine does, is known to lack what came later, and
// has it again soon.
func TestDiskOfAnEarlierTime(t *testing.T) {
	r := servertest.Start(t, servertest.Options{DisksPerNode: 1, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "before")
	disk := disksOf(t, r, "a1", "a1")[0]
	r.Kill("a1")
	fatal(t, os.CopyFS(disk.Path+".copy", os.DirFS(disk.Path)))
	r.Start("a1")
	r.WaitReady("a1")
	for i := range 20 {
		l.put("a1", fmt.Sprint("after", i))
	}
	had := disksOf(t, r, "a1", "a1")[0].Shards
	r.Kill("a1")
	fatal(t, errors.Join(os.RemoveAll(disk.Path), os.Rename(disk.Path+".copy", disk.Path)))
	r.Start("a1")
	r.WaitReady("a1")
	l.check("a1")
	r.Until("the disk has its shards again", func(context.Context) error {
		d := disksOf(t, r, "b1", "a1")[0]
		if d.Loss != "" || d.Shards != had {
			return fmt.Errorf("%d of %d shards, loss %q, %+v", d.Shards, had, d.Loss, d.Restore)
		}
		return nil
	})
	l.check("a1")
	l.check("b1")
}

// TestAnotherDiskInItsPlace: a disk of the same region that turns up where another
// was is not opened, and nothing is written to it.
func TestAnotherDiskInItsPlace(t *testing.T) {
	r := servertest.Start(t, servertest.Options{DisksPerNode: 2, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "before")
	st := answered(t, r, "a1")
	lost := st.Nodes[0].Local.Disks[0]
	var region [16]byte
	raw, err := hex.DecodeString(st.Cluster)
	fatal(t, err)
	copy(region[:], raw)
	other := filepath.Join(t.TempDir(), "other")
	id, err := disk.Format(disk.Config{Dir: other, Cluster: region})
	fatal(t, err)
	before := modified(t, other)
	fatal(t, os.Rename(lost.Path, lost.Path+".away"))
	fatal(t, os.Symlink(other, lost.Path))
	r.Until("the disk is missed and the other is named", func(context.Context) error {
		if got := disksOf(t, r, "b1", "a1")[0]; got.State != disk.StateMissing || !strings.Contains(got.Failed, id.String()) {
			return fmt.Errorf("disk is %q: %s", got.State, got.Failed)
		}
		return nil
	})
	if after := modified(t, other); !maps.Equal(before, after) {
		t.Errorf("%v, then %v", before, after)
	}
	fatal(t, os.Remove(lost.Path))
	fatal(t, os.Rename(lost.Path+".away", lost.Path))
	r.Until("the disk is back", func(context.Context) error {
		if got := disksOf(t, r, "b1", "a1")[0]; got.State != disk.StateOK {
			return fmt.Errorf("disk is %q: %s", got.State, got.Failed)
		}
		return nil
	})
	l.check("a1")
}

// modified is when each file in a directory was written last.
func modified(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	entries, err := os.ReadDir(dir)
	fatal(t, err)
	out := map[string]time.Time{}
	for _, e := range entries {
		info, err := e.Info()
		fatal(t, err)
		out[e.Name()] = info.ModTime()
	}
	return out
}

// TestDisksOfTwoNodes of one zone are lost: the others know it, and every write
// goes through.
func TestDisksOfTwoNodes(t *testing.T) {
	r := servertest.Start(t, servertest.Options{DisksPerNode: 2, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "whole")
	lose := func(n cluster.NodeID, disk int) {
		lost := disksOf(t, r, "w", n)[disk]
		r.Kill(n)
		fatal(t, os.RemoveAll(lost.Path))
		r.Start(n)
		r.WaitReady(n)
	}
	puts := func(round string) {
		t.Helper()
		for i := range 40 {
			// At the first try: a write that needs such a disk waits and then fails.
			data := content(20_000, "x")
			_, err := r.Node("b2").Stores().Objects.PutObject(t.Context(), s3api.PutRequest{
				Bucket: "ledger", Key: fmt.Sprint(round, i), Bytes: int64(len(data)), Body: s3test.NewBody(data)})
			fatal(t, err)
			l.m[fmt.Sprint(round, i)] = data
		}
	}
	lose("a1", 0)
	lose("a2", 0)
	r.Until("the failed disks are known", func(context.Context) error {
		if n := r.Node("b2"); n.Failed("a1") != 1 || n.Failed("a2") != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	puts("half")
	if status(t, r, "b2").Zones[0].Down {
		t.Error("zone a is down for want of two disks")
	}
	lose("a1", 1)
	lose("a2", 1)
	r.Until("zone a is down", func(context.Context) error {
		if !status(t, r, "b2").Zones[0].Down {
			return errors.New("zone a is up")
		}
		return nil
	})
	puts("none")
	l.check("a1")
	l.check("b1")
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
