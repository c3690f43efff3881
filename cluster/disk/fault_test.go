package disk

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// faulty is a disk whose file system asks fault before each call.
type faulty struct {
	*Disk
	cfg   Config
	mem   *vfs.MemFS
	fault atomic.Pointer[vfs.Hook]
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{mem: vfs.NewMemFS(1<<30, true)}
	f.cfg = testConfig(t, vfs.Inject(f.mem, func(op vfs.Op, name string) (bool, error) {
		if h := f.fault.Load(); h != nil {
			return (*h)(op, name)
		}
		return true, nil
	}))
	f.Disk = fresh(t, f.cfg)
	return f
}

func (f *faulty) set(h vfs.Hook) { f.fault.Store(&h) }
func (f *faulty) clear()         { f.fault.Store(nil) }

func failOp(bad vfs.Op, apply bool, err error) vfs.Hook {
	return func(op vfs.Op, _ string) (bool, error) {
		if op == bad {
			return apply, err
		}
		return true, nil
	}
}

// failFile fails every call about a file of that name.
func failFile(name string, err error) vfs.Hook {
	return func(_ vfs.Op, path string) (bool, error) {
		if filepath.Base(path) == name {
			return false, err
		}
		return true, nil
	}
}

// The first failed write or sync fences the disk: that append is not
// acknowledged, nor any later one, though the file system works again. Reads go
// on. "Done but reported failed" counts as failed.
func TestFence(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSyncData} {
		for _, apply := range []bool{false, true} {
			for _, size := range []int{100, 100_000} {
				f := newFaulty(t)
				before := disktest.Shard(disktest.Key(1, 1), size, 1)
				add(t, f.Disk, before)
				f.set(failOp(op, apply, syscall.EIO))
				lost := disktest.Shard(disktest.Key(1, 2), size, 2)
				if err := f.Append(t.Context(), []cluster.Shard{lost}); !errors.Is(err, cluster.ErrDiskFailed) || !errors.Is(err, syscall.EIO) {
					t.Fatalf("%s: %v", op, err)
				}
				f.clear()
				if err := f.Append(t.Context(), []cluster.Shard{lost}); !errors.Is(err, cluster.ErrDiskFailed) {
					t.Fatalf("%s, then: %v", op, err)
				}
				if err := f.Delete(t.Context(), []cluster.ShardKey{before.Key}); !errors.Is(err, cluster.ErrDiskFailed) {
					t.Fatalf("%s, delete: %v", op, err)
				}
				if f.Usage().Failed == nil {
					t.Fatalf("%s: not reported", op)
				}
				have(t, f.Disk, before)
				if _, err := f.Stat(lost.Key); !errors.Is(err, cluster.ErrNotFound) {
					t.Fatalf("%s: a failed append is visible: %v", op, err)
				}
			}
		}
	}
}

// A failure while a segment is made fences too, unless nothing was written and
// the cause passes.
func TestSegmentCreationFails(t *testing.T) {
	for _, c := range []struct {
		op    vfs.Op
		err   error
		want  error
		fence bool
	}{
		{vfs.OpCreate, syscall.EMFILE, cluster.ErrOverloaded, false},
		{vfs.OpCreate, syscall.ENOSPC, cluster.ErrDiskFull, false},
		{vfs.OpPreallocate, syscall.ENOSPC, cluster.ErrDiskFull, false},
		{vfs.OpPreallocate, syscall.EIO, cluster.ErrDiskFailed, true},
		{vfs.OpSync, syscall.EIO, cluster.ErrDiskFailed, true},
		{vfs.OpSyncDir, syscall.EIO, cluster.ErrDiskFailed, true},
		{vfs.OpRename, syscall.EIO, cluster.ErrDiskFailed, true},
		{vfs.OpOpenWrite, syscall.EROFS, cluster.ErrDiskFailed, true},
	} {
		f := newFaulty(t)
		s := disktest.Shard(disktest.Key(1, 1), 100_000, 1)
		f.set(failOp(c.op, false, c.err))
		if err := f.Append(t.Context(), []cluster.Shard{s}); !errors.Is(err, c.want) {
			t.Fatalf("%s %v: %v", c.op, c.err, err)
		}
		f.clear()
		err := f.Append(t.Context(), []cluster.Shard{s})
		if c.fence != errors.Is(err, cluster.ErrDiskFailed) || !c.fence && err != nil {
			t.Fatalf("%s %v, then: %v", c.op, c.err, err)
		}
		if !c.fence {
			have(t, f.Disk, s)
		}
	}
}

