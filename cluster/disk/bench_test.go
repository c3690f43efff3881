package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"

	"golang.org/x/sys/unix"
)

// Appends beside the plain way: one file per shard, written, synced, renamed,
// its directory synced. Set BIVALVE_BENCH_DIR to choose the file system.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, writers := range []int{1, 16, 64} {
			name := fmt.Sprintf("%dK/%dw/", size>>10, writers)
			b.Run(name+"ours", func(b *testing.B) {
				cfg := testConfig(b, nil)
				cfg.Dir = filepath.Join(benchDir(b), "disk")
				d := fresh(b, cfg)
				shard := benchShard(size)
				runWriters(b, size, writers, func(n int64) error {
					s := shard
					s.Key.Blob[15], s.Key.Blob[14], s.Key.Blob[13], s.Key.Blob[12] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
					return d.Append(b.Context(), []cluster.Shard{s})
				})
			})
			b.Run(name+"file-per-shard", func(b *testing.B) {
				dir := benchDir(b)
				shard := benchShard(size)
				runWriters(b, size, writers, func(n int64) error {
					return writeOneFile(dir, fmt.Sprintf("%08d", n), shard.Payload)
				})
			})
		}
	}
}

// Large shards past the page cache, as they go, and through it, as on a file system
// that refuses O_DIRECT.
func BenchmarkDirect(b *testing.B) {
	for _, size := range []int{LargeBytes, 1 << 20} {
		for _, writers := range []int{1, 16} {
			for _, direct := range []bool{true, false} {
				way := map[bool]string{true: "direct", false: "page-cache"}[direct]
				b.Run(fmt.Sprintf("%dK/%dw/%s", size>>10, writers, way), func(b *testing.B) {
					cfg := testConfig(b, nil)
					cfg.Dir = filepath.Join(benchDir(b), "disk")
					var refused atomic.Bool
					cfg.FS = vfs.Inject(vfs.Real{}, func(op vfs.Op, name string) (bool, error) {
						// Refused once, it is not tried again.
						if !direct && op == vfs.OpOpenWrite && filepath.Ext(name) == ".large" && !refused.Swap(true) {
							return false, vfs.ErrDirect
						}
						return true, nil
					})
					d := fresh(b, cfg)
					shard := benchShard(size)
					runWriters(b, size, writers, func(n int64) error {
						s := shard
						s.Key.Chunk = uint32(n)
						return d.Append(b.Context(), []cluster.Shard{s})
					})
					if d.large.refused == direct {
						b.Errorf("direct i/o refused: %v", d.large.refused)
					}
				})
			}
		}
	}
}

// What the disk itself can do: one appended page, one fdatasync, in a loop.
func BenchmarkFdatasync(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(benchDir(b), "f"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	page := GetBuffer(pageBytes)
	clear(page)
	var at int64
	for b.Loop() {
		if _, err := f.WriteAt(page, at); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		at += pageBytes
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

func benchDir(b *testing.B) string {
	base := os.Getenv("BIVALVE_BENCH_DIR")
	if base == "" {
		return b.TempDir()
	}
	dir, err := os.MkdirTemp(base, "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	return dir
}

func benchShard(size int) cluster.Shard {
	s := disktest.Shard(disktest.Key(1, 1), size, 1)
	payload := GetBuffer(size)
	copy(payload, s.Payload)
	s.Payload = payload
	return s
}

// runWriters shares b.N calls among the writers, and reports CPU per call.
func runWriters(b *testing.B, size, writers int, call func(n int64) error) {
	b.SetBytes(int64(size))
	var next atomic.Int64
	var wg sync.WaitGroup
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := call(n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N)/1e3, "cpu-us/op")
}

func writeOneFile(dir, name string, p []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, name+".tmp"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(p); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, name+".tmp"), filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		return err
	}
	return d.Close()
}

func BenchmarkRead(b *testing.B) {
	d := fresh(b, testConfig(b, nil))
	for _, size := range []int{4 << 10, 1 << 20} {
		s := disktest.Shard(disktest.Key(1, size), size, 1)
		add(b, d, s)
		dst := GetBuffer(size)
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Read(b.Context(), s.Key, cluster.BlockRange{}, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
