package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"bivalve/cluster"
)

// serverConn is one accepted connection and its goroutine.
type serverConn struct {
	*conn
	s        *Server
	raw      net.Conn
	admitted bool
	idle     atomic.Bool // waiting for a request: may be cut when draining
	body     []byte      // raft: reused from message to message
}

// interruptIdle ends a wait for the next request.
func (c *serverConn) interruptIdle() {
	if c.idle.Load() {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0)) // it is closing anyway
	}
}

func (s *Server) serveConn(base context.Context, raw net.Conn) {
	c := &serverConn{s: s, raw: raw}
	s.enter(c)
	defer s.leave(c)
	defer func() { _ = raw.Close() }() // whatever was to be said has been
	err := c.greet(base)
	<-s.handshakes
	if err != nil {
		s.cfg.Logger.Debug("transport: handshake failed", "remote", raw.RemoteAddr(), "err", err)
		return
	}
	switch c.pool {
	case poolRaft:
		err = c.serveRaft()
	case poolStream:
		err = c.serveStream(base)
	default:
		err = c.serveCalls(base)
	}
	if err != nil && !s.draining.Load() && !quiet(err) {
		s.cfg.Logger.Debug("transport: connection ended", "node", c.peer, "err", err)
	}
}

// quiet tells the usual ends of a connection.
func quiet(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}

// greet does TLS, hello and welcome, all within the handshake timeout.
func (c *serverConn) greet(base context.Context) error {
	s := c.s
	ctx, cancel := context.WithTimeout(base, s.cfg.Limits.HandshakeTimeout)
	defer cancel()
	if t, ok := c.raw.(*net.TCPConn); ok {
		if err := t.SetKeepAliveConfig(keepAlive()); err != nil {
			return err
		}
	}
	if err := c.raw.SetDeadline(time.Now().Add(s.cfg.Limits.HandshakeTimeout)); err != nil {
		return err
	}
	c.conn = secure(c.raw, s.records, func(n net.Conn) *tls.Conn { return tls.Server(n, s.cfg.Identity.ServerTLS()) })
	if err := c.tls.HandshakeContext(ctx); err != nil {
		return err
	}
	node, err := s.cfg.Identity.verify(c.tls.ConnectionState())
	if err != nil {
		return err
	}
	c.peer = node
	h, err := c.readHeader()
	if err != nil {
		return err
	}
	if h.Type != frameHello || h.HeadLen != 0 || h.Kind >= Kind(poolCount) {
		return fmt.Errorf("%w: want hello", ErrFrame)
	}
	c.pool = Pool(h.Kind)
	welcome := header{Type: frameWelcome}
	if err := s.admit(c); err != nil {
		welcome.Flags = flagError
		return errors.Join(err, c.writeFrame(welcome, s.codec.append(nil, err), nil))
	}
	if h.Flags&flagPlain != 0 && s.cfg.Encrypt.plainWanted(c.pool, c.raw.LocalAddr(), c.raw.RemoteAddr()) {
		welcome.Flags = flagPlain
	}
	if err := c.writeFrame(welcome, nil, nil); err != nil {
		return err
	}
	if welcome.Flags&flagPlain != 0 {
		if err := c.goPlain(); err != nil {
			return err
		}
	}
	return c.raw.SetDeadline(time.Time{})
}

// nextHeader waits for a request as long as an idle connection may, and then
// for the rest of its header as long as a frame may take.
func (c *serverConn) nextHeader() (header, error) {
	l := c.s.cfg.Limits
	c.idle.Store(true)
	if err := c.raw.SetReadDeadline(time.Now().Add(l.ServerIdle)); err != nil {
		return header{}, err
	}
	if c.s.draining.Load() { // set before it cut the idle: one of the two is seen
		return header{}, net.ErrClosed
	}
	_, err := c.br.Peek(1)
	c.idle.Store(false)
	if err != nil {
		return header{}, err
	}
	if err := c.raw.SetReadDeadline(time.Now().Add(l.ReadTimeout)); err != nil {
		return header{}, err
	}
	return c.readHeader()
}

