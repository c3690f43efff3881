package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// A reader that looked a record up just before its segment was dropped, and opens the file
// just before it goes, keeps neither the file nor its space.
func TestLateReaderOfADroppedSegment(t *testing.T) {
	var d *Disk
	late := 0
	cfg := testConfig(t, vfs.Inject(vfs.NewMemFS(1<<30, true), func(op vfs.Op, path string) (bool, error) {
		if number, kind, ok := parseSegmentName(filepath.Base(path)); ok && op == vfs.OpRemove && d != nil {
			if f, err := d.handles.get(d.newSegment(number, kind)); err == nil {
				d.handles.put(f)
				late++
			}
		}
		return true, nil
	}))
	cfg.SegmentBytes = 5000 * 32
	mustFormat(t, cfg)
	d = mustOpen(t, cfg)
	defer mustClose(t, d)
	fill(t, d, 300, 5000)
	for range 5 {
		if err := d.upkeep(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	if late == 0 {
		t.Fatal("no segment was dropped under a reader: the test shows nothing")
	}
	for number := range d.handles.open {
		if d.segments[number] == nil {
			t.Errorf("segment %d is gone and still open", number)
		}
	}
}

// fill writes n shards and deletes all but every tenth.
func fill(t *testing.T, d *Disk, n, size int) (kept []cluster.Shard, gone []cluster.ShardKey) {
	t.Helper()
	for i := range n {
		s := disktest.Shard(disktest.Key(1, i), size, uint64(i))
		add(t, d, s)
		if i%10 == 0 {
			kept = append(kept, s)
		} else {
			gone = append(gone, s.Key)
		}
	}
	if err := d.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	return kept, gone
}

func checkKept(t *testing.T, d *Disk, kept []cluster.Shard, gone []cluster.ShardKey) {
	t.Helper()
	for _, s := range kept {
		have(t, d, s)
	}
	for _, k := range gone {
		if _, err := d.Stat(k); !errors.Is(err, cluster.ErrNotFound) {
			t.Fatalf("%s is back: %v", k, err)
		}
	}
}

func TestCompaction(t *testing.T) {
	for name, cfg := range map[string]Config{"memory": testConfig(t, vfs.NewMemFS(1<<30, true)), "real": testConfig(t, nil)} {
		for _, size := range []int{5000, 70_000} {
			cfg.SegmentBytes = int64(size) * 32
			cfg.Dir += "x"
			mustFormat(t, cfg)
			d := mustOpen(t, cfg)
			kept, gone := fill(t, d, 300, size)
			if size >= LargeBytes { // else holes do it without any copy
				d.punches = nil
			}
			files := func() int {
				d.mu.RLock()
				defer d.mu.RUnlock()
				return len(d.segments)
			}
			before := files()
			for range 20 {
				if err := d.upkeep(t.Context(), true); err != nil {
					t.Fatal(err)
				}
			}
			if after := files(); after*2 > before {
				t.Errorf("%s, %d bytes: %d files, were %d", name, size, after, before)
			}
			checkKept(t, d, kept, gone)
			usage := d.Usage()
			mustClose(t, d)
			if cfg.FS == nil {
				removeFile(t, filepath.Join(cfg.Dir, indexName))
			}
			d = mustOpen(t, cfg)
			checkKept(t, d, kept, gone)
			if again := d.Usage(); again.Shards != usage.Shards || again.LiveBytes != usage.LiveBytes {
				t.Errorf("usage %+v, was %+v", again, usage)
			}
			mustClose(t, d)
		}
	}
}

// A segment that comes back after its unlink is known dead.
func TestReappearedSegment(t *testing.T) {
	cfg := testConfig(t, nil)
	cfg.SegmentBytes = 256 << 10
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	kept, gone := fill(t, d, 200, 5000)
	saved := map[string][]byte{}
	names, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), "seg-") {
			saved[n.Name()] = readAll(t, filepath.Join(cfg.Dir, n.Name()))
		}
	}
	if err := d.upkeep(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	back := 0
	for name, b := range saved {
		if _, err := os.Stat(filepath.Join(cfg.Dir, name)); errors.Is(err, os.ErrNotExist) {
			writeFile(t, filepath.Join(cfg.Dir, name), b)
			back++
		}
	}
	if back == 0 {
		t.Fatal("nothing was compacted")
	}
	removeFile(t, filepath.Join(cfg.Dir, indexName))
	d = mustOpen(t, cfg)
	defer mustClose(t, d)
	checkKept(t, d, kept, gone)
}

// An older manifest than the disk must not make its segments vanish.
func TestManifestOfAnEarlierTime(t *testing.T) {
	cfg := testConfig(t, nil)
	mustFormat(t, cfg)
	old := readAll(t, filepath.Join(cfg.Dir, manifestName))
	d := mustOpen(t, cfg)
	add(t, d, disktest.Shard(disktest.Key(1, 1), 100, 1))
	mustClose(t, d)
	writeFile(t, filepath.Join(cfg.Dir, manifestName), old)
	if _, err := Open(cfg); !errors.Is(err, cluster.ErrCorrupt) {
		t.Fatal(err)
	}
}

// What cannot be read is not compacted away.
func TestCompactionKeepsDamage(t *testing.T) {
	mem := vfs.NewMemFS(1<<30, true)
	cfg := testConfig(t, mem)
	cfg.SegmentBytes = 256 << 10
	d := fresh(t, cfg)
	kept, _ := fill(t, d, 100, 5000)
	p, _, err := d.lookup(kept[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, mem, d.segments[p.segment].path, p.offset+2000)
	for range 5 {
		if err := d.upkeep(t.Context(), true); err != nil && !errors.Is(err, cluster.ErrCorrupt) {
			t.Fatal(err)
		}
	}
	if d.segments[p.segment] == nil {
		t.Fatal("the segment is gone")
	}
	if _, err := disktest.ReadWhole(t.Context(), d, kept[0].Key); !errors.Is(err, cluster.ErrCorrupt) {
		t.Fatal(err)
	}
	healed := kept[0]
	healed.Generation = 1
	add(t, d, healed)
	have(t, d, healed)
	for _, s := range kept[1:] {
		have(t, d, s)
	}
}

func flip(t *testing.T, fs vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fs.OpenWrite(name, false)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadVec([][]byte{b[:]}, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteVec([][]byte{b[:]}, at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestPunch(t *testing.T) {
	cfg := testConfig(t, nil)
	d := fresh(t, cfg)
	s := disktest.Shard(disktest.Key(1, 1), 1<<20, 1)
	stay := disktest.Shard(disktest.Key(1, 2), 1<<20, 2)
	add(t, d, s, stay)
	blocks := func() int64 {
		var st syscall.Stat_t
		if err := syscall.Stat(d.segments[1].path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	before := blocks()
	if err := d.Delete(t.Context(), []cluster.ShardKey{s.Key}); err != nil {
		t.Fatal(err)
	}
	if err := d.upkeep(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if after := blocks(); before-after < 1<<20 {
		t.Errorf("%d bytes on disk, were %d", after, before)
	}
	have(t, d, stay)
	// Run itself ends with its context.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Run(ctx); err != nil {
		t.Fatal(err)
	}
}
