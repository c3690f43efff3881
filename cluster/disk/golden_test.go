package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
)

// goldens are disks as builds have left them, kept for ever. Each holds
// sampleShards, of which the second and fourth were deleted.
var goldens = map[string]struct {
	loss string
	make func(t *testing.T, d *Disk, all []cluster.Shard) // on top of that; nil: nothing
}{
	"testdata/v1": {},
	// Openings are counted; shards were compacted, mended and replaced, and deleted
	// after that; a loss is noted.
	"testdata/v1-moved": {"a sample", func(t *testing.T, d *Disk, all []cluster.Shard) {
		var others []cluster.ShardKey
		for i := range 20 {
			s := disktest.Shard(disktest.Key(7, i), 6000, uint64(i))
			add(t, d, s)
			others = append(others, s.Key)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(d.Mend(t.Context(), all[0]))
		again := all[2]
		again.Generation = 3
		add(t, d, again)
		must(d.Delete(t.Context(), others[:15]))
		for range 4 {
			must(d.upkeep(t.Context(), true))
		}
		must(d.Delete(t.Context(), others[15:]))
		must(d.sing())
		must(d.noteLoss([]string{"a sample"}))
	}},
}

// The samples must open for ever: as they are, and from their segments alone.
func TestGolden(t *testing.T) {
	for golden, g := range goldens {
		if _, err := os.Stat(golden); *update && err != nil {
			cfg := testConfig(t, nil)
			cfg.SegmentBytes = minSegmentBytes
			mustFormat(t, cfg)
			d := mustOpen(t, cfg)
			all := sampleShards()
			add(t, d, all...)
			if err := d.Delete(t.Context(), []cluster.ShardKey{all[1].Key, all[3].Key}); err != nil {
				t.Fatal(err)
			}
			if g.make != nil {
				g.make(t, d, all)
			}
			mustClose(t, d)
			if err := os.CopyFS(golden, os.DirFS(cfg.Dir)); err != nil {
				t.Fatal(err)
			}
		}
		for _, withIndex := range []bool{true, false} {
			openGolden(t, golden, g.loss, withIndex)
		}
	}
}

func openGolden(t *testing.T, golden, loss string, withIndex bool) {
	t.Helper()
	cfg := testConfig(t, nil)
	err := fs.WalkDir(os.DirFS(golden), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(name, ".bolt") && !withIndex {
			return err
		}
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return err
		}
		writeFile(t, filepath.Join(cfg.Dir, name), readAll(t, filepath.Join(golden, name)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, cfg)
	defer mustClose(t, d)
	for i, s := range sampleShards() {
		if i == 1 || i == 3 {
			if _, err := d.Stat(s.Key); !errors.Is(err, cluster.ErrNotFound) {
				t.Errorf("%s: shard %d: %v", golden, i, err)
			}
		} else {
			have(t, d, s)
		}
	}
	if n := d.Usage().Shards; n != int64(len(sampleShards())-2) {
		t.Errorf("%s: %d shards", golden, n)
	}
	if l := d.Loss(); (l == nil) != (loss == "") || l != nil && l.Reason != loss {
		t.Errorf("%s: loss %+v", golden, l)
	}
}
