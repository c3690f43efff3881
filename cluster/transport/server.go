package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"bivalve/cluster"
)

// Server answers calls of other nodes. Register handlers first, then Serve.
type Server struct {
	cfg     Config
	codec   *errorCodec
	records *sync.Pool

	handlers map[Kind]handler // fixed once Serve runs
	streams  map[Kind]StreamHandler
	meta     MetaHandler
	raft     RaftHandler

	// Memory of bodies in flight. Metadata has its own, so that shards cannot
	// starve it; a raft connection holds one message at a time and needs none.
	shardMem, metaMem *semaphore.Weighted
	relayMem          *semaphore.Weighted // and relays theirs, see HandleRelay
	handshakes        chan struct{}
	draining          atomic.Bool

	mu     sync.Mutex
	conns  map[*serverConn]struct{}
	pooled int              // of conns, those of pools shards and metadata
	held   map[holdings]int // of conns, by peer and pool
}

type holdings struct {
	peer cluster.NodeID
	pool Pool
}

// NewServer checks the configuration; nothing runs yet.
func NewServer(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	codec, err := newErrorCodec(cfg.Errors)
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg: cfg, codec: codec, records: newCoalescePool(),
		handlers: make(map[Kind]handler), streams: make(map[Kind]StreamHandler),
		shardMem:   semaphore.NewWeighted(cfg.Limits.ShardBytes),
		metaMem:    semaphore.NewWeighted(cfg.Limits.MetaBytes),
		relayMem:   semaphore.NewWeighted(cfg.Limits.RelayBytes),
		handshakes: make(chan struct{}, cfg.Limits.MaxHandshakes),
		conns:      make(map[*serverConn]struct{}), held: make(map[holdings]int),
	}, nil
}

// Handle registers a kind of KindFirstFree..KindLastFree, before Serve.
func (s *Server) Handle(kind Kind, f HandlerFunc) { s.handlers[kind] = handler{serve: f} }

// HandleStream registers a kind of stream, before Serve.
func (s *Server) HandleStream(kind Kind, f StreamHandler) { s.streams[kind] = f }

// HandleMeta registers the metadata calls, before Serve.
func (s *Server) HandleMeta(f MetaHandler) { s.meta = f }

// HandleRaft registers the receiver of raft messages, before Serve.
func (s *Server) HandleRaft(f RaftHandler) { s.raft = f }

// Serve accepts connections until ctx ends or the listener fails, lets handlers
// finish for Limits.DrainTimeout, and returns after the last goroutine. It
// closes the listener and may be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	// Handlers outlive ctx on purpose: they are drained, then cut.
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	err := s.accept(ctx, base, ln, &wg)
	_ = ln.Close() // closed twice when ctx ended
	s.draining.Store(true)
	s.eachConn(func(c *serverConn) { c.interruptIdle() })
	late := time.AfterFunc(s.cfg.Limits.DrainTimeout, func() {
		cut()
		s.eachConn(func(c *serverConn) { _ = c.raw.Close() })
	})
	wg.Wait()
	late.Stop()
	return err
}

func (s *Server) accept(ctx, base context.Context, ln net.Listener, wg *sync.WaitGroup) error {
	for {
		raw, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = raw.Close() // came too late
			}
			return nil
		case err != nil && errors.Is(err, net.ErrClosed):
			return fmt.Errorf("transport: accept: %w", err)
		case err != nil:
			// Out of file descriptors, or a connection that was reset already.
			s.cfg.Logger.Warn("transport: accept failed", "err", err)
			if !wait(ctx, 50*time.Millisecond) {
				return nil
			}
			continue
		}
		select {
		case s.handshakes <- struct{}{}:
			wg.Go(func() { s.serveConn(base, raw) })
		default:
			_ = raw.Close() // too many strangers at the door
		}
	}
}

func (s *Server) eachConn(f func(*serverConn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// admit counts an authenticated connection in, or tells why not. Raft is not
// counted against the total, so that shards never keep it out.
func (s *Server) admit(c *serverConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	perPeer := 2 * s.cfg.Limits.ConnsPerPool // the old life of a peer may still be dying
	counted := c.pool <= PoolMeta
	if !counted {
		perPeer = 8
	}
	key := holdings{c.peer, c.pool}
	if s.held[key] >= perPeer || (counted && s.pooled >= s.cfg.Limits.MaxConns) {
		return fmt.Errorf("%w: %d connections of node %s", cluster.ErrOverloaded, s.held[key], c.peer)
	}
	s.held[key]++
	if counted {
		s.pooled++
	}
	c.admitted = true
	return nil
}

func (s *Server) enter(c *serverConn) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
}

func (s *Server) leave(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if !c.admitted {
		return
	}
	key := holdings{c.peer, c.pool}
	if s.held[key]--; s.held[key] == 0 {
		delete(s.held, key)
	}
	if c.pool <= PoolMeta {
		s.pooled--
	}
}
