package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/zeebo/xxh3"

	"bivalve/cluster"
)

// memShards is a ShardHandler in memory.
type memShards struct {
	mu    sync.Mutex
	epoch cluster.Epoch
	disks map[cluster.DiskID]map[cluster.ShardKey]cluster.Shard
	whole cluster.DiskID
}

func newMemShards(disks ...cluster.DiskID) *memShards {
	m := &memShards{disks: map[cluster.DiskID]map[cluster.ShardKey]cluster.Shard{}}
	for _, d := range disks {
		m.disks[d] = map[cluster.ShardKey]cluster.Shard{}
	}
	return m
}

func (m *memShards) AppendShards(_ context.Context, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch = epoch
	errs := make([]error, len(shards))
	for i, s := range shards {
		d, ok := m.disks[disks[i]]
		if !ok {
			errs[i] = fmt.Errorf("disk %s: %w", disks[i], cluster.ErrDiskUnknown)
			continue
		}
		s.Payload = bytes.Clone(s.Payload) // lent
		d[s.Key] = s
	}
	return errs
}

func (m *memShards) ReadShard(_ context.Context, disk cluster.DiskID, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.disks[disk][key]
	if !ok {
		return cluster.BlockRead{}, cluster.ErrNotFound
	}
	from := int(r.First) * cluster.BlockBytes
	to := len(s.Payload)
	if r.Count > 0 {
		to = min(to, from+int(r.Count)*cluster.BlockBytes)
	}
	if from > to || to-from > len(dst) {
		return cluster.BlockRead{}, cluster.ErrInvalid
	}
	n := copy(dst, s.Payload[from:to])
	return cluster.BlockRead{ShardBytes: len(s.Payload), Bytes: n, Sums: s.Sums[r.First:][:cluster.Blocks(n)]}, nil
}

func (m *memShards) DeleteShards(_ context.Context, disk cluster.DiskID, keys []cluster.ShardKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.disks[disk], k)
	}
	return nil
}

func (m *memShards) ListShards(_ context.Context, disk cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) (cluster.ShardPage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := cluster.ShardPage{Whole: disk == m.whole}
	for k, s := range m.disks[disk] {
		if k.PG == pg && (after == nil || k.Chunk > after.Chunk) && len(out.Rows) < limit {
			out.Rows = append(out.Rows, cluster.ShardInfo{Key: k, Profile: s.Profile, Generation: s.Generation, Bytes: len(s.Payload)})
		}
	}
	return out, nil
}

func testShard(chunk uint32, payload []byte) cluster.Shard {
	s := cluster.Shard{
		Key:     cluster.ShardKey{PG: 513, Blob: cluster.NewBlobID(3, 12345, [8]byte{9}), Chunk: chunk, Index: 7},
		Profile: cluster.Profile{K: 4, M: 1}, Generation: 2, Payload: payload,
	}
	for b := payload; len(b) > 0; b = b[min(len(b), cluster.BlockBytes):] {
		s.Sums = append(s.Sums, xxh3.Hash(b[:min(len(b), cluster.BlockBytes)]))
	}
	return s
}

