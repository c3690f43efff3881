//go:build e2e

package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"
	"bivalve/server"
	"bivalve/server/servertest"
)

// settled waits until every group has voters on the given number of nodes, all heard
// and with the whole log, none of them on a node of gone, and nothing is changing.
func settled(t *testing.T, r *servertest.Region, via cluster.NodeID, voters int, gone ...cluster.NodeID) (s *server.Status) {
	t.Helper()
	r.Until("the voters are settled", func(context.Context) error {
		s = status(t, r, via)
		for _, g := range s.Groups {
			n := 0
			for _, m := range g.Replicas {
				if m.Kind == "voter" {
					n++
				}
				if slices.Contains(gone, m.Node) && (m.Kind != "learner" || g.Group != 0) || !m.Active && m.Kind != "learner" || m.Lag > 50 && m.Active {
					return fmt.Errorf("group %d: %+v", g.Group, m)
				}
			}
			if n != voters || g.Alive != voters || g.Change != "" {
				return fmt.Errorf("group %d: %+v", g.Group, g)
			}
		}
		return nil
	})
	return s
}

// TestDeadVoterIsReplaced: a voter's node stays dead; others of its zone vote in its
// place. It comes back, drops what it had, and takes the place of the next one that
// dies, as a new replica.
func TestDeadVoterIsReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r := servertest.Start(t, servertest.Options{Replace: 2 * time.Second})
	l := newLedger(t, r)
	l.put("b1", "before")
	settled(t, r, "b1", 5)
	r.Kill("a1")
	settled(t, r, "b1", 5, "a1")
	l.put("a2", "without a1")
	r.Start("a1")
	r.WaitReady("a1")
	r.Until("a1 has no replica but that of a learner of the root group", func(ctx context.Context) error {
		s := status(t, r, "a1")
		for _, n := range s.Nodes {
			if n.ID == "a1" && (n.Local == nil || len(n.Local.Groups) != 1 || n.Local.Groups[0].Role != replica.RoleLearner) {
				return fmt.Errorf("a1 has %+v", n.Local)
			}
		}
		return nil
	})
	l.check("a1")
	// With a1 the only one left that has nothing, it must be a1.
	r.Kill("a2")
	s := settled(t, r, "b1", 5, "a2")
	for _, g := range s.Groups {
		for _, m := range g.Replicas {
			if m.Node == "a1" && m.ID.Generation() == 0 {
				t.Errorf("group %d: replica %d of a1 came back under its old id", g.Group, m.ID)
			}
		}
	}
	l.put("a3", "without a2")
	l.check("a1")
	// The new voters count: they carry a majority with one of zone b and without the witness.
	r.Kill("w", "b1")
	l.put("a1", "with new voters")
	l.check("b2")
}

// TestLostDataComesBack: a node loses its raft log in a zone where no other could take
// its place. It becomes a new replica of all its groups by itself.
func TestLostDataComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r := servertest.Start(t, servertest.Options{NodesPerZone: 1, Replace: 2 * time.Second})
	l := newLedger(t, r)
	l.put("b1", "before")
	last := map[replica.GroupID]replica.ReplicaID{}
	for name, harm := range map[string]func(data string) error{
		"the raft log is damaged": func(data string) error { return flipPages(filepath.Join(data, "raft.db")) },
		"everything is gone": func(data string) error {
			return errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o700))
		},
	} {
		r.Stop("a1")
		fatal(t, harm(r.Data("a1")))
		r.Start("a1")
		r.WaitReady("a1")
		r.Until(name+", and a1 votes as a new replica", func(context.Context) error {
			for _, g := range status(t, r, "b1").Groups {
				for _, m := range g.Replicas {
					if m.Node == "a1" && (m.ID.Generation() == 0 || m.ID == last[g.Group] || m.Kind != "voter") {
						return fmt.Errorf("group %d: %+v", g.Group, m)
					}
				}
			}
			return nil
		})
		for _, g := range settled(t, r, "b1", 3).Groups {
			for _, m := range g.Replicas {
				if m.Node == "a1" {
					last[g.Group] = m.ID
				}
			}
		}
		l.put("a1", "after "+name)
		r.Stop("b1") // a1's vote is needed, and what it knows
		l.put("a1", "needed "+name)
		r.Start("b1")
		r.WaitReady("b1")
		l.check("b1")
	}
	// It outlives a restart.
	r.Kill("a1")
	r.Start("a1")
	r.WaitReady("a1")
	settled(t, r, "b1", 3)
	l.check("a1")
}

// TestDrainedNodeFollowsAgain: a node that is drained gives up its replicas, that of
// the root group too, though it is there and nobody tells it. Taken back, it follows
// the root group as a new replica.
func TestDrainedNodeFollowsAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	r := servertest.Start(t, servertest.Options{Replace: 2 * time.Second})
	settled(t, r, "b1", 5)
	replicas := func(what string, amiss func([]server.LocalReport) error) {
		t.Helper()
		r.Until(what, func(context.Context) error {
			for _, n := range status(t, r, "a1").Nodes {
				if n.ID == "b3" && n.Local != nil {
					return amiss(n.Local.Groups)
				}
			}
			return errors.New("b3 does not say")
		})
	}
	_, err := r.Node("a1").SetNode(t.Context(), "b3", cluster.StateDraining, false)
	fatal(t, err)
	replicas("b3 has no replica", func(groups []server.LocalReport) error {
		if len(groups) > 0 {
			return fmt.Errorf("%+v", groups)
		}
		return nil
	})
	_, err = r.Node("a1").SetNode(t.Context(), "b3", cluster.StateActive, false)
	fatal(t, err)
	replicas("b3 follows the root group", func(groups []server.LocalReport) error {
		for _, g := range groups {
			if g.Group == 0 && g.Role == replica.RoleLearner && g.Replica.Generation() > 0 && g.Applied > 0 {
				return nil
			}
		}
		return fmt.Errorf("%+v", groups)
	})
	settled(t, r, "b1", 5)
}
