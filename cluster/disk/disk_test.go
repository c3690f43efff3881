package disk

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig(t testing.TB, fs vfs.FS) Config {
	dir, segmentBytes := "/disk", int64(8<<20) // memory is preallocated too
	if fs == nil {
		dir, segmentBytes = filepath.Join(t.TempDir(), "disk"), 0
	}
	return Config{
		SegmentBytes: segmentBytes,
		Dir:          dir, FS: fs, Cluster: [16]byte{1, 2, 3}, ID: cluster.DiskID{9, 9}, ReserveBytes: -1,
		Now: func() time.Time { return time.Unix(1700000000, 0) }, Logger: slog.New(slog.DiscardHandler),
	}
}

func mustFormat(t testing.TB, cfg Config) {
	t.Helper()
	if _, err := Format(cfg); err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t testing.TB, cfg Config) *Disk {
	t.Helper()
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustClose(t testing.TB, d *Disk) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// fresh is a new disk that is closed with the test.
func fresh(t testing.TB, cfg Config) *Disk {
	t.Helper()
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	t.Cleanup(func() { mustClose(t, d) })
	return d
}

func TestConformance(t *testing.T) {
	for name, config := range map[string]func(t *testing.T) Config{
		"memory direct":   func(t *testing.T) Config { return testConfig(t, vfs.NewMemFS(1<<30, true)) },
		"memory buffered": func(t *testing.T) Config { return testConfig(t, vfs.NewMemFS(1<<30, false)) },
		"small segments": func(t *testing.T) Config {
			cfg := testConfig(t, vfs.NewMemFS(1<<30, true))
			cfg.SegmentBytes = 256 << 10
			return cfg
		},
		"real": func(t *testing.T) Config {
			cfg := testConfig(t, nil)
			cfg.Registry = prometheus.NewRegistry()
			return cfg
		},
	} {
		t.Run(name, func(t *testing.T) {
			disktest.Run(t, func(t *testing.T) disktest.Store { return fresh(t, config(t)) })
		})
	}
}

func have(t testing.TB, d *Disk, want cluster.Shard) {
	t.Helper()
	got, err := disktest.ReadWhole(t.Context(), d, want.Key)
	if err != nil || !bytes.Equal(got, want.Payload) {
		t.Fatalf("%s: %d bytes, %v", want.Key, len(got), err)
	}
}

func add(t testing.TB, d *Disk, shards ...cluster.Shard) {
	t.Helper()
	if err := d.Append(t.Context(), shards); err != nil {
		t.Fatal(err)
	}
}

func TestFormatAndOpen(t *testing.T) {
	cfg := testConfig(t, nil)
	cfg.ID = cluster.DiskID{}
	if _, err := Open(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("open of nothing: %v", err)
	}
	id, err := Format(cfg)
	if err != nil || id.IsZero() {
		t.Fatalf("%v, %v", id, err)
	}
	if _, err := Format(cfg); !errors.Is(err, cluster.ErrInvalid) {
		t.Fatalf("second format: %v", err)
	}
	d := mustOpen(t, cfg)
	if d.ID() != id {
		t.Fatalf("id %s, want %s", d.ID(), id)
	}
	if _, err := Open(cfg); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	mustClose(t, d)
	mustClose(t, d)
	if err := d.Append(t.Context(), []cluster.Shard{disktest.Shard(disktest.Key(1, 1), 9, 1)}); !errors.Is(err, cluster.ErrDiskFailed) {
		t.Fatalf("append after close: %v", err)
	}
	other := cfg
	other.ID = cluster.DiskID{1}
	if _, err := Open(other); !errors.Is(err, cluster.ErrInvalid) {
		t.Fatalf("other disk: %v", err)
	}
	other = cfg
	other.Cluster = [16]byte{7}
	if _, err := Open(other); !errors.Is(err, cluster.ErrInvalid) {
		t.Fatalf("other cluster: %v", err)
	}
	if _, err := Open(Config{SegmentBytes: 5}); !errors.Is(err, cluster.ErrInvalid) {
		t.Fatalf("empty config: %v", err)
	}
	info, err := os.Stat(cfg.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	file, err := os.Stat(filepath.Join(cfg.Dir, identityName))
	if err != nil || file.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", file.Mode(), err)
	}
}

// A restart finds what was there, with and without its index, and after a crash.
func TestReopen(t *testing.T) {
	for name, between := range map[string]func(t *testing.T, dir string){
		"clean":         func(*testing.T, string) {},
		"index missing": func(t *testing.T, dir string) { removeFile(t, filepath.Join(dir, indexName)) },
		"index garbage": func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, indexName), bytes.Repeat([]byte("x"), 9000))
		},
		"index empty": func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, indexName), nil) },
		"index zeroed tail": func(t *testing.T, dir string) {
			b := readAll(t, filepath.Join(dir, indexName))
			clear(b[8192:])
			writeFile(t, filepath.Join(dir, indexName), b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, nil)
			cfg.SegmentBytes = 1 << 20
			mustFormat(t, cfg)
			var kept, dropped []cluster.Shard
			d := mustOpen(t, cfg)
			for i := range 60 {
				sh := disktest.Shard(disktest.Key(cluster.PG(i%4), i), 1+i*2500, uint64(i))
				add(t, d, sh)
				if i%3 == 0 {
					dropped = append(dropped, sh)
					if err := d.Delete(t.Context(), []cluster.ShardKey{sh.Key}); err != nil {
						t.Fatal(err)
					}
				} else {
					kept = append(kept, sh)
				}
				if i == 30 {
					if err := d.checkpoint(true); err != nil {
						t.Fatal(err)
					}
				}
			}
			before := d.Usage()
			mustClose(t, d)
			between(t, cfg.Dir)
			d = mustOpen(t, cfg)
			defer mustClose(t, d)
			for _, sh := range kept {
				have(t, d, sh)
			}
			for _, sh := range dropped {
				if _, err := d.Stat(sh.Key); !errors.Is(err, cluster.ErrNotFound) {
					t.Fatalf("%s is back: %v", sh.Key, err)
				}
			}
			after := d.Usage()
			if before.Shards != after.Shards || before.LiveBytes != after.LiveBytes || before.DeadBytes != after.DeadBytes {
				t.Fatalf("usage was %+v, is %+v", before, after)
			}
			more := disktest.Shard(disktest.Key(50, 1), 90_000, 1)
			add(t, d, more)
			have(t, d, more)
		})
	}
}

func removeFile(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
