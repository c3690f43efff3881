package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"bivalve/cluster"
)

// Client calls other nodes. Safe for concurrent use.
type Client struct {
	cfg     Config
	codec   *errorCodec
	records *sync.Pool // of coalescer buffers

	ctx    context.Context // ends with Close; for the goroutines that Close waits for
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	peers  map[cluster.NodeID]*peer
	conns  map[*conn]struct{} // every open one, so that Close can end them
}

// NewClient starts a client; Close ends it.
func NewClient(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Addr == nil {
		return nil, errors.New("transport: Addr is required for a client")
	}
	cfg = cfg.withDefaults()
	codec, err := newErrorCodec(cfg.Errors)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, codec: codec, records: newCoalescePool(),
		peers: make(map[cluster.NodeID]*peer), conns: make(map[*conn]struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wg.Go(c.reapIdle)
	return c, nil
}

// Call is one request to one peer.
type Call struct {
	Pool  Pool
	Kind  Kind
	Epoch cluster.Epoch
	Head  []byte
	Body  [][]byte
	// Dst gives the buffer that a response body of n > 0 bytes is read into; it
	// must be n long, or nil to refuse. Without Dst a fresh slice is made.
	Dst func(n int) []byte
	// Idempotent calls are made again on a fresh connection when a reused one
	// breaks before anything of the response came.
	Idempotent bool
	// Cause is counted where the bytes cross between zones.
	Cause Cause
}

// Reply is what the peer answered.
type Reply struct {
	Epoch cluster.Epoch
	Head  []byte
	Body  []byte
}

// Call sends req and waits for the answer. An error of the peer is a
// *RemoteError. cluster.ErrUnreachable means that no answer could be had, and
// that the call may or may not have been done unless it is ErrNotSent too;
// cluster.ErrOverloaded from this side that it was not sent. A context that ended shows in the error as well.
func (c *Client) Call(ctx context.Context, to cluster.NodeID, req Call) (Reply, error) {
	if req.Pool > PoolMeta {
		return Reply{}, fmt.Errorf("transport: %w: pool %d", cluster.ErrInvalid, req.Pool)
	}
	if n := totalLen(req.Body); n > int(req.Kind.maxBody()) || len(req.Head) > MaxHeadBytes {
		return Reply{}, fmt.Errorf("transport: %w: head of %d and body of %d bytes", cluster.ErrInvalid, len(req.Head), n)
	}
	p, err := c.peer(to)
	if err != nil {
		return Reply{}, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(c.cfg.Limits.CallTimeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	var reply Reply
	sent := false
	for attempt := 0; ; attempt++ {
		var x progress
		var again bool
		reply, x, again, err = c.once(ctx, p, &req, deadline, attempt > 0)
		sent = sent || x.sent
		if !again || attempt > 0 || ctx.Err() != nil {
			break
		}
	}
	if err != nil && !sent { // a frame that did not leave as a whole is never used
		err = fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	c.cfg.Metrics.call(sideClient, req.Kind, err)
	return reply, err
}

// once tries the call on one connection; again tells that a fresh connection
// may be tried without a risk of doing the call twice.
func (c *Client) once(ctx context.Context, p *peer, req *Call, deadline time.Time, fresh bool) (reply Reply, x progress, again bool, err error) {
	cn, reused, err := c.take(ctx, p, req.Pool, fresh, !req.Idempotent)
	if err != nil {
		return Reply{}, x, false, err
	}
	cp := &p.pools[req.Pool]
	if err := cn.raw.SetDeadline(deadline); err != nil {
		c.drop(cp, cn)
		return Reply{}, x, reused, fmt.Errorf("transport: node %s: %w: %w", p.id, cluster.ErrUnreachable, err)
	}
	// A deadline in the past ends the read or write in progress.
	stop := context.AfterFunc(ctx, func() { _ = cn.raw.SetDeadline(time.Unix(1, 0)) })
	reply, x, err = c.exchange(cn, req, deadline)
	c.countBytes(p.id, req.Cause, classOf(req.Kind), x.out, x.in)
	var remote *RemoteError
	if clean := stop(); clean && (err == nil || errors.As(err, &remote)) {
		if errors.Is(err, ErrFrame) {
			c.drop(cp, cn) // the peer hangs up after a damaged frame
		} else {
			cp.give(cn)
		}
		return reply, x, false, err
	}
	c.drop(cp, cn)
	if err == nil || errors.As(err, &remote) {
		return reply, x, false, err // the answer was in before the context ended
	}
	if e := ctx.Err(); e != nil {
		err = fmt.Errorf("%w: %w", e, err)
	}
	again = reused && (!x.sent || (req.Idempotent && !x.answered))
	return Reply{}, x, again, fmt.Errorf("transport: call node %s: %w: %w", p.id, cluster.ErrUnreachable, err)
}

// progress tells how far an exchange came, and the bytes of the frames that went
// whole.
type progress struct {
	sent, answered bool
	out, in        int
}

func (c *Client) exchange(cn *conn, req *Call, deadline time.Time) (Reply, progress, error) {
	var x progress
	cn.nextID++
	h := header{
		Type: frameRequest, Kind: req.Kind, ID: cn.nextID, Epoch: uint64(req.Epoch),
		TimeoutMs: uint32(max(1, min(time.Until(deadline).Milliseconds(), 1<<31))),
	}
	if err := cn.writeFrame(h, req.Head, req.Body); err != nil {
		return Reply{}, x, err
	}
	x.sent = true
	x.out = totalLen(req.Body) + len(req.Head) + headerBytes
	r, err := cn.readHeader()
	if err != nil {
		return Reply{}, x, err
	}
	x.answered = true
	if r.Type != frameResponse || r.ID != h.ID || r.Kind != req.Kind {
		return Reply{}, x, fmt.Errorf("%w: response type %d id %d kind %d to request id %d kind %d", ErrFrame, r.Type, r.ID, r.Kind, h.ID, req.Kind)
	}
	head, err := cn.readHead(r)
	if err != nil {
		return Reply{}, x, err
	}
	reply := Reply{Epoch: cluster.Epoch(r.Epoch), Head: head}
	if r.BodyLen > 0 {
		if req.Dst == nil {
			reply.Body = make([]byte, r.BodyLen)
		} else if reply.Body = req.Dst(int(r.BodyLen)); len(reply.Body) != int(r.BodyLen) {
			return Reply{}, x, fmt.Errorf("%w: response body of %d bytes does not fit", ErrFrame, r.BodyLen)
		}
		if err := cn.readBody(r, [][]byte{reply.Body}); err != nil {
			return Reply{}, x, err
		}
	}
	x.in = int(r.BodyLen) + len(head) + headerBytes
	if r.Flags&flagError != 0 {
		carried, _, err := c.codec.read(head, cn.peer)
		if err != nil {
			return Reply{}, x, err
		}
		if carried == nil {
			return Reply{}, x, fmt.Errorf("%w: error response without an error", ErrFrame)
		}
		return Reply{}, x, carried
	}
	return reply, x, nil
}

func (c *Client) peer(id cluster.NodeID) (*peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("transport: %w", ErrClosed)
	}
	p, ok := c.peers[id]
	if !ok {
		p = &peer{id: id}
		for i := range p.pools {
			p.pools[i].slots = make(chan struct{}, c.cfg.Limits.ConnsPerPool)
		}
		p.raft.wake = make(chan struct{}, 1)
		c.peers[id] = p
	}
	return p, nil
}

func (c *Client) track(cn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.conns[cn] = struct{}{}
	}
	return !c.closed
}

// untrack closes the connection and forgets it.
func (c *Client) untrack(cn *conn) {
	cn.close()
	c.mu.Lock()
	delete(c.conns, cn)
	c.mu.Unlock()
}

// reapIdle closes pooled connections that nobody has used for a while.
func (c *Client) reapIdle() {
	tick := time.NewTicker(c.cfg.Limits.ClientIdle / 4)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case now := <-tick.C:
			c.mu.Lock()
			peers := make([]*peer, 0, len(c.peers))
			for _, p := range c.peers {
				peers = append(peers, p)
			}
			c.mu.Unlock()
			for _, p := range peers {
				for i := range p.pools {
					c.expire(&p.pools[i], now.Add(-c.cfg.Limits.ClientIdle))
				}
			}
		}
	}
}

// Close ends every connection and returns after the last goroutine. Calls in
// progress fail. It may be called again.
func (c *Client) Close() error {
	c.cancel()
	c.mu.Lock()
	c.closed = true
	for cn := range c.conns {
		cn.close()
	}
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}