func TestShardCalls(t *testing.T) {
	for _, mode := range []EncryptMode{EncryptAuto, EncryptOn} {
		t.Run(string(mode), func(t *testing.T) {
			d1, d2, d3 := cluster.DiskID{1}, cluster.DiskID{2}, cluster.DiskID{3}
			mem := newMemShards(d1, d2)
			c, _ := pair(t, Config{Encrypt: mode}, func(s *Server) { s.HandleShards(mem) })
			sh := Shards{Client: c}
			ctx := testCtx(t)

			data := randomBytes(cluster.MaxShardBytes)
			shards := []cluster.Shard{testShard(0, data), testShard(1, data[:70000]), testShard(2, data[:1])}
			errs := sh.AppendShards(ctx, "b1", 42, []cluster.DiskID{d1, d2, d3}, shards)
			if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], cluster.ErrDiskUnknown) || mem.epoch != 42 {
				t.Fatalf("append: %v", errs)
			}
			if got := mem.disks[d2][shards[1].Key]; got.Generation != 2 || got.Profile != shards[1].Profile || !bytes.Equal(got.Payload, shards[1].Payload) {
				t.Fatalf("stored %+v", got)
			}

			dst := make([]byte, 200000)
			r, err := sh.ReadShard(ctx, "b1", d1, shards[0].Key, cluster.BlockRange{First: 62, Count: 2}, dst[:131072])
			must(t, err)
			if r.ShardBytes != len(data) || r.Bytes != 131072 || len(r.Sums) != 2 || r.Sums[1] != shards[0].Sums[63] || !bytes.Equal(dst[:131072], data[62*65536:]) {
				t.Fatalf("read %+v", r)
			}
			if dst[131072] != 0 {
				t.Fatal("wrote past the buffer it was given")
			}
			r, err = sh.ReadShard(ctx, "b1", d2, shards[1].Key, cluster.BlockRange{First: 1}, dst)
			must(t, err)
			if r.Bytes != 70000-65536 || len(r.Sums) != 1 {
				t.Fatalf("read of the tail %+v", r)
			}
			if _, err := sh.ReadShard(ctx, "b1", d2, shards[0].Key, cluster.BlockRange{}, dst); !errors.Is(err, cluster.ErrNotFound) {
				t.Fatalf("missing shard: %v", err)
			}

			page, err := sh.ListShards(ctx, "b1", d1, 513, nil, 10)
			must(t, err)
			if infos := page.Rows; len(infos) != 1 || page.Whole || infos[0].Key != shards[0].Key || infos[0].Bytes != len(data) || infos[0].Generation != 2 {
				t.Fatalf("list: %+v", page)
			}
			mem.whole = d1
			page, err = sh.ListShards(ctx, "b1", d1, 513, &shards[0].Key, 10)
			must(t, err)
			if len(page.Rows) != 0 || !page.Whole {
				t.Fatalf("list after the last: %+v", page)
			}
			must(t, sh.DeleteShards(ctx, "b1", d1, []cluster.ShardKey{shards[0].Key, shards[2].Key}))
			if len(mem.disks[d1]) != 0 {
				t.Fatal("not deleted")
			}
		})
	}
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	c, _ := pair(t, Config{}, func(s *Server) { s.HandleShards(newMemShards()) })
	good := testShard(0, []byte("x"))
	long := testShard(0, make([]byte, cluster.MaxShardBytes+1))
	noSums := good
	noSums.Sums = nil
	for _, s := range []cluster.Shard{long, noSums, {}} {
		if errs := (Shards{Client: c}).AppendShards(testCtx(t), "b1", 1, []cluster.DiskID{{1}}, []cluster.Shard{s}); !errors.Is(errs[0], cluster.ErrInvalid) {
			t.Errorf("%s: %v", s.Key, errs[0])
		}
	}
	if errs := (Shards{Client: c}).AppendShards(testCtx(t), "b1", 1, nil, []cluster.Shard{good}); !errors.Is(errs[0], cluster.ErrInvalid) {
		t.Errorf("no disk: %v", errs[0])
	}
}

// Wrong sums in the clear look like bytes damaged on the way: never stored.
func TestDamagedShardIsNotStored(t *testing.T) {
	mem := newMemShards(cluster.DiskID{1})
	c, _ := pair(t, Config{}, func(s *Server) { s.HandleShards(mem) })
	bad := testShard(0, randomBytes(100000))
	bad.Sums[1]++
	errs := (Shards{Client: c}).AppendShards(testCtx(t), "b1", 1, []cluster.DiskID{{1}}, []cluster.Shard{bad})
	if !errors.Is(errs[0], ErrFrame) || len(mem.disks[cluster.DiskID{1}]) != 0 {
		t.Fatalf("got %v", errs[0])
	}
}

func FuzzShardHead(f *testing.F) {
	good, err := encodeAppend([]cluster.DiskID{{1}}, []cluster.Shard{testShard(0, []byte("abc"))})
	must(f, err)
	f.Add(good, 3)
	f.Add(readHead{}.encode(), 0)
	f.Add(listHead{}.encode(), 0)
	f.Add(encodeBlockRead(cluster.BlockRead{Bytes: 1, Sums: []uint64{5}}), 1)
	codec, err := newErrorCodec(nil)
	must(f, err)
	f.Add(codec.append(nil, cluster.ErrCorrupt), 0)
	f.Fuzz(func(t *testing.T, b []byte, bodyLen int) {
		bodyLen = max(0, min(bodyLen, MaxBodyBytes))
		if sizes, err := splitAppend(b, bodyLen); err == nil {
			sum := 0
			for _, n := range sizes {
				sum += n
			}
			if sum != bodyLen || len(sizes) > maxShardsPerCall {
				t.Fatalf("split %d into %v", bodyLen, sizes)
			}
		}
		if h, err := parseReadHead(b); err == nil && (h.need() < 0 || h.need() > cluster.MaxShardBytes || !bytes.Equal(h.encode(), b)) {
			t.Fatalf("read head %+v", h)
		}
		if r, err := parseBlockRead(b, bodyLen); err == nil && (r.Bytes != bodyLen || !bytes.Equal(encodeBlockRead(r), b)) {
			t.Fatalf("block read %+v", r)
		}
		if h, err := parseListHead(b); err == nil && h.after != nil && !bytes.Equal(h.encode(), b) {
			t.Fatalf("list head %+v", h)
		}
		if infos, err := parseInfos(b); err == nil && !bytes.Equal(encodeInfos(infos), b) {
			t.Fatal("infos do not survive")
		}
		if keys, err := parseKeys(b); err == nil && !bytes.Equal(encodeKeys(keys), b) {
			t.Fatal("keys do not survive")
		}
		if _, rest, err := codec.read(b, "x"); err == nil && len(rest) >= len(b) && len(b) > 0 {
			t.Fatal("error record of no length")
		}
	})
}
