package transport

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/zeebo/xxh3"

	"bivalve/cluster"
)

// relayFunc is a RelayHandler.
type relayFunc func(ctx context.Context, epoch cluster.Epoch, c cluster.Chunk, free func()) []error

func (f relayFunc) Relay(ctx context.Context, epoch cluster.Epoch, c cluster.Chunk, free func()) []error {
	return f(ctx, epoch, c, free)
}

func testChunk(size int) *cluster.Chunk {
	c := &cluster.Chunk{PG: 513, Blob: cluster.NewBlobID(3, 12345, [8]byte{9}), Number: 7, Profile: cluster.Profile{K: 2, M: 1}, Want: 0b101000}
	for range 2 {
		data := randomBytes(size)
		var sums []uint64
		for b := data; len(b) > 0; b = b[min(len(b), cluster.BlockBytes):] {
			sums = append(sums, xxh3.Hash(b[:min(len(b), cluster.BlockBytes)]))
		}
		c.Data, c.Sums = append(c.Data, data), append(c.Sums, sums)
	}
	return c
}

func TestRelayCall(t *testing.T) {
	for _, mode := range []EncryptMode{EncryptAuto, EncryptOn} {
		t.Run(string(mode), func(t *testing.T) {
			want := testChunk(100_000)
			var kept func()
			var got cluster.Chunk
			var epoch cluster.Epoch
			c, srv := pair(t, Config{Encrypt: mode}, func(s *Server) {
				s.HandleRelay(relayFunc(func(_ context.Context, e cluster.Epoch, c cluster.Chunk, free func()) []error {
					got, epoch, kept = c, e, free
					return []error{nil, cluster.ErrDiskFull}
				}))
			})
			errs, err := Shards{Client: c}.Relay(testCtx(t), "b1", 42, want)
			if err != nil || len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], cluster.ErrDiskFull) {
				t.Fatalf("%v, %v", errs, err)
			}
			if epoch != 42 || got.PG != want.PG || got.Blob != want.Blob || got.Number != 7 || got.Profile != want.Profile || got.Want != want.Want {
				t.Fatalf("epoch %d, got %+v", epoch, got)
			}
			for i := range want.Data {
				if !bytes.Equal(got.Data[i], want.Data[i]) {
					t.Fatalf("systematic shard %d differs", i)
				}
			}
			// The memory stays taken after the answer, until it is given back.
			all := srv.cfg.Limits.RelayBytes
			if srv.relayMem.TryAcquire(all) {
				t.Fatal("the chunk's memory was taken back")
			}
			kept()
			if !srv.relayMem.TryAcquire(all) {
				t.Fatal("the chunk's memory is still taken")
			}
		})
	}
}

// What was damaged on the way, or has left the sender damaged, is never encoded.
func TestDamagedChunkIsNotRelayed(t *testing.T) {
	for _, mode := range []EncryptMode{EncryptAuto, EncryptOn} {
		var seen atomic.Int32
		c, _ := pair(t, Config{Encrypt: mode}, func(s *Server) {
			s.HandleRelay(relayFunc(func(_ context.Context, _ cluster.Epoch, _ cluster.Chunk, free func()) []error {
				seen.Add(1)
				free()
				return []error{nil, nil}
			}))
		})
		bad := testChunk(200_000)
		bad.Data[1][150_000] ^= 1
		if _, err := (Shards{Client: c}).Relay(testCtx(t), "b1", 1, bad); !errors.Is(err, ErrFrame) || seen.Load() != 0 {
			t.Fatalf("%s: %v, %d handed on", mode, err, seen.Load())
		}
		if errs, err := (Shards{Client: c}).Relay(testCtx(t), "b1", 1, testChunk(200_000)); err != nil || errs[0] != nil {
			t.Fatalf("%s: a good one afterwards: %v, %v", mode, errs, err)
		}
	}
}

