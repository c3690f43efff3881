package transport

import (
	"context"
	"fmt"

	"bivalve/cluster"
)

// Shards makes shard calls to other nodes. Safe for concurrent use. Slices that
// are passed in are read (dst: written) until the method returns, not after.
type Shards struct {
	Client *Client
	Cause  Cause // of all its calls
}

// AppendShards stores shards[i] on disks[i] of one node, all in one message, and
// returns one result per shard: nil means durable. When the call as a whole
// fails every result is that error; with cluster.ErrUnreachable the shards may
// or may not be there. Appending the same shard again does no harm.
func (s Shards) AppendShards(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error {
	results := make([]error, len(shards))
	if err := s.appendShards(ctx, to, epoch, disks, shards, results); err != nil {
		for i := range results {
			results[i] = err
		}
	}
	return results
}

func (s Shards) appendShards(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard, results []error) error {
	head, err := encodeAppend(disks, shards)
	if err != nil {
		return fmt.Errorf("transport: append: %w", err)
	}
	body := make([][]byte, len(shards))
	for i := range shards {
		body[i] = shards[i].Payload
	}
	reply, err := s.Client.Call(ctx, to, Call{Pool: PoolShards, Cause: s.Cause, Kind: kindAppend, Epoch: epoch, Head: head, Body: body, Idempotent: true})
	if err != nil {
		return err
	}
	rest := reply.Head
	for i := range results {
		if results[i], rest, err = s.Client.codec.read(rest, to); err != nil {
			return fmt.Errorf("transport: append: %w: %w", cluster.ErrUnreachable, err)
		}
	}
	if len(rest) != 0 {
		return fmt.Errorf("transport: append: %w: %w: results", cluster.ErrUnreachable, ErrFrame)
	}
	return nil
}

// ReadShard reads blocks into dst, at most len(dst) bytes, straight from the
// connection. The bytes are not checked here: whoever serves the client compares
// them with the checksums returned (L7).
func (s Shards) ReadShard(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	room := min(len(dst), cluster.MaxShardBytes)
	reply, err := s.Client.Call(ctx, to, Call{
		Pool: PoolShards, Cause: s.Cause, Kind: kindRead, Idempotent: true,
		Head: readHead{disk, key, r, uint32(room)}.encode(),
		Dst: func(n int) []byte {
			if n > room {
				return nil
			}
			return dst[:n]
		},
	})
	if err != nil {
		return cluster.BlockRead{}, err
	}
	read, err := parseBlockRead(reply.Head, len(reply.Body))
	if err != nil {
		return cluster.BlockRead{}, fmt.Errorf("transport: read %s: %w: %w", key, cluster.ErrUnreachable, err)
	}
	return read, nil
}

// DeleteShards removes shards from one disk; those that are not there are no
// error.
func (s Shards) DeleteShards(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, keys []cluster.ShardKey) error {
	for len(keys) > 0 {
		n := min(len(keys), maxKeysPerCall)
		_, err := s.Client.Call(ctx, to, Call{
			Pool: PoolShards, Cause: s.Cause, Kind: kindDelete, Idempotent: true,
			Head: disk[:], Body: [][]byte{encodeKeys(keys[:n])},
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// ListShards lists a disk's shards of one placement group after the given key
// (nil: from the start), at most limit and at most 65536 of them.
func (s Shards) ListShards(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error) {
	reply, err := s.Client.Call(ctx, to, Call{
		Pool: PoolShards, Cause: s.Cause, Kind: kindList, Idempotent: true,
		Head: listHead{disk, pg, after, uint32(max(0, min(limit, maxKeysPerCall)))}.encode(),
	})
	if err != nil {
		return cluster.ShardPage{}, err
	}
	rows, err := parseInfos(reply.Body)
	if err != nil {
		return cluster.ShardPage{}, fmt.Errorf("transport: list pg %d: %w: %w", pg, cluster.ErrUnreachable, err)
	}
	return cluster.ShardPage{Rows: rows, Whole: len(reply.Head) > 0 && reply.Head[0] == listWhole}, nil
}
