package servertest

import (
	"net"
	"sync/atomic"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
	"bivalve/metadata/replica"
	"bivalve/server"
)

func (r *Region) faults(id cluster.NodeID) *server.Faults {
	ids := map[string]cluster.NodeID{}
	for _, m := range r.members {
		ids[m.Gossip] = m.ID
	}
	return &server.Faults{
		Wrap: func(to cluster.NodeID, c net.Conn) net.Conn {
			l := &link{Conn: c, r: r, from: id, to: to, line: r.line(id, to)}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.links[l] = true
			return l
		},
		Lost: func(addr string) bool { return r.isCut(id, ids[addr]) },
		Clock: func() time.Time {
			r.mu.Lock()
			defer r.mu.Unlock()
			return time.Now().Add(r.skew[id])
		},
		Disk: func(dir string) vfs.Around {
			return func(op vfs.Op, _ string, call func() error) error {
				if op == vfs.OpRead || op == vfs.OpSyncData || op == vfs.OpSync {
					r.slow.wait(dir)
				}
				return call()
			}
		},
		Log: func(l replica.LogStore) replica.LogStore {
			return slowLog{l, func() { r.slow.wait("log of " + string(id)) }}
		},
	}
}

func (r *Region) isCut(from, to cluster.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cut[[2]cluster.NodeID{from, to}] || r.cut[[2]cluster.NodeID{to, from}]
}

// Cut takes down the links between each of a and each of b; nothing is refused,
// everything is dropped.
func (r *Region) Cut(a, b []cluster.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			if x != y {
				r.cut[[2]cluster.NodeID{x, y}] = true
			}
		}
	}
}

// Heal brings all links back. Connections that lost bytes are reset.
func (r *Region) Heal() {
	r.mu.Lock()
	clear(r.cut)
	var reset []*link
	for l := range r.links {
		if l.lossy.Load() {
			reset = append(reset, l)
		}
	}
	r.mu.Unlock()
	for _, l := range reset {
		_ = l.Close() // both ends see it
	}
}

// SetClock sets a node's clock wrong, where clocks are compared.
func (r *Region) SetClock(id cluster.NodeID, by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skew[id] = by
}

// link is a connection between two nodes. While they are cut from each other it
// swallows what is sent, and nothing arrives.
type link struct {
	net.Conn
	r        *Region
	from, to cluster.NodeID
	line     *throttle
	lossy    atomic.Bool // bytes were lost: nothing that follows makes sense
}

func (l *link) lost() bool {
	if !l.lossy.Load() && l.r.isCut(l.from, l.to) {
		l.lossy.Store(true)
	}
	return l.lossy.Load()
}

func (l *link) Write(b []byte) (int, error) {
	if l.lost() {
		return len(b), nil
	}
	l.r.slow.wait(string(l.from))
	l.r.slow.wait(string(l.to))
	if l.line != nil {
		l.line.send(len(b))
	}
	return l.Conn.Write(b)
}

func (l *link) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if err != nil || !l.lost() {
			return n, err
		}
	}
}

func (l *link) Close() error {
	l.r.mu.Lock()
	delete(l.r.links, l)
	l.r.mu.Unlock()
	return l.Conn.Close()
}
