package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
)

// indexFlips is how many damaged indexes TestIndexFlips opens; BIVALVE_FLIPS sets
// it, "all" for every byte.
func indexFlips(t *testing.T, size int) int {
	switch s := os.Getenv("BIVALVE_FLIPS"); {
	case everyFlip:
		return size
	case s != "":
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 25
}

// A flipped bit in the index of a closed disk never gives wrong bytes, stops the
// disk or the process: what is read is right, or said to be corrupt until the
// next open; what seems to be missing is noticed by the check of the index; and
// after the next open all is there.
func TestIndexFlips(t *testing.T) {
	cfg := testConfig(t, nil)
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	var all, kept []cluster.Shard
	var gone []cluster.ShardKey
	for i := range 600 {
		s := disktest.Shard(disktest.Key(cluster.PG(i%3), i), 20+i%50, uint64(i))
		if i%4 == 0 {
			gone = append(gone, s.Key)
		} else {
			kept = append(kept, s)
		}
		all = append(all, s)
	}
	bulk(t, d, all[:400])
	if err := d.checkpoint(true); err != nil {
		t.Fatal(err)
	}
	bulk(t, d, all[400:])
	if err := d.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	name := filepath.Join(cfg.Dir, indexName)
	whole := readAll(t, name)
	var used []int // pages that are not empty
	for at := 0; at < len(whole); at += pageBytes {
		if bytes.Count(whole[at:at+pageBytes], []byte{0}) < pageBytes {
			used = append(used, at)
		}
	}
	noticed := 0
	n := indexFlips(t, len(whole))
	for i := range n {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		at := used[rng.IntN(len(used))] + rng.IntN(pageBytes)
		if everyFlip {
			at = i
		}
		bad := bytes.Clone(whole)
		bad[at] ^= 1 << rng.IntN(8)
		writeFile(t, name, bad)

		d := mustOpen(t, cfg)
		missing, corrupt := 0, 0
		for _, s := range kept {
			got, err := disktest.ReadWhole(t.Context(), d, s.Key)
			switch {
			case err == nil && bytes.Equal(got, s.Payload):
			case errors.Is(err, cluster.ErrNotFound):
				missing++
			case errors.Is(err, cluster.ErrCorrupt):
				corrupt++
			default:
				t.Fatalf("byte %d: %s: %d bytes, %v", at, s.Key, len(got), err)
			}
		}
		for _, k := range gone {
			if got, err := disktest.ReadWhole(t.Context(), d, k); err == nil {
				t.Fatalf("byte %d: %s is back: %d bytes", at, k, len(got))
			}
		}
		if err := d.checkIndex(); missing > 0 && err == nil {
			t.Fatalf("byte %d: %d shards are missing, and the index seems whole", at, missing)
		} else if err != nil {
			noticed++
		}
		if err := d.Close(); err != nil && !errors.Is(err, errIndex) {
			t.Fatalf("byte %d: close: %v", at, err)
		}
		if missing+corrupt == 0 && i%10 != 0 {
			continue
		}
		d = mustOpen(t, cfg)
		checkKept(t, d, kept, gone)
		mustClose(t, d)
	}
	t.Logf("%d flips in %d pages; the check of the index noticed %d", n, len(used), noticed)
}

// bulk appends in as few calls as it can.
func bulk(t testing.TB, d *Disk, all []cluster.Shard) {
	t.Helper()
	for from := 0; from < len(all); from += MaxAppendShards {
		add(t, d, all[from:min(len(all), from+MaxAppendShards)]...)
	}
}
