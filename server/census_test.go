//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/s3api"
	"bivalve/server"
	"bivalve/server/servertest"
)

// census takes one and waits for its end.
func census(t *testing.T, r *servertest.Region, via cluster.NodeID, fix bool) (out *server.CensusAnswer) {
	t.Helper()
	began, err := r.Node(via).StartCensus(fix)
	fatal(t, err)
	r.Until("the census is over", func(context.Context) (err error) {
		if out, err = r.Node(via).Census(); err == nil && out.Finished.IsZero() {
			err = fmt.Errorf("%+v", out)
		}
		return err
	})
	if out.Number != began.Number || out.Error != "" {
		t.Fatalf("%+v", out)
	}
	return out
}

// mixed puts objects of every kind: inline, in classes, in parts, overwritten, and an
// upload that stays open.
func mixed(t *testing.T, r *servertest.Region, via cluster.NodeID, l *ledger) {
	t.Helper()
	for i := range 4 {
		l.put(via, fmt.Sprint("x", i))
	}
	l.put(via, "x0") // over the first ones
	send := func(method, path string, body io.ReadSeeker, header http.Header) {
		t.Helper()
		r.Until(method+" "+path, func(ctx context.Context) error {
			resp, err := r.Do(ctx, via, method, "/ledger/"+path, body, header)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode/100 != 2 {
				return fmt.Errorf("%s", resp.Status)
			}
			return nil
		})
	}
	put := func(path string, size int, header http.Header) {
		t.Helper()
		if len(header) > 0 {
			l.m[path] = content(size, path)
		}
		send(http.MethodPut, path, bytes.NewReader(content(size, path)), header)
	}
	put("lean", 5<<20, http.Header{"X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"}})
	put("onezone", 5<<20, http.Header{"X-Amz-Storage-Class": {"ONEZONE_IA"}})
	for i := range 4 { // in both partitions, and of a source that does not stay
		key := fmt.Sprint("copy", i)
		send(http.MethodPut, key, nil, http.Header{"X-Amz-Copy-Source": {"/ledger/x3-7"}})
		l.m[key] = l.m["x3-7"]
	}
	send(http.MethodDelete, "x3-7", nil, nil)
	delete(l.m, "x3-7")
	u := r.Node(via).Stores().Uploads
	up, err := u.CreateUpload(t.Context(), s3api.CreateUploadRequest{Bucket: "ledger", Key: "open"})
	fatal(t, err)
	for n := 1; n <= 3; n++ {
		put(fmt.Sprintf("open?partNumber=%d&uploadId=%s", n, up.ID), 5<<20+n, nil)
	}
}

