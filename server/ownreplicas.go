package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
)

// What becomes of this node's own replicas: new ones are made when a group's leader
// asks for them, and those that were voted out are dropped, whether this node was
// there to hear of it or not.

const (
	lookAtOwn = 2 * time.Second
	// lonely is how long a replica hears no leader before it asks whether it still
	// belongs; unborn how long a new one waits to be added.
	lonely = 5 * time.Second
	unborn = 10 * time.Minute
)

// makeReplica makes an empty replica, in place of a held one if there is one: its id
// is a new one, so that nothing it says can be taken for the promises of the old.
func (n *Node) makeReplica(ctx context.Context, ask replicaAsk) error {
	if ask.ID.Generation() == 0 || int(ask.Group) > n.file.Partitions {
		return fmt.Errorf("%w: replica %d of group %d", cluster.ErrInvalid, ask.ID, ask.Group)
	}
	n.making.Lock()
	defer n.making.Unlock()
	if s, ok := n.replicaOf(ask.Group); ok && s.Self != ask.ID {
		if s.Role != replica.RoleHeld && s.Role != replica.RoleVotedOut {
			return fmt.Errorf("%w: replica %d of group %d is here and %s", cluster.ErrInvalid, s.Self, ask.Group, s.Role)
		}
		if err := n.newLog(ctx); err != nil {
			return err
		}
		if err := n.host.Drop(ask.Group, s.Self, errors.New("the group makes a new replica in its place")); err != nil {
			return err
		}
	}
	return n.host.Join(ask.Group, ask.ID, ask.Epoch)
}

// newLog begins a new raft log where all replicas are lost with the old one, which is
// kept aside.
func (n *Node) newLog(ctx context.Context) error {
	setBack := n.life.SetBack()
	if n.noLog == nil && setBack == nil {
		return nil // one group alone is held
	}
	path := n.dataPath("raft.db")
	err := n.host.ReplaceLog(func() (replica.LogStore, error) {
		err := os.Rename(path, fmt.Sprintf("%s.held-%d", path, time.Now().Unix()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err := syncDir(n.cfg.Data); err != nil {
			return nil, err
		}
		return replica.OpenBoltLog(path)
	})
	if err != nil {
		return fmt.Errorf("new raft log: %w", err)
	}
	n.noLog = nil
	n.logger.Warn("a new raft log: this node's former replicas stay held until they are voted out", "path", path)
	if setBack == nil {
		return nil
	}
	var heard uint64
	for _, before := range n.askLife(ctx, n.others()) {
		heard = max(heard, before)
	}
	return n.life.Absolve(heard)
}

// tidyOwn drops replicas that do not belong any more, until ctx ends.
func (n *Node) tidyOwn(ctx context.Context) error {
	t := time.NewTicker(lookAtOwn)
	defer t.Stop()
	alone := map[replica.GroupID]time.Time{} // since when a replica hears nobody
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for _, s := range n.host.Status() {
			out, sure := outOf(s)
			if !sure && (s.Leader != 0 || out == "") {
				delete(alone, s.Group)
				continue
			}
			if _, known := alone[s.Group]; !known {
				alone[s.Group] = time.Now()
			}
			wait := lonely
			if s.Applied == 0 && s.Role != replica.RoleHeld {
				wait = unborn
			}
			if !sure && (time.Since(alone[s.Group]) < wait || !n.votedOut(ctx, s)) {
				continue
			}
			err := n.host.Drop(s.Group, s.Self, errors.New(out))
			if err != nil {
				n.logger.Warn("a replica that was voted out could not be dropped", "group", uint32(s.Group), "err", err)
			}
			delete(alone, s.Group)
		}
	}
}

// outOf tells why a replica may not belong to its group any more, and whether its own
// log says so: what it has applied is committed, and its id never comes again.
func outOf(s replica.GroupStatus) (why string, sure bool) {
	members := slices.Concat(s.Voters, s.Learners, s.VotersOutgoing)
	switch {
	case s.Role == replica.RoleVotedOut: // a drop that failed
		return "it is voted out", true
	case s.Role == replica.RoleHeld:
		return "it was held and is voted out", false
	case s.Role == replica.RoleRebuilding || s.Role == replica.RoleNoSpace || s.Role == replica.RoleHalted:
		return "it took no part and is voted out", false
	case s.Applied > 0 && len(members) > 0 && !slices.Contains(members, s.Self):
		return "its own log says that it is voted out", true
	}
	return "it heard no leader, and another says that it is voted out", false
}

// votedOut asks the group's leader, whoever that is. Only a leader that has just
// confirmed itself answers.
func (n *Node) votedOut(ctx context.Context, s replica.GroupStatus) bool {
	for _, v := range n.votersOf(s.Group) {
		m, ok := n.byReplica(v)
		if !ok || m.ID == n.self.ID || !n.gossip.Alive(m.ID) {
			continue
		}
		said, err := n.askReplica(ctx, m.ID, methodMembers, replicaAsk{Group: s.Group})
		if err != nil || len(said.Members) == 0 || said.Epoch < s.Epoch {
			continue // one of an earlier epoch was declared dead, and has no say here
		}
		if s.Role == replica.RoleHeld { // which may not know its id
			return !slices.ContainsFunc(said.Members, func(id replica.ReplicaID) bool { return id.Host() == s.Self.Host() })
		}
		return !slices.Contains(said.Members, s.Self)
	}
	return false
}

// dropGroup removes the state of a group that is closed.
func (n *Node) dropGroup(g replica.GroupID) error {
	for _, suffix := range []string{"", ".damaged"} {
		if err := os.Remove(n.groupPath(g) + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if g == catalog.Root {
		n.logger.Warn("the root group's replica of this node is dropped; another node's is read until it has a new one")
	}
	return syncDir(n.dataPath("groups"))
}
