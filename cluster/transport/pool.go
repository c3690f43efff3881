package transport

import (
	"context"
	"fmt"
	"sync"
	"time"

	"bivalve/cluster"
)

// peer is what a client keeps for one other node.
type peer struct {
	id    cluster.NodeID
	gate  gate
	pools [2]connPool // PoolShards, PoolMeta
	raft  raftLink
}

// connPool holds the connections of one purpose to one peer, one call on each.
type connPool struct {
	slots chan struct{} // one token per connection in use or idle-and-taken

	mu   sync.Mutex
	idle []*conn // the last used is taken first, so that the rest can age
}

// checkAfter is how long a connection may lie idle before it is looked at when
// taken: the peer may have restarted.
const checkAfter = 50 * time.Millisecond

// take returns an idle connection, or dials; reused tells which. fresh asks for
// a new one. The caller gives it back with give or drop.
func (c *Client) take(ctx context.Context, p *peer, pool Pool, fresh, check bool) (cn *conn, reused bool, err error) {
	cp := &p.pools[pool]
	select {
	case cp.slots <- struct{}{}:
	default:
		select {
		case cp.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, false, fmt.Errorf("transport: node %s: all %d connections are busy: %w: %w", p.id, cap(cp.slots), cluster.ErrOverloaded, ctx.Err())
		}
	}
	for !fresh {
		cn := cp.pop()
		if cn == nil {
			break
		}
		if (!check && time.Since(cn.idleSince) < checkAfter) || stillOpen(cn.raw) {
			return cn, true, nil
		}
		c.untrack(cn)
	}
	cn, err = c.dial(ctx, p, pool)
	if err != nil {
		<-cp.slots
	}
	return cn, false, err
}

func (cp *connPool) pop() *conn {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	n := len(cp.idle)
	if n == 0 {
		return nil
	}
	cn := cp.idle[n-1]
	cp.idle[n-1] = nil
	cp.idle = cp.idle[:n-1]
	return cn
}

// give puts a sound connection back.
func (cp *connPool) give(cn *conn) {
	cn.idleSince = time.Now()
	cp.mu.Lock()
	cp.idle = append(cp.idle, cn)
	cp.mu.Unlock()
	<-cp.slots
}

// drop closes a connection that is in an unknown state.
func (c *Client) drop(cp *connPool, cn *conn) {
	c.untrack(cn)
	<-cp.slots
}

// expire closes what has been idle since before t.
func (c *Client) expire(cp *connPool, t time.Time) {
	cp.mu.Lock()
	n := 0
	for n < len(cp.idle) && cp.idle[n].idleSince.Before(t) {
		n++
	}
	old := append([]*conn(nil), cp.idle[:n]...)
	cp.idle = append(cp.idle[:0], cp.idle[n:]...)
	cp.mu.Unlock()
	for _, cn := range old {
		c.untrack(cn)
	}
}
