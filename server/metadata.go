package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/transport"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
)

// bootstrapMark lies in the data directory that `bivalve init` made. Only a node
// that finds it may found its groups and format its disks: one whose data was
// lost must not vote again as if it had never promised anything.
const bootstrapMark = "BOOTSTRAP"

// streamSnapshot is the transport kind of raft snapshots.
const streamSnapshot transport.Kind = 200

// Metadata methods of the transport: those of replica.Router below, our own from
// methodOwn on.
const (
	methodOwn    = 128
	methodStatus = methodOwn + iota
	methodScrub
	methodCheck
	methodLife
)

func (n *Node) bootstrapping() (bool, error) {
	_, err := os.Stat(n.dataPath(bootstrapMark))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// openMetadata opens the node's groups and the ways to all others.
func (n *Node) openMetadata() error {
	for _, dir := range []string{n.dataPath("groups"), n.dataPath("incoming")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := n.openLife(); err != nil {
		return err
	}
	first, err := n.bootstrapping()
	if err != nil {
		return err
	}
	log, noLog, err := n.openLog(first)
	if err != nil {
		return err
	}
	n.host, err = replica.Open(replica.Config{
		Replica: replica.ReplicaID(n.self.Replica), Dir: n.dataPath("incoming"), Log: log,
		Transport: raftTransport{n}, NewStateMachine: n.openGroup, RestoreStateMachine: n.restoreGroup,
		Logger: n.logger, Registry: n.metrics,
		PreferLeader: func(id replica.ReplicaID) bool {
			m, ok := n.byReplica(id)
			return ok && m.Role == cluster.RoleStorage
		},
	})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	n.closers = append(n.closers, n.host.Close)
	if err := n.foundGroups(first, noLog); err != nil {
		return err
	}
	n.router, err = replica.NewRouter(replica.RouterConfig{
		Host: n.host, Self: replica.ReplicaID(n.self.Replica), Voters: n.file.Voters,
		Alive: func(id replica.ReplicaID) bool {
			m, ok := n.byReplica(id)
			return ok && n.region.NodeUp(m.ID)
		},
		Peers: metaPeers{n}, Logger: n.logger,
	})
	if err != nil {
		return err
	}
	n.server.HandleRaft(func(from cluster.NodeID, payload []byte) {
		if m, ok := n.file.Member(from); ok {
			n.host.HandleRaft(replica.ReplicaID(m.Replica), payload)
		}
	})
	n.server.HandleStream(streamSnapshot, func(ctx context.Context, from cluster.NodeID, head []byte, r io.Reader) error {
		m, ok := n.file.Member(from)
		if !ok {
			return fmt.Errorf("%w: node %s is no member", cluster.ErrInvalid, from)
		}
		return n.host.HandleSnapshot(ctx, replica.ReplicaID(m.Replica), head, r)
	})
	n.server.HandleMeta(n.handleMeta)
	n.catalog, err = catalog.New(catalog.Config{Groups: n.router, Local: n.host, Partitions: n.file.Partitions})
	n.region.catalog = n.catalog
	return err
}

// openGroup opens the state of one group.
func (n *Node) openGroup(g replica.GroupID) (replica.StateMachine, error) {
	return catalog.OpenStateMachine(n.groupPath(g), n.groupChanged(g))
}

// restoreGroup opens the state that a peer sent, in place of a damaged one.
func (n *Node) restoreGroup(g replica.GroupID, image string) (replica.StateMachine, error) {
	return catalog.RestoreStateMachine(n.groupPath(g), image, n.groupChanged(g))
}

func (n *Node) groupPath(g replica.GroupID) string {
	return filepath.Join(n.dataPath("groups"), fmt.Sprintf("%d.db", g))
}

// groupChanged wakes the region watcher when the root group has changed.
func (n *Node) groupChanged(g replica.GroupID) func() {
	if g != catalog.Root {
		return nil
	}
	return func() {
		select {
		case n.rootChanged <- struct{}{}:
		default: // a token is there already
		}
	}
}

// openLog opens the raft log. One that is damaged or gone held what this node has
// voted and acknowledged: it is left as it is, and the node goes on without any
// metadata of its own, its disks served and its requests answered by the others.
func (n *Node) openLog(first bool) (log replica.LogStore, noLog, err error) {
	path := n.dataPath("raft.db")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && !first {
		noLog = fmt.Errorf("%s is missing", path)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	} else if log, err := replica.OpenBoltLog(path); err == nil {
		return log, nil, nil
	} else if noLog = err; !errors.Is(err, replica.ErrCorrupt) {
		return nil, nil, err
	}
	return replica.NoLog(noLog), noLog, nil
}

// foundGroups makes this node's replicas at its first start. Later, a group that is
// not there was lost (noLog says why, if all were): it must not be made again, for
// this node would vote against promises that it no longer remembers.
func (n *Node) foundGroups(first bool, noLog error) error {
	have := map[replica.GroupID]bool{}
	for _, g := range n.host.Groups() {
		have[g] = true
	}
	for g := replica.GroupID(0); int(g) <= n.file.Partitions; g++ {
		voters, learners := n.file.Voters(g), n.file.Learners(g)
		if !contains(voters, learners, replica.ReplicaID(n.self.Replica)) {
			continue
		}
		switch {
		case have[g]:
			continue
		case noLog != nil || !first:
			why := noLog
			if why == nil {
				why = fmt.Errorf("%s has no log of it: it was lost", n.dataPath("raft.db"))
			}
			if err := n.host.Hold(g, why); err != nil {
				return fmt.Errorf("metadata group %d: %w", g, err)
			}
			continue
		}
		if err := n.host.Bootstrap(g, voters, learners); err != nil && !errors.Is(err, replica.ErrExists) {
			return fmt.Errorf("found metadata group %d: %w", g, err)
		}
	}
	if !first || noLog != nil {
		return nil
	}
	if err := os.Remove(n.dataPath(bootstrapMark)); err != nil {
		return err
	}
	return syncDir(n.cfg.Data)
}

func contains(a, b []replica.ReplicaID, id replica.ReplicaID) bool {
	for _, list := range [][]replica.ReplicaID{a, b} {
		for _, x := range list {
			if x == id {
				return true
			}
		}
	}
	return false
}

func (n *Node) byReplica(id replica.ReplicaID) (SeedMember, bool) {
	for _, m := range n.file.Members {
		if replica.ReplicaID(m.Replica) == id {
			return m, true
		}
	}
	return SeedMember{}, false
}

// raftTransport carries raft over the node transport.
type raftTransport struct{ n *Node }

func (t raftTransport) SendRaft(to replica.ReplicaID, payload []byte) bool {
	m, ok := t.n.byReplica(to)
	return ok && t.n.client.SendRaft(m.ID, [][]byte{payload})
}

func (t raftTransport) SendSnapshot(ctx context.Context, to replica.ReplicaID, head []byte, r io.Reader) error {
	m, ok := t.n.byReplica(to)
	if !ok {
		return fmt.Errorf("%w: no member has replica %d", cluster.ErrUnreachable, to)
	}
	return t.n.client.SendStream(ctx, m.ID, streamSnapshot, head, r)
}

// metaPeers carries the router's calls; they carry request ids, so they may be
// sent again over a broken connection.
type metaPeers struct{ n *Node }

func (p metaPeers) Call(ctx context.Context, to replica.ReplicaID, method uint8, payload []byte) ([]byte, error) {
	m, ok := p.n.byReplica(to)
	if !ok {
		return nil, fmt.Errorf("%w: no member has replica %d", replica.ErrNotSent, to)
	}
	return p.n.client.CallMetaAgain(ctx, m.ID, method, payload)
}

// handleMeta serves metadata calls of other nodes.
func (n *Node) handleMeta(ctx context.Context, from cluster.NodeID, method uint8, body []byte) ([]byte, error) {
	m, ok := n.file.Member(from)
	if !ok {
		return nil, fmt.Errorf("%w: node %s is no member", cluster.ErrInvalid, from)
	}
	switch method {
	case methodStatus:
		return n.localStatusJSON()
	case methodScrub:
		return n.startScrubJSON()
	case methodCheck:
		return nil, n.handleCheck(ctx, body)
	case methodLife:
		return n.handleLife(from, body)
	}
	return n.router.HandleCall(ctx, replica.ReplicaID(m.Replica), method, body)
}

// leads tells whether this node leads a group at the moment.
func (n *Node) leads(g replica.GroupID) bool {
	return n.host.Leader(g) == replica.ReplicaID(n.self.Replica)
}

// watchRegion keeps Region in step with the root group and with gossip.
func (n *Node) watchRegion(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		gossip := n.gossip.Changes()
		if err := n.region.refresh(); err != nil {
			n.logger.Debug("the root group could not be read", "err", err)
		}
		n.region.notify()
		select {
		case <-ctx.Done():
			return nil
		case <-n.rootChanged:
		case <-gossip:
		case <-t.C: // disks have no notice of their own
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
