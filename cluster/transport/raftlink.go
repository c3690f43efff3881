package transport

import (
	"context"
	"net"
	"sync"
	"time"

	"bivalve/cluster"
)

// raftLink is the one ordered connection to a peer that raft messages take.
// What cannot be sent is dropped: raft repeats itself.
type raftLink struct {
	wake chan struct{} // holds one token when the queue is not empty

	mu      sync.Mutex
	started bool
	down    bool // the last dial failed; nothing is queued until one works
	queue   []raftMessage
	bytes   int
}

type raftMessage struct {
	pieces [][]byte
	size   int
}

const (
	raftBatchBytes = 1 << 20 // written at once
	raftBatchCount = 256
	raftWriteTime  = 5 * time.Second
	raftBackoffMin = 20 * time.Millisecond
	raftBackoffMax = 500 * time.Millisecond
)

// SendRaft queues one message, given in pieces that are laid end to end; they
// must not change afterwards. It never blocks. False means that the message was
// dropped: the queue is full, the peer is down or the client is closed. True
// does not mean that it will arrive; what arrives does so in order.
func (c *Client) SendRaft(to cluster.NodeID, payload [][]byte) bool {
	p, err := c.peer(to)
	size := totalLen(payload)
	if err != nil || size > MaxMetaBytes || size == 0 {
		return false
	}
	l := &p.raft
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started {
		if l.started = c.spawn(func() { c.runRaft(p) }); !l.started {
			return false
		}
	}
	if l.down && len(l.queue) > 0 {
		return false // one message is enough to try the peer with
	}
	if len(l.queue) >= c.cfg.Limits.RaftQueue || l.bytes+size > c.cfg.Limits.RaftQueueBytes {
		return false
	}
	l.queue = append(l.queue, raftMessage{payload, size})
	l.bytes += size
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// spawn starts a goroutine that Close waits for, unless Close has begun.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
	return !c.closed
}

// runRaft writes what is queued until Close.
func (c *Client) runRaft(p *peer) {
	var cn *conn
	backoff := raftBackoffMin
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-p.raft.wake:
		}
		if cn != nil && !stillOpen(cn.raw) {
			c.untrack(cn)
			cn = nil
		}
		if cn == nil {
			var err error
			if cn, err = c.dial(c.ctx, p, poolRaft); err != nil {
				c.cfg.Logger.Debug("raft link is down", "node", p.id, "err", err)
				p.raft.fail()
				if !wait(c.ctx, backoff) {
					return
				}
				backoff = min(2*backoff, raftBackoffMax)
				continue
			}
			backoff = raftBackoffMin
		}
		if err := c.flushRaft(p, cn); err != nil {
			c.cfg.Logger.Debug("raft link broke", "node", p.id, "err", err)
			c.untrack(cn)
			cn = nil
		}
	}
}

// fail forgets what is queued: it would be stale when the peer is back.
func (l *raftLink) fail() {
	l.mu.Lock()
	l.down, l.queue, l.bytes = true, nil, 0
	l.mu.Unlock()
}

// next takes a batch off the queue.
func (l *raftLink) next() []raftMessage {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
	n, size := 0, 0
	for n < len(l.queue) && n < raftBatchCount && (n == 0 || size+l.queue[n].size <= raftBatchBytes) {
		size += l.queue[n].size
		n++
	}
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	l.bytes -= size
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
}

// flushRaft writes until the queue is empty, many messages to one system call.
func (c *Client) flushRaft(p *peer, cn *conn) error {
	for {
		batch := p.raft.next()
		if len(batch) == 0 {
			return nil
		}
		if err := cn.raw.SetWriteDeadline(time.Now().Add(raftWriteTime)); err != nil {
			return err
		}
		n, err := cn.writeMessages(batch)
		for range batch {
			c.cfg.Metrics.call(sideClient, kindRaft, err)
		}
		if err != nil {
			return err
		}
		c.countBytes(p.id, CauseRaft, classOf(kindRaft), n, 0)
	}
}

// writeMessages lays small pieces end to end and large ones beside them.
func (c *conn) writeMessages(batch []raftMessage) (int, error) {
	const large = 8 << 10
	var vec net.Buffers
	total := 0
	buf := c.scratch[:0]
	for _, m := range batch {
		h := header{Type: frameMessage, Kind: kindRaft, BodyLen: uint32(m.size)}
		if c.plain() {
			h.BodySum, h.Flags = sumPieces(m.pieces), flagBodySum
		}
		buf = append(buf, make([]byte, headerBytes)...)
		h.put(buf[len(buf)-headerBytes:])
		for _, p := range m.pieces {
			if len(p) < large {
				buf = append(buf, p...)
				continue
			}
			vec = append(vec, buf, p)
			buf = nil
		}
		total += headerBytes + m.size
	}
	if len(vec) == 0 {
		if cap(buf) <= keepScratch {
			c.scratch = buf
		}
		return total, c.writePieces(buf, nil)
	}
	vec = append(vec, buf)
	return total, c.writePieces(vec[0], vec[1:])
}

// wait sleeps unless the context ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
