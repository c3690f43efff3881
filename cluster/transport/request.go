package transport

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/semaphore"

	"bivalve/cluster"
)

// Request is a call as its handler sees it.
type Request struct {
	From  cluster.NodeID // proven by its certificate
	Kind  Kind
	Epoch cluster.Epoch
	Plain bool // the bytes came in the clear
	// Head belongs to the handler. Body is lent: it, and what Buffer returns,
	// are taken back once the answer is written. A metadata body is not lent.
	Head []byte
	Body []byte

	parts  [][]byte // the body again, as the split function of the kind cut it
	server *Server
	lent   [][]byte
	budget *semaphore.Weighted
	weight int64
}

// Answer is what a handler returns; it must stay unchanged until written, which
// holds for what Buffer lends.
type Answer struct {
	Epoch cluster.Epoch
	Head  []byte
	Body  [][]byte
}

// HandlerFunc serves one kind of call, concurrently. ctx ends when the caller
// has stopped waiting or the server has drained for too long.
type HandlerFunc func(ctx context.Context, req *Request) (Answer, error)

// StreamHandler serves one kind of stream; it must read r to io.EOF before it
// takes what it read for whole.
type StreamHandler func(ctx context.Context, from cluster.NodeID, head []byte, r io.Reader) error

// MetaHandler serves metadata calls. The body belongs to it.
type MetaHandler func(ctx context.Context, from cluster.NodeID, method uint8, body []byte) ([]byte, error)

// RaftHandler takes raft messages in order, per peer. The payload is lent for
// the length of the call.
type RaftHandler func(from cluster.NodeID, payload []byte)

// Buffer lends n bytes for the answer's body out of the server's memory budget.
// Only calls without a body may use it: one that holds memory and waits for
// more could wait for itself.
func (r *Request) Buffer(ctx context.Context, n int) ([]byte, error) {
	if n < 0 || n > MaxBodyBytes || r.weight != 0 {
		return nil, fmt.Errorf("transport: %w: buffer of %d bytes", cluster.ErrInvalid, n)
	}
	if err := r.budget.Acquire(ctx, int64(n)); err != nil {
		return nil, fmt.Errorf("transport: %w: waiting for %d bytes of memory: %w", cluster.ErrOverloaded, n, err)
	}
	r.weight = int64(n)
	b := r.server.cfg.Buffers.Get(n)
	r.lent = append(r.lent, b)
	return b, nil
}

func (r *Request) release() {
	for _, b := range r.lent {
		r.server.cfg.Buffers.Put(b)
	}
	r.lent = nil
	if r.weight > 0 {
		r.budget.Release(r.weight)
	}
}

// keep makes the request's memory the caller's, until it calls the function that
// keep returns, once.
func (r *Request) keep() (free func()) {
	mine := &Request{server: r.server, lent: r.lent, budget: r.budget, weight: r.weight}
	r.lent, r.weight = nil, 0
	return mine.release
}

// handler is one row of the server's table.
type handler struct {
	serve HandlerFunc
	// split cuts the body into buffers of their own, so that each shard starts
	// on an aligned one. nil: one buffer.
	split func(head []byte, bodyLen int) ([]int, error)
	// budget is where the memory comes from; nil: that of shards.
	budget *semaphore.Weighted
	// weigh is how much of it a call takes; nil: its body.
	weigh func(head []byte, bodyLen int) int64
	// patience is how long a call waits for memory before it is refused in order;
	// 0: as long as the caller does, and then the connection ends.
	patience time.Duration
}
