//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server/servertest"
)

// shardRecord is where a shard lies in a segment file, as cluster/disk/FORMAT.md has
// it: read from the bytes, not asked from the disk.
type shardRecord struct {
	path    string
	key     [23]byte // placement group, shard index, chunk, blob
	seq     uint64
	payload int64 // offset
	bytes   int64
}

func (r shardRecord) blocks() int {
	return int((r.bytes + cluster.BlockBytes - 1) / cluster.BlockBytes)
}

// records are the shards in a disk's segments, of each key the one that counts.
func records(t *testing.T, dir string) (out []shardRecord) {
	t.Helper()
	latest := map[[23]byte]shardRecord{}
	for suffix, align := range map[string]int{"small": 8, "large": 4096} {
		names, err := filepath.Glob(filepath.Join(dir, "seg-*."+suffix))
		fatal(t, err)
		for _, name := range names {
			raw, err := os.ReadFile(name)
			fatal(t, err)
			for off := 4096; off+88 <= len(raw); off += align {
				h := raw[off:]
				if string(h[:4]) != "BVR1" || h[5] != 1 || binary.LittleEndian.Uint64(h[72:]) != uint64(off) {
					continue
				}
				r := shardRecord{path: name, seq: binary.LittleEndian.Uint64(h[48:]), bytes: int64(binary.LittleEndian.Uint32(h[40:]))}
				copy(r.key[:], h[8:11])
				copy(r.key[3:], h[12:32])
				r.payload = int64(off) + max(int64(binary.LittleEndian.Uint16(h[6:])), int64(align)) // 8 is less than any header
				if r.seq >= latest[r.key].seq {
					latest[r.key] = r
				}
			}
		}
	}
	for _, r := range latest {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b shardRecord) int { return bytes.Compare(a.key[:], b.key[:]) })
	return out
}

// TestEveryBlock flips a bit in each block of each shard of a small region, one at a
// time: the object is read right through the damaged node's zone, and the damage is
// found and mended before the next.
func TestEveryBlock(t *testing.T) {
	if testing.Short() {
		t.Skip("a scrub for each block")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	r := servertest.Start(t, servertest.Options{Logger: slog.New(slog.DiscardHandler)}) // k = 2, m = 1
	_, err := r.Node("a1").Stores().Buckets.CreateBucket(t.Context(), "every")
	fatal(t, err)
	objects := map[string][]byte{}
	for _, n := range []int{20_000, 100_000, 300_000} { // of one block in small segments, of three in large ones
		key := fmt.Sprint(n)
		objects[key] = content(n, key)
		_, err := r.Node("a1").Stores().Objects.PutObject(t.Context(), s3api.PutRequest{
			Bucket: "every", Key: key, Bytes: int64(n), Body: s3test.NewBody(objects[key])})
		fatal(t, err)
	}
	blocks := 0
	for _, n := range status(t, r, "w").Nodes {
		if n.Local == nil || len(n.Local.Disks) == 0 {
			continue
		}
		dir := n.Local.Disks[0].Path
		first := records(t, dir)
		if len(first) != len(objects) {
			t.Fatalf("node %s holds %d shards of %d objects", n.ID, len(first), len(objects))
		}
		for i, rec := range first {
			for block := range rec.blocks() {
				blocks++
				what := fmt.Sprintf("node %s, shard %d, block %d", n.ID, i, block)
				now := records(t, dir)[i] // a mended shard lies elsewhere
				lo := int64(block) * cluster.BlockBytes
				hi := min(lo+cluster.BlockBytes, now.bytes)
				flipOneBit(t, now.path, 8*(now.payload+lo)+random.Int64N(8*(hi-lo)))
				for key, want := range objects {
					got, err := read(t.Context(), r.Node(n.ID).Stores(), "every", key)
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%s: %d bytes of %s, %v", what, len(got), key, err)
					}
				}
				_, _ = scrub(t, r, "w") // what a reader came upon is mended before it
				r.Until(what+" is mended", func(context.Context) error {
					if now, found, mended := damage(t, r); now != 0 || found != int64(blocks) || mended != int64(blocks) {
						return fmt.Errorf("%d damaged, %d found, %d mended after %d flips", now, found, mended, blocks)
					}
					return nil
				})
			}
		}
	}
	if want := 6 * (1 + 1 + 3); blocks != want {
		t.Errorf("%d blocks were tried, want %d", blocks, want)
	}
	for _, id := range []cluster.NodeID{"a1", "b1"} {
		for key, want := range objects {
			if got, err := read(t.Context(), r.Node(id).Stores(), "every", key); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s through %s in the end: %d bytes, %v", key, id, len(got), err)
			}
		}
	}
	t.Logf("%d of %d flips found, read around and mended", blocks, blocks)
}

// flipOneBit changes one bit of a file that a disk has open.
func flipOneBit(t *testing.T, path string, bit int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	fatal(t, err)
	b := []byte{0}
	_, err = f.ReadAt(b, bit/8)
	fatal(t, err)
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b, bit/8)
	fatal(t, err)
	fatal(t, f.Sync())
	fatal(t, f.Close())
}
