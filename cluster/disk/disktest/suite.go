// Package disktest is the conformance suite of a shard store: one suite for a
// disk in memory, on a real file system, and behind the transport.
package disktest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"bivalve/cluster"

	"github.com/zeebo/xxh3"
)

// Store is what the suite is run against. disk.Disk is one.
type Store interface {
	Append(ctx context.Context, shards []cluster.Shard) error
	Read(ctx context.Context, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error)
	Delete(ctx context.Context, keys []cluster.ShardKey) error
	List(ctx context.Context, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error)
}

// Key is a shard key that differs for every n.
func Key(pg cluster.PG, n int) cluster.ShardKey {
	k := cluster.ShardKey{PG: pg, Chunk: uint32(n % 3), Index: cluster.ShardIndex(n % 10)}
	k.Blob = cluster.NewBlobID(uint16(n), int64(n)*977, [8]byte{byte(n), byte(n >> 8), 7})
	return k
}

// Shard makes a shard of n random bytes; the seed decides which.
func Shard(key cluster.ShardKey, n int, seed uint64) cluster.Shard {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(n), byte(n >> 8)})
	_, _ = r.Read(p) // never fails, by its contract
	return cluster.Shard{Key: key, Profile: cluster.Profile{K: 4, M: 1}, Payload: p, Sums: Sums(p)}
}

// Sums are the block sums of p.
func Sums(p []byte) []uint64 {
	var sums []uint64
	for i := 0; i < len(p); i += cluster.BlockBytes {
		sums = append(sums, xxh3.Hash(p[i:min(len(p), i+cluster.BlockBytes)]))
	}
	return sums
}

// ReadWhole reads and verifies a whole shard.
func ReadWhole(ctx context.Context, s Store, key cluster.ShardKey) ([]byte, error) {
	dst := make([]byte, 160<<10) // most test shards fit
	r, err := s.Read(ctx, key, cluster.BlockRange{}, dst)
	if errors.Is(err, cluster.ErrInvalid) {
		dst = make([]byte, cluster.MaxShardBytes)
		r, err = s.Read(ctx, key, cluster.BlockRange{}, dst)
	}
	if err != nil {
		return nil, err
	}
	p := dst[:r.Bytes]
	sums := Sums(p)
	if r.Bytes != r.ShardBytes || len(sums) != len(r.Sums) {
		return nil, errors.New("read of all blocks is not the whole shard")
	}
	for i := range sums {
		if sums[i] != r.Sums[i] {
			return nil, cluster.ErrCorrupt
		}
	}
	return p, nil
}

func mustAppend(t *testing.T, s Store, shards ...cluster.Shard) {
	t.Helper()
	if err := s.Append(t.Context(), shards); err != nil {
		t.Fatal(err)
	}
}

func mustHave(t *testing.T, s Store, want cluster.Shard) {
	t.Helper()
	got, err := ReadWhole(t.Context(), s, want.Key)
	if err != nil {
		t.Fatalf("%s: %v", want.Key, err)
	}
	if !bytes.Equal(got, want.Payload) {
		t.Fatalf("%s: %d bytes differ", want.Key, len(got))
	}
}

