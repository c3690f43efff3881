package disk

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// A restart reads what followed the last checkpoint and not the whole disk: after
// a clean close one page of each segment, after a crash the dirt too. With
// BIVALVE_BIG=1 the disk has a million shards.
func TestReopenCost(t *testing.T) {
	n, dirt := 20_000, 500
	if os.Getenv("BIVALVE_BIG") != "" {
		n, dirt = 1_000_000, 5_000
	}
	var reads atomic.Int64
	cfg := testConfig(t, nil)
	cfg.SegmentBytes = int64(n) * 16 // some ten segments
	cfg.FS = vfs.Inject(vfs.Real{}, func(op vfs.Op, name string) (bool, error) {
		if op == vfs.OpRead && strings.HasPrefix(filepath.Base(name), "seg-") {
			reads.Add(1)
		}
		return true, nil
	})
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	began := time.Now()
	addMany(t, d, 0, n)
	t.Logf("%d shards appended in %v", n, time.Since(began))
	mustClose(t, d)

	reopen := func(how string, shards, replayed, most int) {
		t.Helper()
		reads.Store(0)
		began := time.Now()
		d = mustOpen(t, cfg)
		t.Logf("%s: %d shards, open in %v, %d reads of %d segments", how, shards, time.Since(began), reads.Load(), len(d.segments))
		if got := reads.Load(); got > int64(most) {
			t.Errorf("%s: %d reads of segments, at most %d were wanted", how, got, most)
		}
		if d.index.count != replayed {
			t.Errorf("%s: %d records were replayed, want %d", how, d.index.count, replayed)
		}
		if u := d.Usage(); u.Shards != int64(shards) {
			t.Errorf("%s: %d shards, want %d", how, u.Shards, shards)
		}
		for i := 0; i < shards; i += shards / 50 {
			have(t, d, tinyShard(i))
		}
	}
	reopen("clean", n, 0, len(d.segments))
	addMany(t, d, n, n+dirt)
	if err := d.release(); err != nil { // a crash of the process: no checkpoint, no mark
		t.Fatal(err)
	}
	// The dirt is walked for its mark and again for its records; its last batch is
	// verified, and written again.
	windows := dirt*tinyRecord/windowBytes + 1
	reopen("after a crash", n+dirt, dirt, len(d.segments)+4*windows+MaxAppendShards+2)
	mustClose(t, d)
	reopen("clean again", n+dirt, 0, len(d.segments))
	mustClose(t, d)

	began = time.Now()
	removeFile(t, filepath.Join(cfg.Dir, indexName))
	d = mustOpen(t, cfg)
	t.Logf("without the index: open in %v", time.Since(began))
	mustClose(t, d)
}

// tinyRecord is the size of the record of a tinyShard.
const tinyRecord = 160

func tinyShard(i int) cluster.Shard {
	p := noise[i%1000*64:][:64]
	return cluster.Shard{Key: disktest.Key(cluster.PG(i%16), i), Profile: cluster.Profile{K: 4, M: 1}, Payload: p, Sums: disktest.Sums(p)}
}

// addMany appends tiny shards, with the checkpoints that Run would make.
func addMany(t *testing.T, d *Disk, from, to int) {
	t.Helper()
	batch := make([]cluster.Shard, 0, MaxAppendShards)
	for i := from; i < to; i++ {
		if batch = append(batch, tinyShard(i)); len(batch) == cap(batch) || i == to-1 {
			add(t, d, batch...)
			batch = batch[:0]
		}
		if i > from && i%checkpointRows == 0 {
			if err := d.checkpoint(true); err != nil {
				t.Fatal(err)
			}
		}
	}
}
