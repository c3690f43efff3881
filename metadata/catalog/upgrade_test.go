package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/replica"
)

// upgrade is three nodes in this process, with real groups and states, whose programs
// are of different levels.
type upgrade struct {
	t    *testing.T
	now  atomic.Int64  // what all clocks show, Unix nanoseconds
	most atomic.Uint32 // the greatest level of a command that was applied

	mu    sync.Mutex
	nodes map[replica.ReplicaID]*upgraded
}

// upgraded is one life of a node.
type upgraded struct {
	u      *upgrade
	id     replica.ReplicaID
	host   *replica.Host
	router *replica.Router
	cat    *catalog.Catalog
	in     chan letter
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

type letter struct {
	from    replica.ReplicaID
	payload []byte
}

var upgradeIDs = []replica.ReplicaID{1, 2, 3}

// program stands for one of a level: it halts on a command of a later one, and takes
// one of its own for what this program does.
type program struct {
	replica.StateMachine
	level uint8
	u     *upgrade
}

func (p program) ApplyBatch(entries []replica.Entry, conf []byte) ([][]byte, error) {
	mine := slices.Clone(entries)
	for i, e := range mine {
		if e.Data == nil {
			continue
		}
		if e.Data[0] > p.level {
			return nil, fmt.Errorf("%w: a command of level %d, this program has %d", replica.ErrHalt, e.Data[0], p.level)
		}
		for was := p.u.most.Load(); uint32(e.Data[0]) > was && !p.u.most.CompareAndSwap(was, uint32(e.Data[0])); was = p.u.most.Load() {
		}
		mine[i].Data = slices.Clone(e.Data)
		mine[i].Data[0] = 1
	}
	return p.StateMachine.ApplyBatch(mine, conf)
}

// start begins a life of the node in dir, with a program of a level.
func (u *upgrade) start(id replica.ReplicaID, dir string, level uint8) *upgraded {
	u.t.Helper()
	n := &upgraded{u: u, id: id, in: make(chan letter, 1024)}
	path := func(g replica.GroupID) string { return filepath.Join(dir, fmt.Sprintf("%d.db", g)) }
	wrap := func(sm replica.StateMachine, err error) (replica.StateMachine, error) {
		return program{sm, level, u}, err
	}
	n.host = must(replica.Open(replica.Config{
		Replica: id, Dir: filepath.Join(dir, "incoming"), Log: must(replica.OpenBoltLog(filepath.Join(dir, "raft.db")))(u.t),
		Transport: n, Tick: 10 * time.Millisecond, TailEntries: 40, PinFactor: 1,
		NewStateMachine: func(g replica.GroupID) (replica.StateMachine, error) {
			return wrap(catalog.OpenStateMachine(path(g), nil))
		},
		RestoreStateMachine: func(g replica.GroupID, image string) (replica.StateMachine, error) {
			return wrap(catalog.RestoreStateMachine(path(g), image, nil))
		},
	}))(u.t)
	for g := range replica.GroupID(2) {
		if err := n.host.Bootstrap(g, upgradeIDs, nil); err != nil && !errors.Is(err, replica.ErrExists) {
			u.t.Fatal(err)
		}
	}
	n.router = must(replica.NewRouter(replica.RouterConfig{Host: n.host, Self: id, Peers: n,
		Voters: func(replica.GroupID) []replica.ReplicaID { return upgradeIDs }}))(u.t)
	n.cat = must(catalog.New(catalog.Config{Groups: n.router, Local: n.host, Partitions: 1, Level: level,
		Now:     func() time.Time { return time.Unix(0, u.now.Load()) },
		Elapsed: func() time.Duration { return time.Duration(u.now.Load()) }}))(u.t)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.ended.Go(func() {
		for {
			select {
			case l := <-n.in:
				n.host.HandleRaft(l.from, l.payload)
			case <-ctx.Done():
				return
			}
		}
	})
	n.ended.Go(func() {
		if err := n.host.Run(ctx); err != nil {
			u.t.Errorf("node %d: %v", id, err)
		}
	})
	u.mu.Lock()
	defer u.mu.Unlock()
	u.nodes[id] = n
	return n
}

func (u *upgrade) node(id replica.ReplicaID) *upgraded {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.nodes[id]
}

func (u *upgrade) stop(id replica.ReplicaID) {
	u.t.Helper()
	u.mu.Lock()
	n := u.nodes[id]
	delete(u.nodes, id)
	u.mu.Unlock()
	n.cancel()
	n.ended.Wait()
	if err := n.host.Close(); err != nil {
		u.t.Errorf("close of node %d: %v", id, err)
	}
}

// SendRaft, SendSnapshot and Call reach other nodes.
func (n *upgraded) SendRaft(to replica.ReplicaID, payload []byte) bool {
	peer := n.u.node(to.Host())
	if peer == nil {
		return false
	}
	select {
	case peer.in <- letter{n.id, payload}:
		return true
	default:
		return false
	}
}

func (n *upgraded) SendSnapshot(ctx context.Context, to replica.ReplicaID, head []byte, r io.Reader) error {
	if peer := n.u.node(to.Host()); peer != nil {
		return peer.host.HandleSnapshot(ctx, n.id, head, r)
	}
	return errors.New("nobody there")
}

func (n *upgraded) Call(ctx context.Context, to replica.ReplicaID, method uint8, payload []byte) ([]byte, error) {
	if peer := n.u.node(to.Host()); peer != nil {
		return peer.router.HandleCall(ctx, n.id, method, payload)
	}
	return nil, replica.ErrNotSent
}

// report has all nodes that run tell their clocks and levels, and then lets the time
// pass in which each of them hears of it.
func (u *upgrade) report() {
	u.t.Helper()
	for _, id := range upgradeIDs {
		n := u.node(id)
		if n == nil {
			continue
		}
		u.now.Add(int64(10 * time.Second))
		u.until("a clock is told", func() error { return n.cat.ReportClock(u.t.Context(), fmt.Sprint(id), len(upgradeIDs)) })
	}
	u.now.Add(int64(10 * time.Second))
}

func (u *upgrade) until(what string, ask func() error) {
	u.t.Helper()
	deadline := time.After(time.Minute)
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	for err := ask(); err != nil; err = ask() {
		select {
		case <-t.C:
		case <-deadline:
			u.t.Fatalf("waited in vain until %s: %v", what, err)
		}
	}
}

// well tells whether no group of a node has halted.
func (n *upgraded) well() error {
	for _, s := range n.host.Status() {
		if s.Halted != nil {
			return s.Halted
		}
	}
	return nil
}

// TestProgramsOfTwoLevels: three nodes get a later program one by one, under writes.
// No group halts, commands of the later level come when the last node has it, and every
// node has all that was acknowledged. A node that goes back to the earlier program stops
// where the later level began, and nowhere else; with the later one again it goes on.
func TestProgramsOfTwoLevels(t *testing.T) {
	u := &upgrade{t: t, nodes: map[replica.ReplicaID]*upgraded{}}
	u.now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	dirs := map[replica.ReplicaID]string{}
	for _, id := range upgradeIDs {
		dirs[id] = t.TempDir()
		u.start(id, dirs[id], 1)
	}
	defer func() {
		for _, id := range upgradeIDs {
			if u.node(id) != nil {
				u.stop(id)
			}
		}
	}()
	var b metadata.Bucket
	u.until("there is a bucket", func() (err error) { b, err = u.node(1).cat.CreateBucket(t.Context(), "bucket"); return err })
	written := 0
	write := func() {
		t.Helper()
		for range 60 { // more than the log keeps for one that is away
			n := u.node(upgradeIDs[written%len(upgradeIDs)])
			if n == nil {
				n = u.node(upgradeIDs[(written+1)%len(upgradeIDs)])
			}
			u.until("a version is written", func() error { return put(n.cat, b.ID, fmt.Sprintf("k%05d", written)) })
			written++
		}
	}
	// all waits until a node has what was written, by its own copy.
	all := func(id replica.ReplicaID) {
		t.Helper()
		q := must(metadata.NewQuery(metadata.QueryObjects, metadata.ObjectPage{Bucket: b.ID, Limit: 10_000}))(t)
		u.until(fmt.Sprintf("node %d has everything", id), func() error {
			raw, err := u.node(id).host.QueryLocal(1, q)
			if err != nil {
				return err
			}
			var rows metadata.ObjectRows
			if raw, err = metadata.DecodeResult(raw); err == nil {
				err = metadata.DecodeBody(raw, &rows)
			}
			if err == nil && len(rows.Rows) != written {
				err = fmt.Errorf("%d versions of %d: %w", len(rows.Rows), written, u.node(id).well())
			}
			return err
		})
	}
	write()
	u.report()
	for i, id := range upgradeIDs {
		u.stop(id)
		write()
		u.report()
		u.start(id, dirs[id], 2)
		write()
		all(id)
		if last := i == len(upgradeIDs)-1; !last {
			u.report()
			write()
		}
		if got := u.most.Load(); got != 1 {
			t.Fatalf("a command of level %d with %d programs of level 2", got, i+1)
		}
	}
	u.report()
	write()
	if got := u.most.Load(); got != 2 {
		t.Errorf("all programs have level 2, commands have level %d", got)
	}
	for _, id := range upgradeIDs {
		all(id)
		if err := u.node(id).well(); err != nil {
			t.Errorf("node %d: %v", id, err)
		}
	}

	u.stop(3)
	u.start(3, dirs[3], 1)
	u.report()
	write()
	u.until("the earlier program halts", func() error {
		for _, s := range u.node(3).host.Status() {
			if s.Group == 1 && errors.Is(s.Halted, replica.ErrHalt) {
				return nil
			}
		}
		return errors.New("it goes on")
	})
	if _, err := u.node(3).host.Query(t.Context(), 1, must(metadata.NewQuery(metadata.QueryStats, struct{}{}))(t)); !errors.Is(err, replica.ErrHalt) {
		t.Errorf("asked, it says %v", err)
	}
	write()
	u.stop(3)
	u.start(3, dirs[3], 2)
	for _, id := range upgradeIDs {
		all(id)
	}
}