func mustFail(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// Sizes are payloads on and beside every boundary of the format.
var Sizes = []int{1, 7, 8, 100, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 200_000, 1 << 20, 1<<20 + 1, 4 << 20}

// Run checks that the stores that open makes keep the contract of disk.Disk.
func Run(t *testing.T, open func(t *testing.T) Store) {
	t.Run("sizes", func(t *testing.T) { sizes(t, open(t)) })
	t.Run("ranges", func(t *testing.T) { ranges(t, open(t)) })
	t.Run("errors", func(t *testing.T) { misuse(t, open(t)) })
	t.Run("generations", func(t *testing.T) { generations(t, open(t)) })
	t.Run("delete", func(t *testing.T) { deletes(t, open(t)) })
	t.Run("list", func(t *testing.T) { lists(t, open(t)) })
	t.Run("concurrent", func(t *testing.T) { concurrent(t, open(t)) })
}

func sizes(t *testing.T, s Store) {
	var all []cluster.Shard
	for i, n := range Sizes {
		all = append(all, Shard(Key(1, i), n, uint64(i)))
	}
	mustAppend(t, s, all...)
	mustAppend(t, s) // nothing
	for _, sh := range all {
		mustHave(t, s, sh)
	}
	// From memory that lies on no boundary.
	odd := Shard(Key(2, 0), 300_001, 9)
	odd.Payload = append(make([]byte, 1, len(odd.Payload)+1), odd.Payload...)[1:]
	mustAppend(t, s, odd)
	mustHave(t, s, odd)
}

func ranges(t *testing.T, s Store) {
	const b = cluster.BlockBytes
	for i, n := range []int{1, b - 1, b, b + 1, 5*b + 17} {
		sh := Shard(Key(1, i), n, uint64(i))
		mustAppend(t, s, sh)
		blocks := cluster.Blocks(n)
		for first := range blocks {
			for count := range blocks + 2 {
				last := blocks
				if count > 0 {
					last = min(blocks, first+count)
				}
				want := sh.Payload[first*b : min(n, last*b)]
				dst := make([]byte, len(want))
				r, err := s.Read(t.Context(), sh.Key, cluster.BlockRange{First: uint32(first), Count: uint32(count)}, dst)
				if err != nil || r.Bytes != len(want) || r.ShardBytes != n || len(r.Sums) != last-first || !bytes.Equal(dst, want) {
					t.Fatalf("%d bytes, blocks %d+%d: %+v, %v", n, first, count, r, err)
				}
				for i, sum := range r.Sums {
					if sum != sh.Sums[first+i] {
						t.Fatalf("%d bytes, blocks %d+%d: sum %d", n, first, count, i)
					}
				}
				_, err = s.Read(t.Context(), sh.Key, cluster.BlockRange{First: uint32(first), Count: uint32(count)}, dst[1:])
				mustFail(t, err, cluster.ErrInvalid)
			}
		}
		_, err := s.Read(t.Context(), sh.Key, cluster.BlockRange{First: uint32(blocks), Count: 1}, make([]byte, b))
		mustFail(t, err, cluster.ErrInvalid)
	}
}

func misuse(t *testing.T, s Store) {
	ctx := t.Context()
	good := Shard(Key(1, 1), 100_000, 1)
	_, err := s.Read(ctx, good.Key, cluster.BlockRange{}, make([]byte, 100_000))
	mustFail(t, err, cluster.ErrNotFound)
	for name, change := range map[string]func(*cluster.Shard){
		"empty": func(sh *cluster.Shard) { sh.Payload, sh.Sums = nil, nil },
		"too large": func(sh *cluster.Shard) {
			sh.Payload = make([]byte, cluster.MaxShardBytes+1)
			sh.Sums = Sums(sh.Payload)
		},
		"no sums":   func(sh *cluster.Shard) { sh.Sums = nil },
		"sum more":  func(sh *cluster.Shard) { sh.Sums = append(sh.Sums[:2:2], 0) },
		"wrong sum": func(sh *cluster.Shard) { sh.Sums = []uint64{sh.Sums[0], sh.Sums[1] ^ 1} },
	} {
		bad := good
		change(&bad)
		if err := s.Append(ctx, []cluster.Shard{Shard(Key(1, 2), 10, 1), bad}); !errors.Is(err, cluster.ErrInvalid) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	mustFail(t, s.Append(ctx, []cluster.Shard{good, good}), cluster.ErrInvalid)
	if list, err := s.List(ctx, 1, nil, 10); err != nil || len(list) != 0 {
		t.Fatalf("after refused appends: %v, %v", list, err)
	}
	_, err = s.List(ctx, 1, nil, 0)
	mustFail(t, err, cluster.ErrInvalid)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	mustFail(t, s.Append(gone, []cluster.Shard{good}), context.Canceled)
	_, err = s.Read(ctx, good.Key, cluster.BlockRange{}, make([]byte, 100_000))
	mustFail(t, err, cluster.ErrNotFound)
}

func generations(t *testing.T, s Store) {
	for i, n := range []int{500, 150_000} {
		key := Key(3, i)
		first := Shard(key, n, 1)
		mustAppend(t, s, first)
		mustAppend(t, s, first)
		other := Shard(key, n, 2)
		mustFail(t, s.Append(t.Context(), []cluster.Shard{other}), cluster.ErrInvalid)
		mustHave(t, s, first)
		other.Generation = 2
		mustAppend(t, s, other)
		mustHave(t, s, other)
		mustFail(t, s.Append(t.Context(), []cluster.Shard{first}), cluster.ErrInvalid)
		older := other
		older.Generation = 1
		mustAppend(t, s, older) // the same bytes, so there is nothing to do
		healed := other
		healed.Generation = 3 // the same bytes again, over what may be damaged
		mustAppend(t, s, healed)
		mustHave(t, s, healed)
		list, err := s.List(t.Context(), 3, nil, 10)
		if err != nil || len(list) != i+1 || list[i].Generation != 3 || list[i].Bytes != n || list[i].Profile != first.Profile {
			t.Fatalf("%+v, %v", list, err)
		}
	}
}

func deletes(t *testing.T, s Store) {
	small, large := Shard(Key(1, 1), 1000, 1), Shard(Key(1, 2), 100_000, 2)
	stay := Shard(Key(1, 3), 1000, 3)
	mustAppend(t, s, small, large, stay)
	keys := []cluster.ShardKey{small.Key, large.Key, small.Key, Key(9, 9)}
	for range 2 {
		if err := s.Delete(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			_, err := ReadWhole(t.Context(), s, k)
			mustFail(t, err, cluster.ErrNotFound)
		}
	}
	mustHave(t, s, stay)
	if list, err := s.List(t.Context(), 1, nil, 10); err != nil || len(list) != 1 || list[0].Key != stay.Key {
		t.Fatalf("%v, %v", list, err)
	}
	again := Shard(large.Key, 70_000, 5) // other bytes: the key is free
	mustAppend(t, s, again)
	mustHave(t, s, again)
}

func lists(t *testing.T, s Store) {
	want := map[cluster.ShardKey]bool{}
	for i := range 100 {
		sh := Shard(Key(cluster.PG(i%3), i), 10+i, uint64(i))
		mustAppend(t, s, sh)
		if sh.Key.PG == 1 {
			want[sh.Key] = true
		}
	}
	if err := s.Delete(t.Context(), []cluster.ShardKey{Key(1, 4), Key(1, 40)}); err != nil {
		t.Fatal(err)
	}
	delete(want, Key(1, 4))
	delete(want, Key(1, 40))
	for _, limit := range []int{1, 7, 31, 1000} {
		seen := map[cluster.ShardKey]bool{}
		var after *cluster.ShardKey
		for {
			page, err := s.List(t.Context(), 1, after, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("%d rows, %v", len(page), err)
			}
			for _, row := range page {
				if seen[row.Key] || !want[row.Key] || after != nil && bytes.Compare(row.Key.Blob[:], after.Blob[:]) <= 0 {
					t.Fatalf("limit %d: %s is out of order or wrong", limit, row.Key)
				}
				seen[row.Key] = true
				after = &row.Key
			}
			if len(page) < limit {
				break
			}
		}
		if len(seen) != len(want) {
			t.Fatalf("limit %d: %d of %d rows", limit, len(seen), len(want))
		}
	}
}

func concurrent(t *testing.T, s Store) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 30 {
				sh := Shard(Key(cluster.PG(w), i), 1+r.IntN(100_000), uint64(w*100+i))
				if err := s.Append(ctx, []cluster.Shard{sh}); err != nil {
					t.Error(err)
					return
				}
				got, err := ReadWhole(ctx, s, sh.Key)
				if err != nil || !bytes.Equal(got, sh.Payload) {
					t.Errorf("%s: %v", sh.Key, err)
				}
				// A key that all fight for: it has one of their values, whole, or none.
				shared := Shard(Key(1000, i), 20_000+70_000*(i%2), uint64(i))
				shared.Generation = uint32(w)
				err = s.Append(ctx, []cluster.Shard{shared})
				if err == nil && w%3 == 0 {
					err = s.Delete(ctx, []cluster.ShardKey{shared.Key})
				}
				if err != nil {
					t.Error(err)
				}
				if got, err := ReadWhole(ctx, s, shared.Key); err == nil && !bytes.Equal(got, shared.Payload) ||
					err != nil && !errors.Is(err, cluster.ErrNotFound) {
					t.Errorf("%s: %v", shared.Key, err)
				}
			}
		})
	}
	wg.Wait()
}
