package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"bivalve/cluster"
)

// gate keeps a dead peer from costing every call a dial: after a failed dial
// calls fail at once for Limits.DownFor, and then one of them tries again while
// the others go on failing fast.
type gate struct {
	mu      sync.Mutex
	until   time.Time // zero: the peer is not known to be down
	probing bool
	last    error
}

// enter returns nil if the caller may dial; it then must call leave.
func (g *gate) enter(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until.IsZero() {
		return nil
	}
	if now.Before(g.until) || g.probing {
		return fmt.Errorf("%w (a moment ago: %w)", cluster.ErrUnreachable, g.last)
	}
	g.probing = true
	return nil
}

// leave reports how the dial went; gaveUp is a caller that stopped waiting,
// which says nothing about the peer.
func (g *gate) leave(err error, gaveUp bool, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	switch {
	case err == nil:
		g.until, g.last = time.Time{}, nil
	case !gaveUp:
		g.until, g.last = until, err
	}
}

// dial makes a connection of the given pool: TCP, TLS, hello. Every error it
// returns is cluster.ErrUnreachable too.
func (c *Client) dial(ctx context.Context, p *peer, pool Pool) (*conn, error) {
	if err := p.gate.enter(time.Now()); err != nil {
		return nil, fmt.Errorf("transport: node %s: %w", p.id, err)
	}
	cn, err := c.dialNow(ctx, p.id, pool)
	p.gate.leave(err, ctx.Err() != nil, time.Now().Add(c.cfg.Limits.DownFor))
	if err != nil {
		return nil, fmt.Errorf("transport: dial node %s: %w: %w", p.id, cluster.ErrUnreachable, err)
	}
	return cn, nil
}

func (c *Client) dialNow(ctx context.Context, to cluster.NodeID, pool Pool) (*conn, error) {
	addr, ok := c.cfg.Addr(to)
	if !ok {
		return nil, errors.New("address is not known")
	}
	d := net.Dialer{
		Timeout:         c.cfg.Limits.DialTimeout,
		KeepAliveConfig: keepAlive(),
		Control:         setUserTimeout,
	}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if c.cfg.Wrap != nil {
		raw = c.cfg.Wrap(to, raw)
	}
	hctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(hctx, func() { _ = raw.Close() }) // ends any read below
	cn, err := c.greet(hctx, raw, to, pool)
	if !stop() && err == nil {
		err = hctx.Err()
	}
	if err != nil {
		_ = raw.Close() // the error at hand says more
		if hctx.Err() != nil {
			err = fmt.Errorf("%w: %w", hctx.Err(), err)
		}
		return nil, err
	}
	if !c.track(cn) {
		cn.close()
		return nil, ErrClosed
	}
	return cn, nil
}

func (c *Client) greet(ctx context.Context, raw net.Conn, to cluster.NodeID, pool Pool) (*conn, error) {
	cn := secure(raw, c.records, func(n net.Conn) *tls.Conn { return tls.Client(n, c.cfg.Identity.ClientTLS(to)) })
	cn.peer, cn.pool = to, pool
	if err := cn.tls.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	hello := header{Type: frameHello, Kind: Kind(pool)}
	if c.cfg.Encrypt.plainWanted(pool, raw.LocalAddr(), raw.RemoteAddr()) {
		hello.Flags = flagPlain
	}
	if err := cn.writeFrame(hello, nil, nil); err != nil {
		return nil, err
	}
	h, err := cn.readHeader()
	if err != nil {
		return nil, err
	}
	head, err := cn.readHead(h)
	if err != nil {
		return nil, err
	}
	switch {
	case h.Type != frameWelcome || h.Flags&flagPlain&^hello.Flags != 0:
		return nil, fmt.Errorf("%w: answer to hello", ErrFrame)
	case h.Flags&flagError != 0:
		refused, _, err := c.codec.read(head, to)
		return nil, errors.Join(refused, err)
	case h.Flags&flagPlain != 0:
		return cn, cn.goPlain()
	}
	return cn, nil
}

// keepAlive finds a peer that vanished without a word while nothing is sent.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}
}