// Below the reserve appends are refused, reads and deletes go on; with space
// back, appends do too.
func TestReserve(t *testing.T) {
	mem := vfs.NewMemFS(1<<30, true)
	cfg := testConfig(t, mem)
	cfg.ReserveBytes = 64 << 20
	d := fresh(t, cfg)
	small, large := disktest.Shard(disktest.Key(1, 1), 100, 1), disktest.Shard(disktest.Key(1, 2), 100_000, 2)
	add(t, d, small, large)
	mem.SetCapacity(65 << 20)
	for _, s := range []cluster.Shard{disktest.Shard(disktest.Key(1, 3), 100, 1), disktest.Shard(disktest.Key(1, 4), 100_000, 2)} {
		if err := d.Append(t.Context(), []cluster.Shard{s}); !errors.Is(err, cluster.ErrDiskFull) {
			t.Fatalf("append of %d bytes: %v", len(s.Payload), err)
		}
	}
	if u := d.Usage(); u.FreeBytes != 0 || u.Failed != nil {
		t.Fatalf("%+v", u)
	}
	have(t, d, small)
	have(t, d, large)
	if err := d.Delete(t.Context(), []cluster.ShardKey{small.Key}); err != nil {
		t.Fatal(err)
	}
	mem.SetCapacity(1 << 30)
	add(t, d, small)
	have(t, d, small)
}

func TestReadErrors(t *testing.T) {
	f := newFaulty(t)
	s := disktest.Shard(disktest.Key(1, 1), 100_000, 1)
	add(t, f.Disk, s)
	f.set(failOp(vfs.OpRead, false, syscall.EIO))
	if _, err := disktest.ReadWhole(t.Context(), f, s.Key); !errors.Is(err, cluster.ErrDiskFailed) {
		t.Fatal(err)
	}
	f.clear()
	have(t, f.Disk, s)
	add(t, f.Disk, disktest.Shard(disktest.Key(1, 2), 10, 1)) // reads do not fence writes
	if err := f.handles.close(); err != nil {
		t.Fatal(err)
	}
	f.set(failOp(vfs.OpOpenRead, false, syscall.EMFILE))
	if _, err := disktest.ReadWhole(t.Context(), f, s.Key); !errors.Is(err, cluster.ErrOverloaded) {
		t.Fatal(err)
	}
}

// While one sync is under way the others gather: many appends, few syncs. A
// waiting append can be withdrawn, one that is being written cannot.
func TestGroupCommit(t *testing.T) {
	f := newFaulty(t)
	add(t, f.Disk, disktest.Shard(disktest.Key(1, 1000), 10, 1))
	var syncs atomic.Int64
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.set(func(op vfs.Op, name string) (bool, error) {
		if op == vfs.OpSyncData && strings.HasSuffix(name, ".small") {
			syncs.Add(1)
			once.Do(func() { close(entered); <-release })
		}
		return true, nil
	})
	var wg sync.WaitGroup
	write := func(ctx context.Context, i int, want error) {
		wg.Go(func() {
			if err := f.Append(ctx, []cluster.Shard{disktest.Shard(disktest.Key(1, i), 10, 1)}); !errors.Is(err, want) {
				t.Errorf("append %d: %v, want %v", i, err, want)
			}
		})
	}
	leading, cancelLeading := context.WithCancel(t.Context())
	write(leading, 0, nil)
	<-entered
	cancelLeading() // too late: it is being written
	waiting, cancelWaiting := context.WithCancel(t.Context())
	for i := 1; i <= 50; i++ {
		write(t.Context(), i, nil)
	}
	write(waiting, 51, context.Canceled)
	for queued := 0; queued < 51; { // until all wait
		f.small.mu.Lock()
		queued = len(f.small.queue)
		f.small.mu.Unlock()
	}
	cancelWaiting()
	for queued := 51; queued > 50; {
		f.small.mu.Lock()
		queued = len(f.small.queue)
		f.small.mu.Unlock()
	}
	close(release)
	wg.Wait()
	if n := syncs.Load(); n != 2 {
		t.Errorf("%d syncs for 51 appends", n)
	}
	if _, err := f.Stat(disktest.Key(1, 51)); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("withdrawn append: %v", err)
	}
}

// The real file system: what the hook says of one must hold for all.
func TestDirectIORefused(t *testing.T) {
	cfg := testConfig(t, vfs.NewMemFS(1<<30, false))
	d := fresh(t, cfg)
	s := disktest.Shard(disktest.Key(1, 1), 100_001, 1)
	add(t, d, s)
	have(t, d, s)
	if !d.large.refused || d.large.direct {
		t.Error("O_DIRECT should have been refused")
	}
}
