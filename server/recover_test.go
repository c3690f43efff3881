//go:build e2e

package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server"
	"bivalve/server/servertest"
)

// TestForcedRecovery: a zone and the witness are lost for good. The other zone is
// recovered by force and serves all that was acknowledged; the lost nodes come back
// from their old files, and are new members.
func TestForcedRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r := servertest.Start(t, servertest.Options{Replace: 2 * time.Second})
	l := newLedger(t, r)
	l.put("a1", "before")
	b, lost := leaveZoneB(t, r, l)
	var configs []string
	for _, id := range b {
		configs = append(configs, r.Config(id))
	}
	recovery, err := server.OpenRecovery(configs)
	fatal(t, err)
	reports, err := recovery.Reports()
	fatal(t, err)
	plan, err := recovery.Plan(reports)
	fatal(t, err)
	if !plan.Forced() || len(plan.Verdicts) != 3 {
		t.Fatalf("%+v", plan)
	}
	for _, v := range plan.Verdicts {
		if v.Winner == 0 || len(v.Lost) != 3 || v.Epoch != 1 {
			t.Errorf("%+v", v)
		}
	}
	// It is cut off in the middle of a group: nobody starts, and it is gone on with.
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nothing was done")
			}
		}()
		fatal(t, recovery.Execute(plan, func(p server.RecoveryProgress) {
			if p.Group == 1 {
				panic("cut off")
			}
		}))
	}()
	fatal(t, recovery.Close())
	if err := r.TryStart(b[0]); err == nil || !strings.Contains(err.Error(), "forced recovery") {
		t.Fatalf("a node started in the middle of a recovery: %v", err)
	}
	recovery, err = server.OpenRecovery(configs)
	fatal(t, err)
	reports, err = recovery.Reports()
	fatal(t, err)
	again, err := recovery.Plan(reports)
	fatal(t, err)
	if fmt.Sprint(again.Verdicts) != fmt.Sprint(plan.Verdicts) {
		t.Errorf("the plan has changed:\n%+v\n%+v", plan.Verdicts, again.Verdicts)
	}
	fatal(t, recovery.Execute(again, func(server.RecoveryProgress) {}))
	fatal(t, recovery.Close())

	r.Start(b...)
	r.WaitReady(b...)
	l.check("b1")
	l.put("b2", "recovered")
	l.check("b3")

	// The old side comes back, first by itself as far as it can.
	r.Start(lost...)
	r.WaitReady(r.Nodes()...)
	s := settled(t, r, "a1", 5)
	for _, g := range s.Groups {
		for _, m := range g.Replicas {
			if (m.Node[0] == 'a' || m.Node == "w") && m.ID.Generation() == 0 {
				t.Errorf("group %d: replica %d of %s, declared dead, is a member", g.Group, m.ID, m.Node)
			}
		}
	}
	for _, n := range answered(t, r, "a1").Nodes {
		for _, g := range n.Local.Groups {
			if g.Epoch != 1 || g.Role == replica.RoleHeld {
				t.Errorf("%s: group %d is %s in epoch %d", n.ID, g.Group, g.Role, g.Epoch)
			}
		}
	}
	l.check("a1")
	l.put("a2", "whole again")
	l.check("b1")
}

// leaveZoneB loses zone a and the witness, and stops zone b once it has noticed.
func leaveZoneB(t *testing.T, r *servertest.Region, l *ledger) (b, lost []cluster.NodeID) {
	t.Helper()
	settled(t, r, "b1", 5)
	b, lost = r.Nodes(servertest.ZoneB), append(r.Nodes(servertest.ZoneA), "w")
	r.Kill(lost...)
	for i := range 4 { // what is in the log of a survivor happens in the recovery, other than its client heard
		l.attempt("b1", fmt.Sprint("maybe-", i))
	}
	t.Logf("%d of 4 outcomes are unknown", len(l.open))
	r.Until("zone b has stopped", func(context.Context) error {
		if code, err := tries(r, "b1", http.MethodHead, "/ledger/no", ""); err != nil || code != http.StatusServiceUnavailable {
			return fmt.Errorf("%d %w", code, err)
		}
		return nil
	})
	r.Stop(b...)
	return b, lost
}

// TestRecoveryOverHosts: each survivor lies on a host of its own, which knows of the
// others by their reports alone. All come to the same plan.
func TestRecoveryOverHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r := servertest.Start(t, servertest.Options{Replace: 2 * time.Second})
	l := newLedger(t, r)
	l.put("a1", "before")
	b, _ := leaveZoneB(t, r, l)
	host := func(id cluster.NodeID, do func(*server.Recovery, []server.RecoveryReport)) {
		recovery, err := server.OpenRecovery([]string{r.Config(id)})
		fatal(t, err)
		reports, err := recovery.Reports()
		fatal(t, err)
		do(recovery, reports)
		fatal(t, recovery.Close())
	}
	files := map[cluster.NodeID][]byte{}
	for _, id := range b {
		host(id, func(_ *server.Recovery, own []server.RecoveryReport) {
			raw, err := json.Marshal(own)
			fatal(t, err)
			files[id] = raw
		})
	}
	var first *server.RecoveryPlan
	for _, id := range b {
		host(id, func(recovery *server.Recovery, reports []server.RecoveryReport) {
			for other, raw := range files {
				var more []server.RecoveryReport
				fatal(t, json.Unmarshal(raw, &more))
				if other != id {
					reports = append(reports, more...)
				}
			}
			plan, err := recovery.Plan(reports)
			fatal(t, err)
			if first == nil {
				first = plan
			}
			if !plan.Forced() || fmt.Sprint(plan.Verdicts) != fmt.Sprint(first.Verdicts) {
				t.Errorf("%s would do this, the first another thing:\n%+v\n%+v", id, plan.Verdicts, first.Verdicts)
			}
			for _, rep := range plan.Reports {
				if n := plan.Name(rep.Groups[0].Self); n != string(rep.Node) {
					t.Errorf("node %s is named %q", rep.Node, n)
				}
			}
			fatal(t, recovery.Execute(plan, func(server.RecoveryProgress) {}))
		})
	}
	r.Start(b...)
	r.WaitReady(b...)
	l.check("b1")
	l.put("b2", "recovered")
	l.check("b3")
}