func (c *serverConn) serveCalls(base context.Context) error {
	for {
		h, err := c.nextHeader()
		if err != nil {
			return err
		}
		if h.Type != frameRequest {
			return fmt.Errorf("%w: type %d, want a request", ErrFrame, h.Type)
		}
		head, err := c.readHead(h)
		if err != nil {
			return err
		}
		if err := c.serveCall(base, h, head); err != nil {
			return err
		}
	}
}

func (c *serverConn) serveCall(base context.Context, h header, head []byte) error {
	s := c.s
	timeout := time.Duration(h.TimeoutMs) * time.Millisecond
	if timeout == 0 {
		timeout = s.cfg.Limits.CallTimeout
	}
	ctx, cancel := context.WithTimeout(base, timeout)
	defer cancel()
	req := &Request{
		From: c.peer, Kind: h.Kind, Epoch: cluster.Epoch(h.Epoch), Plain: c.plain(),
		Head: head, server: s, budget: s.shardMem,
	}
	if h.Kind.isMeta() {
		req.budget = s.metaMem
	}
	defer req.release()
	hd, known := s.handlers[h.Kind]
	if hd.budget != nil {
		req.budget = hd.budget
	}
	if h.Kind.isMeta() && s.meta != nil {
		hd, known = handler{serve: s.serveMeta}, true
	}
	var ans Answer
	err := error(nil)
	if !known {
		err = fmt.Errorf("%w: %d", ErrNoHandler, h.Kind)
	}
	if err == nil || h.BodyLen > 0 {
		switch e := c.receive(ctx, h, req, hd); {
		case errors.Is(e, errNoRoom):
			err = e
		case e != nil:
			if errors.Is(e, ErrFrame) { // say so; the connection ends all the same
				return errors.Join(e, c.answer(h, Answer{}, e))
			}
			return e
		}
	}
	if err == nil {
		ans, err = hd.serve(ctx, req)
	}
	s.cfg.Metrics.calls[sideServer][classOf(h.Kind)][b2i(err != nil)].Inc()
	s.cfg.Metrics.traffic(sideServer, classOf(h.Kind), headerBytes+len(ans.Head)+totalLen(ans.Body), headerBytes+len(head)+int(h.BodyLen))
	if e := c.answer(h, ans, err); e != nil {
		return e
	}
	if errors.Is(err, ErrFrame) {
		return err
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// errNoRoom: the call was refused for want of memory, and its body thrown away.
var errNoRoom = fmt.Errorf("%w: no room", cluster.ErrOverloaded)

// receive reads the body into lent memory. Until the server has that memory it
// does not read, and so TCP makes the sender wait.
func (c *serverConn) receive(ctx context.Context, h header, req *Request, hd handler) error {
	sizes := []int{int(h.BodyLen)}
	if hd.split != nil {
		var err error
		if sizes, err = hd.split(req.Head, int(h.BodyLen)); err != nil {
			return fmt.Errorf("%w: %w", ErrFrame, err)
		}
	}
	if h.BodyLen == 0 {
		return nil
	}
	weight := int64(h.BodyLen)
	if hd.weigh != nil {
		weight = hd.weigh(req.Head, int(h.BodyLen))
	}
	wait := ctx
	if hd.patience > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, hd.patience)
		defer cancel()
	}
	if err := req.budget.Acquire(wait, weight); err != nil {
		if hd.patience > 0 && ctx.Err() == nil {
			return c.skipBody(h)
		}
		return fmt.Errorf("%w: waiting for %d bytes of memory: %w", cluster.ErrOverloaded, weight, err)
	}
	req.weight = weight
	for _, n := range sizes {
		if h.Kind.isMeta() {
			req.parts = append(req.parts, make([]byte, n)) // its handler may keep it
			continue
		}
		b := c.s.cfg.Buffers.Get(n)
		req.lent, req.parts = append(req.lent, b), append(req.parts, b)
	}
	if len(req.parts) == 1 {
		req.Body = req.parts[0]
	}
	if err := c.raw.SetReadDeadline(time.Now().Add(c.s.cfg.Limits.ReadTimeout)); err != nil {
		return err
	}
	return c.readBody(h, req.parts)
}

// skipBody reads past a body that there is no room for.
func (c *serverConn) skipBody(h header) error {
	if err := c.raw.SetReadDeadline(time.Now().Add(c.s.cfg.Limits.ReadTimeout)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c.br, int64(h.BodyLen)); err != nil {
		return err
	}
	return errNoRoom
}