// TestCensus: a healthy region's census finds every shard and agrees with the counters;
// what a disk lost without knowing is found to the last shard, and with --fix healed.
func TestCensus(t *testing.T) {
	r := servertest.Start(t, servertest.Options{LostAfter: 3 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	mixed(t, r, "a1", l)
	protected(t, r, "a1")
	r.Until("overwritten objects are gone from the disks", func(context.Context) error {
		if st := status(t, r, "a1"); st.Protected.Garbage != 0 {
			return fmt.Errorf("%+v", st.Protected)
		}
		return nil
	})
	onDisks := func() int64 {
		return shards(t, r, "b1", servertest.ZoneA) + shards(t, r, "b1", servertest.ZoneB)
	}
	healthy := census(t, r, "a1", false)
	if !healthy.Agrees || healthy.Shards != onDisks() || healthy.Found != healthy.Shards || healthy.Shards == 0 || healthy.Done != 2 ||
		healthy.Noted+healthy.Orphans+healthy.Young+healthy.Garbage+healthy.Misplaced+healthy.Unreadable != 0 {
		t.Fatalf("%d shards on disks, %+v", onDisks(), healthy)
	}

	one, err := r.Node("b2").Lose(t.Context(), 1)
	fatal(t, err)
	all, err := r.Node("a2").Lose(t.Context(), 1000)
	fatal(t, err)
	got := census(t, r, "w", false)
	if one != 1 || all < 10 || got.Agrees || got.Missing != int64(one+all) || got.Found != healthy.Found-got.Missing || len(got.Examples) == 0 || got.Fixed != 0 {
		t.Fatalf("%d and %d were lost: %+v", one, all, got)
	}
	if st := status(t, r, "a1"); st.Protected.UnderProtected != 0 {
		t.Fatalf("the census has changed something: %+v", st.Protected)
	}
	if got := census(t, r, "w", true); got.Fixed != int64(one+all) || got.Fixed != got.Missing {
		t.Fatalf("%+v", got)
	}
	protected(t, r, "a1")
	if got := census(t, r, "w", false); !got.Agrees || got.Found != healthy.Found {
		t.Fatalf("%+v", got)
	}

	// A disk that is away is not heard; its shards are counted once they are marked.
	r.Kill("a3")
	got = census(t, r, "b1", false)
	if got.Missing != 0 || len(got.Unheard) != 1 || got.NotSeen+got.Noted == 0 || len(got.Differ) != 0 {
		t.Fatalf("%+v", got)
	}
	var noted int64
	r.Until("all that is away is marked", func(context.Context) error {
		if got = census(t, r, "b1", false); !got.Agrees {
			return fmt.Errorf("%+v", got)
		}
		noted = got.Noted
		return nil
	})
	if noted == 0 || noted != healthy.Shards-got.Found {
		t.Fatalf("%d noted: %+v", noted, got)
	}
	disk := r.Disk("a3", 0)
	wipe(t, []string{disk})
	r.Start("a3")
	r.WaitReady("a3")
	protected(t, r, "b1")
	r.Until("the wiped disk is whole", func(context.Context) error {
		if got = census(t, r, "b1", false); !got.Agrees || got.Found != healthy.Found {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	l.check("a3")
}

// TestProtectionCounts: what lacks shards is counted to the object and the byte, for
// the region, each zone and each disk, in the status and in the metrics alike.
func TestProtectionCounts(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 1, DisksPerNode: 2, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r) // two disks in each zone, and each object on both
	l.put("a1", "whole")
	sum := func(name, label string) (v float64) {
		for _, n := range r.Nodes() {
			if node := r.Node(n); node != nil {
				v += node.Gauge(name, label)
			}
		}
		return v
	}
	r.Kill("b1")
	r.Until("zone b is down", func(context.Context) error {
		if st := status(t, r, "a1"); !st.Zones[1].Down {
			return fmt.Errorf("%+v", st.Zones)
		}
		return nil
	})
	l.put("a1", "alone")
	const bytes, objects = 16<<10 + 1 + 100_000 + 1<<20 + 4<<20 + 1 + 9<<20, 5
	r.Until("what lacks shards is counted", func(context.Context) error {
		st := status(t, r, "a1")
		p := st.Protected
		if p.Unknown || p.OnDisks != 2*objects || p.UnderProtected != objects || p.UnderBytes != bytes || p.Unreadable != 0 || p.Queued != objects || p.Oldest.IsZero() || p.OldestAge <= 0 {
			return fmt.Errorf("%+v", p)
		}
		if st.Zones[0].Lost != 2*objects || st.Zones[1].Lost != 0 || len(st.Disks) != 4 {
			return fmt.Errorf("%+v", st.Zones)
		}
		for _, d := range st.Disks {
			lost, lacks, up := int64(objects), int64(0), true
			if d.Zone == servertest.ZoneB {
				lost, lacks, up = 0, 1+1+1+2+3, false
			}
			if d.Lost != lost || d.AtMost || d.Lacks != lacks || (d.Bytes > 0) != (lacks > 0) || d.Up != up {
				return fmt.Errorf("%+v", d)
			}
			for name, want := range map[string]int64{"lost_if_disk_died_objects": d.Lost, "disk_lacks_shards": d.Lacks, "disk_lacks_bytes": d.Bytes} {
				if got := sum("bivalve_"+name, d.Disk.String()); got != float64(want) {
					return fmt.Errorf("%s is %.0f for %+v", name, got, d)
				}
			}
		}
		for name, want := range map[string]float64{"objects_on_disks": 2 * objects, "under_protected_objects": objects, "under_protected_bytes": bytes, "unreadable_objects": 0} {
			if got := sum("bivalve_"+name, ""); got != want {
				return fmt.Errorf("%s is %.0f", name, got)
			}
		}
		if got := sum("bivalve_lost_if_zone_died_objects", "a"); got != 2*objects {
			return fmt.Errorf("%.0f objects lost with zone a", got)
		}
		return nil
	})
	r.Start("b1")
	r.WaitReady("b1")
	protected(t, r, "b1")
	r.Until("nothing hangs on anything", func(context.Context) error {
		st := status(t, r, "b1")
		for _, d := range st.Disks {
			if d.Lost != 0 || d.Lacks != 0 || d.Bytes != 0 {
				return fmt.Errorf("%+v", d)
			}
		}
		if !st.Protected.Oldest.IsZero() || sum("bivalve_under_protected_objects", "") != 0 {
			return fmt.Errorf("%+v", st.Protected)
		}
		return nil
	})
}
