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
	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
	"bivalve/server/upkeep"
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
	methodReach
	methodReplica // what this node has of a group
	methodMembers // who its members are, by its leader
	methodMake    // an empty replica
	methodSettled
	methodEpochs
	methodHeal
	methodReadOnly // switch the read-only mode
	methodWeak     // a read in that mode
	methodNewDisk
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
	if err := n.checkRecovered(); err != nil {
		return err
	}
	if err := n.loadReadOnly(); err != nil {
		return err
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
	n.noLog = noLog
	if n.cfg.Faults.Log != nil {
		log = n.cfg.Faults.Log(log)
	}
	n.host, err = replica.Open(replica.Config{
		Replica: replica.ReplicaID(n.self.Replica), Dir: n.dataPath("incoming"), Log: log,
		Transport: raftTransport{n}, NewStateMachine: n.openGroup, RestoreStateMachine: n.restoreGroup, DropStateMachine: n.dropGroup,
		Logger: n.logger, Registry: n.metrics,
		PreferLeader: func(id replica.ReplicaID) bool {
			m, ok := n.byReplica(id)
			return ok && m.Role == cluster.RoleStorage && !n.region.LogSlow(m.ID) && !n.region.NodeSlow(m.ID)
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
		Host: n.host, Self: replica.ReplicaID(n.self.Replica), Voters: n.votersOf,
		Alive: func(id replica.ReplicaID) bool {
			m, ok := n.byReplica(id)
			return ok && n.region.NodeUp(m.ID)
		},
		Reachable: n.reachable,
		Peers:     metaPeers{n}, Logger: n.logger,
	})
	if err != nil {
		return err
	}
	n.hearMetadata()
	n.catalog, err = catalog.New(catalog.Config{Groups: weakGroups{n}, Local: n.host, Partitions: n.file.Partitions, Now: n.clock})
	if err != nil {
		return err
	}
	n.strict, err = catalog.New(catalog.Config{Groups: n.router, Local: n.host, Partitions: n.file.Partitions, Now: n.clock})
	if err != nil {
		return err
	}
	n.caretaker = &upkeep.Caretaker{Facts: facts{n}, Orders: orders{n}, Zones: n.file.Zones, Root: catalog.Root,
		ReplaceAfter: time.Duration(n.cfg.ReplaceVoters), Every: time.Second, Logger: n.logger, Now: time.Now}
	n.region.catalog, n.region.stranded = n.catalog, n.stranded
	return n.checkLevel()
}

// checkLevel refuses to start a program that is older than what the region's logs hold. A
// copy of the root group that cannot be read says nothing: then its groups halt.
func (n *Node) checkLevel() error {
	clock, err := n.catalog.RegionClock()
	if err != nil {
		n.logger.Debug("the level of the region's commands is not known", "err", err)
	}
	return fitsLevel(clock.Level)
}

func fitsLevel(regions uint8) error {
	if regions > metadata.Level {
		return fmt.Errorf("the region's metadata is of level %d, this program has level %d: start the later version of it", regions, metadata.Level)
	}
	return nil
}

// hearMetadata takes what other nodes say to the groups here; a zone that is cut off
// is not heard.
func (n *Node) hearMetadata() {
	n.server.HandleRaft(func(from cluster.NodeID, payload []byte) {
		if m, ok := n.peer(from); ok && !n.refuses(m.Zone) {
			n.host.HandleRaft(replica.ReplicaID(m.Replica), payload)
		}
	})
	n.server.HandleStream(streamSnapshot, func(ctx context.Context, from cluster.NodeID, head []byte, r io.Reader) error {
		m, ok := n.peer(from)
		if !ok {
			return fmt.Errorf("%w: node %s is no member", cluster.ErrInvalid, from)
		}
		if n.refuses(m.Zone) {
			return fmt.Errorf("%w: zone %s is cut off", replica.ErrUnavailable, m.Zone)
		}
		return n.host.HandleSnapshot(ctx, replica.ReplicaID(m.Replica), head, r)
	})
	n.server.HandleMeta(n.handleMeta)
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

// raftTransport carries raft over the node transport.
type raftTransport struct{ n *Node }

func (t raftTransport) SendRaft(to replica.ReplicaID, payload []byte) bool {
	m, ok := t.n.byReplica(to)
	if ok && t.n.refuses(m.Zone) {
		return true // and lost
	}
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
	out, err := p.n.client.CallMetaAgain(ctx, m.ID, method, payload)
	if errors.Is(err, transport.ErrNotSent) {
		err = fmt.Errorf("%w: %w", replica.ErrNotSent, err)
	}
	return out, err
}

// handleMeta serves metadata calls of other nodes.
func (n *Node) handleMeta(ctx context.Context, from cluster.NodeID, method uint8, body []byte) ([]byte, error) {
	m, ok := n.peer(from)
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
	case methodReach:
		return n.handleReach(m)
	case methodReadOnly:
		return nil, n.handleReadOnly(body)
	case methodWeak:
		return n.handleWeak(body)
	case methodEpochs:
		return n.handleEpochs()
	case methodReplica, methodMembers, methodMake:
		return n.handleReplica(ctx, method, body)
	case methodSettled:
		return n.handleSettled(body)
	case methodHeal:
		return n.handleHeal(ctx, body)
	case methodNewDisk:
		return n.handleNewDisk(ctx, body)
	}
	if n.refuses(m.Zone) {
		return replica.Refusal(fmt.Sprintf("zone %s is cut off", m.Zone)), nil
	}
	return n.router.HandleCall(ctx, replica.ReplicaID(m.Replica), method, body)
}

// leads tells whether this node leads a group at the moment.
func (n *Node) leads(g replica.GroupID) bool {
	return n.host.Leads(g)
}

// watchRegion keeps Region in step with the root group and with gossip.
func (n *Node) watchRegion(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		gossip, reached := n.gossip.Changes(), n.reach.Changed()
		if err := n.region.refresh(); err != nil {
			n.logger.Debug("the root group could not be read", "err", err)
		}
		n.region.notify()
		select {
		case <-ctx.Done():
			return nil
		case <-n.rootChanged:
		case <-gossip:
		case <-reached:
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
