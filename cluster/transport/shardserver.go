package transport

import (
	"context"
	"fmt"

	"github.com/zeebo/xxh3"

	"bivalve/cluster"
)

// ShardHandler is a node's disks. Its methods are called concurrently.
type ShardHandler interface {
	// AppendShards stores shards[i] on disks[i] and returns one result per shard,
	// nil once it is durable. Payloads are lent until it returns; each lies in a
	// buffer of its own from Config.Buffers.
	AppendShards(ctx context.Context, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error
	// ReadShard puts at most len(dst) bytes into dst.
	ReadShard(ctx context.Context, disk cluster.DiskID, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error)
	DeleteShards(ctx context.Context, disk cluster.DiskID, keys []cluster.ShardKey) error
	ListShards(ctx context.Context, disk cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error)
}

// HandleShards registers the shard calls, before Serve.
func (s *Server) HandleShards(h ShardHandler) {
	srv := shardServer{h, s.codec}
	s.handlers[kindAppend] = handler{serve: srv.append, split: splitAppend}
	s.handlers[kindRead] = handler{serve: srv.read}
	s.handlers[kindDelete] = handler{serve: srv.delete}
	s.handlers[kindList] = handler{serve: srv.list}
}

type shardServer struct {
	h     ShardHandler
	codec *errorCodec
}

func (s shardServer) append(ctx context.Context, req *Request) (Answer, error) {
	var disks []cluster.DiskID
	var shards []cluster.Shard
	bodyLen := totalLen(req.parts)
	if err := appendRows(req.Head, bodyLen, func(disk cluster.DiskID, sh cluster.Shard, _ int) {
		sh.Payload = req.parts[len(shards)]
		disks, shards = append(disks, disk), append(shards, sh)
	}); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if req.Plain { // under TLS the cipher has vouched for the bytes
		for i := range shards {
			if err := checkBlocks(&shards[i]); err != nil {
				return Answer{}, err
			}
		}
	}
	results := s.h.AppendShards(ctx, req.Epoch, disks, shards)
	if len(results) != len(shards) {
		return Answer{}, fmt.Errorf("transport: %d results for %d shards", len(results), len(shards))
	}
	var head []byte
	for _, err := range results {
		head = s.codec.append(head, err)
	}
	return Answer{Head: head}, nil
}

// checkBlocks keeps bytes that were damaged on the way off the disk.
func checkBlocks(s *cluster.Shard) error {
	for i, want := range s.Sums {
		block := s.Payload[i*cluster.BlockBytes : min((i+1)*cluster.BlockBytes, len(s.Payload))]
		if xxh3.Hash(block) != want {
			return fmt.Errorf("%w: %s block %d", ErrFrame, s.Key, i)
		}
	}
	return nil
}

func (s shardServer) read(ctx context.Context, req *Request) (Answer, error) {
	h, err := parseReadHead(req.Head)
	if err != nil {
		return Answer{}, err
	}
	dst, err := req.Buffer(ctx, h.need())
	if err != nil {
		return Answer{}, err
	}
	r, err := s.h.ReadShard(ctx, h.disk, h.key, h.r, dst)
	if err != nil {
		return Answer{}, err
	}
	if r.Bytes < 0 || r.Bytes > len(dst) || len(r.Sums) != cluster.Blocks(r.Bytes) {
		return Answer{}, fmt.Errorf("transport: %s: read of %d bytes with %d checksums into %d", h.key, r.Bytes, len(r.Sums), len(dst))
	}
	ans := Answer{Head: encodeBlockRead(r)}
	if r.Bytes > 0 {
		ans.Body = [][]byte{dst[:r.Bytes]}
	}
	return ans, nil
}

func (s shardServer) delete(ctx context.Context, req *Request) (Answer, error) {
	if len(req.Head) != 16 {
		return Answer{}, fmt.Errorf("%w: delete head of %d bytes", cluster.ErrInvalid, len(req.Head))
	}
	keys, err := parseKeys(req.Body)
	if err != nil {
		return Answer{}, err
	}
	return Answer{}, s.h.DeleteShards(ctx, cluster.DiskID(req.Head), keys)
}

func (s shardServer) list(ctx context.Context, req *Request) (Answer, error) {
	h, err := parseListHead(req.Head)
	if err != nil {
		return Answer{}, err
	}
	page, err := s.h.ListShards(ctx, h.disk, h.pg, h.after, int(min(h.limit, maxKeysPerCall)))
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Head: []byte{0}}
	if page.Whole {
		a.Head[0] = listWhole
	}
	if len(page.Rows) > 0 {
		a.Body = [][]byte{encodeInfos(page.Rows)}
	}
	return a, nil
}