func (c *serverConn) answer(h header, ans Answer, err error) error {
	r := header{Type: frameResponse, Kind: h.Kind, ID: h.ID, Epoch: uint64(ans.Epoch)}
	if err == nil && (totalLen(ans.Body) > int(h.Kind.maxBody()) || len(ans.Head) > MaxHeadBytes) {
		err = fmt.Errorf("%w: answer of %d bytes", cluster.ErrInvalid, totalLen(ans.Body))
	}
	if err != nil {
		r.Flags = flagError
		ans = Answer{Head: c.s.codec.append(nil, err)}
	}
	if e := c.raw.SetWriteDeadline(time.Now().Add(c.s.cfg.Limits.WriteTimeout)); e != nil {
		return e
	}
	return c.writeFrame(r, ans.Head, ans.Body)
}

func (s *Server) serveMeta(ctx context.Context, req *Request) (Answer, error) {
	body, err := s.meta(ctx, req.From, uint8(req.Kind-kindMeta), req.Body)
	if err != nil || len(body) == 0 {
		return Answer{}, err
	}
	return Answer{Body: [][]byte{body}}, nil
}

func (c *serverConn) serveRaft() error {
	if c.s.raft == nil {
		return fmt.Errorf("%w: raft", ErrNoHandler)
	}
	for {
		h, err := c.nextHeader()
		if err != nil {
			return err
		}
		if h.Type != frameMessage || h.Kind != kindRaft || h.HeadLen != 0 {
			return fmt.Errorf("%w: type %d on a raft link", ErrFrame, h.Type)
		}
		if cap(c.body) < int(h.BodyLen) || cap(c.body) > max(1<<20, 4*int(h.BodyLen)) {
			c.body = make([]byte, h.BodyLen)
		}
		body := c.body[:h.BodyLen]
		if err := c.readBody(h, [][]byte{body}); err != nil {
			return err
		}
		c.s.cfg.Metrics.calls[sideServer][classOf(kindRaft)][0].Inc()
		c.s.cfg.Metrics.traffic(sideServer, classOf(kindRaft), 0, headerBytes+len(body))
		c.s.raft(c.peer, body)
	}
}

// serveStream serves the one stream of the connection.
func (c *serverConn) serveStream(base context.Context) error {
	h, err := c.nextHeader()
	if err != nil {
		return err
	}
	head, err := c.readHead(h)
	if err != nil {
		return err
	}
	if h.Type != frameRequest || h.BodyLen != 0 {
		return fmt.Errorf("%w: type %d opens a stream", ErrFrame, h.Type)
	}
	f, ok := c.s.streams[h.Kind]
	if !ok {
		return c.answerStream(h, fmt.Errorf("%w: stream %d", ErrNoHandler, h.Kind))
	}
	r := &streamReader{cn: c.conn, kind: h.Kind, timeout: c.s.cfg.Limits.ReadTimeout, sum: xxh3.New()}
	r.buf = c.s.cfg.Buffers.Get(streamChunk)
	defer func() { c.s.cfg.Buffers.Put(r.buf[:streamChunk]) }()
	err = f(base, c.peer, head, r)
	if err == nil && r.err != io.EOF {
		err = fmt.Errorf("%w: stream was not read to its end", cluster.ErrInvalid)
	}
	c.s.cfg.Metrics.calls[sideServer][classStream][b2i(err != nil)].Inc()
	c.s.cfg.Metrics.traffic(sideServer, classStream, headerBytes, int(r.total))
	return c.answerStream(h, err)
}

// answerStream answers, and takes what the peer still sends until it hangs up:
// closing over unread bytes would reset the connection and lose the answer.
func (c *serverConn) answerStream(h header, err error) error {
	if e := c.raw.SetWriteDeadline(time.Now().Add(c.s.cfg.Limits.WriteTimeout)); e != nil {
		return e
	}
	r := header{Type: frameResponse, Kind: h.Kind}
	if e := c.writeFrame(r, c.s.codec.append(nil, err), nil); e != nil {
		return e
	}
	if e := c.raw.SetReadDeadline(time.Now().Add(c.s.cfg.Limits.DrainTimeout)); e != nil {
		return e
	}
	_, e := io.Copy(io.Discard, c.raw)
	return e
}
