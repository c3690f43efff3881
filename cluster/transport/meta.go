package transport

import (
	"context"

	"bivalve/cluster"
)

// CallMeta makes a metadata call, at most once: when the connection breaks after
// the request may have arrived the error is cluster.ErrUnreachable and the
// outcome unknown (L5). The body of the answer belongs to the caller.
func (c *Client) CallMeta(ctx context.Context, to cluster.NodeID, method uint8, body []byte) ([]byte, error) {
	return c.callMeta(ctx, to, Call{Kind: kindMeta + Kind(method)}, body)
}

// CallMetaAgain is CallMeta for calls that may safely be done twice: reads, and
// proposals that carry a request id. It sends them again over a broken connection.
func (c *Client) CallMetaAgain(ctx context.Context, to cluster.NodeID, method uint8, body []byte) ([]byte, error) {
	return c.callMeta(ctx, to, Call{Kind: kindMeta + Kind(method), Idempotent: true}, body)
}

func (c *Client) callMeta(ctx context.Context, to cluster.NodeID, call Call, body []byte) ([]byte, error) {
	call.Pool = PoolMeta
	if len(body) > 0 {
		call.Body = [][]byte{body}
	}
	reply, err := c.Call(ctx, to, call)
	return reply.Body, err
}
