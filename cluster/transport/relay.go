package transport

import (
	"context"
	"fmt"
	"time"

	"bivalve/cluster"
)

// relayPatience is how long a relay without room lets a chunk wait before it says
// so: the sender has another way.
const relayPatience = 100 * time.Millisecond

// Relay hands a chunk to a node of the other zone, which makes that zone's shards
// and stores them. It returns one result per wanted shard, by ascending index: nil
// means durable. When the call as a whole fails, no result says so: err does. A
// node without this call answers ErrNoHandler, one without room
// cluster.ErrOverloaded. Doing it twice does no harm.
func (s Shards) Relay(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, chunk *cluster.Chunk) ([]error, error) {
	head, err := encodeRelay(chunk)
	if err != nil {
		return nil, fmt.Errorf("transport: relay: %w", err)
	}
	reply, err := s.Client.Call(ctx, to, Call{Pool: PoolShards, Cause: s.Cause, Kind: kindRelay, Epoch: epoch, Head: head, Body: chunk.Data, Idempotent: true})
	if err != nil {
		return nil, err
	}
	results := make([]error, wanted(chunk))
	rest := reply.Head
	for i := range results {
		if results[i], rest, err = s.Client.codec.read(rest, to); err != nil {
			return nil, fmt.Errorf("transport: relay: %w: %w", cluster.ErrUnreachable, err)
		}
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("transport: relay: %w: %w: results", cluster.ErrUnreachable, ErrFrame)
	}
	return results, nil
}

// RelayHandler makes and stores the shards of its zone. It is called concurrently.
type RelayHandler interface {
	// Relay returns one result per wanted shard, by ascending index. The chunk was
	// compared with its checksums. Its memory is the handler's until it calls free,
	// once, from whatever goroutine uses it last.
	Relay(ctx context.Context, epoch cluster.Epoch, c cluster.Chunk, free func()) []error
}

// HandleRelay registers the relay, before Serve. Its chunks live in a memory of
// their own (Limits.RelayBytes): a relay calls its neighbours, which must have room
// for what it sends, also when they relay themselves.
func (s *Server) HandleRelay(h RelayHandler) {
	s.handlers[kindRelay] = handler{
		split: splitRelay, weigh: relayWeight, budget: s.relayMem, patience: relayPatience,
		serve: func(ctx context.Context, req *Request) (Answer, error) { return serveRelay(ctx, s, h, req) },
	}
}

func serveRelay(ctx context.Context, s *Server, h RelayHandler, req *Request) (Answer, error) {
	c, _, err := parseRelay(req.Head, totalLen(req.parts))
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	c.Data = req.parts
	// Under TLS the cipher has vouched for the way, but not for the sender's memory:
	// what is made of a wrong chunk would have checksums that hold.
	for i := range c.Data {
		sh := cluster.Shard{Key: cluster.ShardKey{PG: c.PG, Blob: c.Blob, Chunk: c.Number, Index: cluster.ShardIndex(i)}, Sums: c.Sums[i], Payload: c.Data[i]}
		if err := checkBlocks(&sh); err != nil {
			return Answer{}, err
		}
	}
	results := h.Relay(ctx, req.Epoch, c, req.keep())
	if len(results) != wanted(&c) {
		return Answer{}, fmt.Errorf("transport: %d results for %d shards", len(results), wanted(&c))
	}
	var head []byte
	for _, err := range results {
		head = s.codec.append(head, err)
	}
	return Answer{Head: head}, nil
}