// TestRecoveryLeavesAMajorityAlone: with most voters there nothing is forced.
func TestRecoveryLeavesAMajorityAlone(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 1, Partitions: 1})
	l := newLedger(t, r)
	l.put("a1", "before")
	if _, err := server.OpenRecovery([]string{r.Config("a1")}); err == nil {
		t.Error("the files of a running node were opened")
	}
	r.Stop(r.Nodes()...)
	recovery, err := server.OpenRecovery([]string{r.Config("a1"), r.Config("w")})
	fatal(t, err)
	reports, err := recovery.Reports()
	fatal(t, err)
	plan, err := recovery.Plan(reports)
	fatal(t, err)
	if plan.Forced() {
		t.Errorf("%+v", plan)
	}
	fatal(t, recovery.Execute(plan, func(server.RecoveryProgress) { t.Error("something is done") }))
	fatal(t, recovery.Close())
	if _, err := os.Stat(r.Data("a1") + "/RECOVERY"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	r.Start(r.Nodes()...)
	r.WaitReady(r.Nodes()...)
	l.check(cluster.NodeID("b1"))
}

// TestRecoveryKeepsWhatCopiesShare: the partition that holds the bytes of an object goes on
// from a replica that does not know of a copy of it, which lives in another partition that
// does. The object is deleted, and the copy keeps its bytes.
func TestRecoveryKeepsWhatCopiesShare(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2, Replace: 2 * time.Second})
	ctx := t.Context()
	s := r.Node("a1").Stores()
	_, err := s.Buckets.CreateBucket(ctx, "bucket")
	fatal(t, err)
	data := content(5<<20, "shared")
	put := func(key string) replica.GroupID {
		t.Helper()
		v, err := s.Objects.PutObject(ctx, s3api.PutRequest{Bucket: "bucket", Key: key, Bytes: int64(len(data)), Body: s3test.NewBody(data)})
		fatal(t, err)
		return replica.GroupID(cluster.BlobID(v.Parts[0].Blob.ID).Partition())
	}
	home := put("source")
	copied := "copy"
	for put(copied) == home {
		copied += "y"
	}
	settled(t, r, "b1", 5)
	r.Stop("b1")
	source, err := s.Objects.HeadObject(ctx, "bucket", "source", "")
	fatal(t, err)
	r.Until("a copy without b1", func(context.Context) error {
		_, err := s.Copier.CopyObject(ctx, s3api.CopyRequest{Source: source, Bucket: "bucket", Key: copied})
		return err
	})
	r.Until("b2 has what the others have", func(context.Context) error {
		for _, g := range status(t, r, "a1").Groups {
			for _, m := range g.Replicas {
				if m.Node == "b2" && m.Lag > 0 {
					return fmt.Errorf("group %d: %+v", g.Group, m)
				}
			}
		}
		return nil
	})
	r.Kill("a1", "a2", "w")
	r.Stop("b2")

	recovery, err := server.OpenRecovery([]string{r.Config("b1"), r.Config("b2")})
	fatal(t, err)
	reports, err := recovery.Reports()
	fatal(t, err)
	for _, rep := range reports {
		for i := range rep.Groups {
			if rep.Node == "b2" && rep.Groups[i].Group == home {
				rep.Groups[i].Damage = "lost"
			}
		}
	}
	plan, err := recovery.Plan(reports)
	fatal(t, err)
	for _, v := range plan.Verdicts {
		if want := map[bool]string{true: "b1", false: "b2"}[v.Group == home]; v.Group != 0 && plan.Name(v.Winner) != want {
			t.Fatalf("group %d goes on from %s: %+v", v.Group, plan.Name(v.Winner), v)
		}
	}
	fatal(t, recovery.Execute(plan, func(server.RecoveryProgress) {}))
	fatal(t, recovery.Close())
	r.Start("b1", "b2")
	r.WaitReady("b1", "b2")
	s = r.Node("b2").Stores()
	r.Until("the source is deleted", func(context.Context) error {
		_, err := s.Objects.DeleteObject(ctx, s3api.DeleteRequest{Bucket: "bucket", Key: "source"})
		return err
	})
	r.Until("the partitions have compared what copies share", func(context.Context) error {
		st := status(t, r, "b2")
		if p := st.Protected; p.Unknown || p.Recovering != 0 || p.References != 1 || p.Garbage > 1 { // what the copy was written over waits for the lost disks
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	got, err := read(ctx, s, "bucket", copied)
	if err != nil || string(got) != string(data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}