// A relay without room says so in order: the connection goes on, and so does the
// relay when there is room again.
func TestRelayWithoutRoom(t *testing.T) {
	c, srv := pair(t, Config{}, func(s *Server) {
		s.HandleRelay(relayFunc(func(_ context.Context, _ cluster.Epoch, _ cluster.Chunk, free func()) []error {
			free()
			return []error{nil, nil}
		}))
	})
	if !srv.relayMem.TryAcquire(srv.cfg.Limits.RelayBytes - 1000) {
		t.Fatal("no memory to begin with")
	}
	for range 3 {
		if _, err := (Shards{Client: c}).Relay(testCtx(t), "b1", 1, testChunk(300_000)); !errors.Is(err, cluster.ErrOverloaded) || errors.Is(err, cluster.ErrUnreachable) {
			t.Fatalf("got %v", err)
		}
	}
	srv.relayMem.Release(srv.cfg.Limits.RelayBytes - 1000)
	if _, err := (Shards{Client: c}).Relay(testCtx(t), "b1", 1, testChunk(300_000)); err != nil {
		t.Fatal(err)
	}
}

// An older node has no such call, and says so or hangs up.
func TestRelayToOlderNode(t *testing.T) {
	for _, mode := range []EncryptMode{EncryptAuto, EncryptOn} {
		c, _ := pair(t, Config{Encrypt: mode}, func(s *Server) {})
		if _, err := (Shards{Client: c}).Relay(testCtx(t), "b1", 1, testChunk(1000)); !errors.Is(err, ErrNoHandler) {
			t.Fatalf("%s: %v", mode, err)
		}
	}
}

func TestRelayRefusesWhatDoesNotFit(t *testing.T) {
	c, _ := pair(t, Config{}, func(s *Server) {})
	for name, spoil := range map[string]func(*cluster.Chunk){
		"nothing wanted":   func(c *cluster.Chunk) { c.Want = 0 },
		"no such shard":    func(c *cluster.Chunk) { c.Want = 1 << 6 },
		"too few of them":  func(c *cluster.Chunk) { c.Data = c.Data[:1] },
		"unequal":          func(c *cluster.Chunk) { c.Data[1] = c.Data[1][1:] },
		"no sums":          func(c *cluster.Chunk) { c.Sums[0] = nil },
		"too large":        func(c *cluster.Chunk) { c.Data[0] = make([]byte, cluster.MaxShardBytes) },
		"no profile":       func(c *cluster.Chunk) { c.Profile = cluster.Profile{} },
		"profile too wide": func(c *cluster.Chunk) { c.Profile = cluster.Profile{K: 2, M: 60} },
	} {
		bad := testChunk(1000)
		spoil(bad)
		if _, err := (Shards{Client: c}).Relay(testCtx(t), "b1", 1, bad); !errors.Is(err, cluster.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRelayHead(f *testing.F) {
	good, err := encodeRelay(testChunk(70_000))
	must(f, err)
	f.Add(good, 140_000)
	f.Add(good[:relayHeadBytes], 0)
	f.Fuzz(func(t *testing.T, b []byte, bodyLen int) {
		bodyLen = max(0, min(bodyLen, MaxBodyBytes))
		sizes, err := splitRelay(b, bodyLen)
		if err != nil {
			return
		}
		sum := 0
		for _, n := range sizes {
			sum += n
		}
		if sum != bodyLen || bodyLen > maxChunkBytes {
			t.Fatalf("split %d into %v", bodyLen, sizes)
		}
		if w := relayWeight(b, bodyLen); w < int64(bodyLen) || w > 40*maxChunkBytes {
			t.Fatalf("weight %d of %d bytes", w, bodyLen)
		}
		c, size, err := parseRelay(b, bodyLen)
		must(t, err)
		c.Data = make([][]byte, c.Profile.K)
		for i := range c.Data {
			c.Data[i] = make([]byte, size)
		}
		if again, err := encodeRelay(&c); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%+v does not survive: %v", c, err)
		}
	})
}
