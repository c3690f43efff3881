//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bivalve/cluster"
	"bivalve/metadata/replica"
	"bivalve/server"
	"bivalve/server/servertest"
)

// groupRole is the role of a node's replica of a group, as the node tells it.
func groupRole(s *server.Status, id cluster.NodeID, g replica.GroupID) (replica.Role, error) {
	for _, n := range s.Nodes {
		if n.ID != id || n.Local == nil {
			continue
		}
		for _, l := range n.Local.Groups {
			if l.Group == g {
				return l.Role, nil
			}
		}
	}
	return "", fmt.Errorf("%s says nothing of group %d", id, g)
}

func isBack(ctx context.Context, r *servertest.Region, id cluster.NodeID, g replica.GroupID) error {
	s, err := r.Node(id).Status(ctx)
	if err != nil {
		return err
	}
	role, err := groupRole(s.(*server.Status), id, g)
	if err == nil && role != replica.RoleFollower && role != replica.RoleLeader && role != replica.RoleCandidate {
		err = fmt.Errorf("group %d of %s is %s", g, id, role)
	}
	return err
}

// TestDamagedGroupState: a node's copy of a metadata group is damaged or gone when
// it starts. It comes back from the others, and meanwhile everything is served.
func TestDamagedGroupState(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2})
	l := newLedger(t, r)
	l.put("a1", "before")
	for _, c := range []struct {
		node  cluster.NodeID
		group replica.GroupID
		harm  func(path string) error
	}{
		{"a1", 1, flipPages},
		{"a1", 0, os.Remove},
		{"b2", 2, func(path string) error { return os.Truncate(path, 9000) }},
		{"w", 1, func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{1}, 40_000), 0o600) }},
		{"b1", 0, func(path string) error { return flipBit(path, 4096+40) }}, // a meta page
	} {
		path := filepath.Join(r.Data(c.node), "groups", fmt.Sprintf("%d.db", c.group))
		r.Stop(c.node)
		fatal(t, c.harm(path))
		l.put("a2", fmt.Sprint(c.node, c.group))
		r.Start(c.node)
		r.Until("the group is back", func(ctx context.Context) error { return isBack(ctx, r, c.node, c.group) })
		r.WaitReady(c.node)
		if c.node != "w" {
			l.check(c.node)
		}
		if _, err := os.Stat(path + ".damaged"); err != nil {
			t.Errorf("the damaged file was not kept: %v", err)
		}
	}
	l.check("b1")
}

// flipPages spoils every page but the meta pages: some of them are free.
func flipPages(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	for at := int64(2 * 4096); at+4096 <= info.Size() && err == nil; at += 4096 {
		err = flipBit(path, at+20)
	}
	return err
}

// flipBit turns a bit of every byte at and behind at, up to the next 16.
func flipBit(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 16)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	for i := range b {
		b[i] ^= 1 << (i % 8)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		return err
	}
	return f.Close()
}

// TestGroupStateDamagedAtRunTime: the file of a group that the node leads is spoilt
// under it. The node lives, and the group comes back there.
func TestGroupStateDamagedAtRunTime(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2})
	l := newLedger(t, r)
	l.put("a1", "before")
	for round, harm := range []func(path string) error{
		func(path string) error { return os.Truncate(path, 8192) }, // reading it is a fault then
		func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			st, err := f.Stat()
			if err == nil {
				_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, int(st.Size())-8192), 8192)
			}
			return errors.Join(err, f.Close())
		},
	} {
		var victim cluster.NodeID
		r.Until("group 1 has a leader", func(context.Context) error {
			if victim = status(t, r, "a1").Groups[1].Leader; victim == "" || victim == "w" {
				return fmt.Errorf("it is led by %q", victim)
			}
			return nil
		})
		node, path := r.Node(victim), filepath.Join(r.Data(victim), "groups", "1.db")
		if err := os.Remove(path + ".damaged"); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		fatal(t, harm(path))
		l.put(victim, fmt.Sprint("round", round))
		r.Until("the damage was met", func(context.Context) error {
			l.check(victim)
			_, err := os.Stat(path + ".damaged")
			return err
		})
		r.Until("the group is back", func(ctx context.Context) error { return isBack(ctx, r, victim, 1) })
		l.check(victim)
		if r.Node(victim) != node {
			t.Fatal("the node has had another life")
		}
	}
}

// TestDamagedRaftLog: what a node has voted and acknowledged is damaged or gone. Its
// metadata is held and the log left alone; its disks and its door serve on.
func TestDamagedRaftLog(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2})
	l := newLedger(t, r)
	l.put("a1", "before")
	for node, harm := range map[cluster.NodeID]func(path string) error{
		"a1": flipPages,
		"b2": os.Remove,
	} {
		path := filepath.Join(r.Data(node), "raft.db")
		r.Stop(node)
		fatal(t, harm(path))
		before, _ := os.ReadFile(path)
		r.Start(node)
		r.WaitReady(node)
		l.put(node, string(node))
		l.check(node)
		s := status(t, r, node)
		for g := range replica.GroupID(3) {
			if role, err := groupRole(s, node, g); err != nil || role != replica.RoleHeld {
				t.Errorf("group %d of %s is %s: %v", g, node, role, err)
			}
		}
		for _, n := range s.Nodes {
			if n.ID == node && (n.Local == nil || len(n.Local.Disks) != 1 || n.Local.Disks[0].Shards == 0 || n.Local.Groups[0].Why == "") {
				t.Errorf("%+v", n.Local)
			}
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("the log of %s was written to", node)
		}
	}
	l.check("a2")
}

// TestSetBack: a node's data is put back from an older copy. It would vote again where
// it has voted, and be short of what it has acknowledged; so it takes no part, now and
// after every further start.
func TestSetBack(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2})
	l := newLedger(t, r)
	l.put("a1", "before")
	r.Stop("a1")
	old := filepath.Join(t.TempDir(), "old")
	fatal(t, os.CopyFS(old, os.DirFS(r.Data("a1"))))
	r.Start("a1")
	r.WaitReady("a1")
	l.put("a1", "later")
	r.Stop("a1")
	fatal(t, os.RemoveAll(r.Data("a1")))
	fatal(t, os.CopyFS(r.Data("a1"), os.DirFS(old)))
	for life := range 3 {
		r.Start("a1")
		r.WaitReady("a1")
		s := status(t, r, "a1")
		for g := range replica.GroupID(3) {
			if role, err := groupRole(s, "a1", g); err != nil || role != replica.RoleHeld {
				t.Errorf("life %d: group %d is %s: %v", life, g, role, err)
			}
		}
		l.put("a1", fmt.Sprint("held", life))
		l.check("a1")
		r.Stop("a1")
	}
	l.check("b1")
}

// TestLostIncarnation: the number of lives alone is damaged; the others know it.
func TestLostIncarnation(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 1})
	l := newLedger(t, r)
	l.put("a1", "before")
	r.Stop("a1")
	fatal(t, os.WriteFile(filepath.Join(r.Data("a1"), "INCARNATION"), []byte("?"), 0o600))
	r.Start("a1")
	r.Until("the groups run", func(ctx context.Context) error { return isBack(ctx, r, "a1", 1) })
	r.WaitReady("a1")
	l.put("a1", "after")
	l.check("b1")
}
