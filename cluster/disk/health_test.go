package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

func isLost(d *Disk) bool {
	select {
	case <-d.Lost():
		return true
	default:
		return false
	}
}

func state(t *testing.T, d *Disk, want State) {
	t.Helper()
	if u := d.Usage(); u.State != want {
		t.Fatalf("state %q, want %q (%v)", u.State, want, u.Failed)
	}
}

// A disk whose sync never returns lets everybody go who is not inside that sync,
// takes no more calls, and goes on to be closed once the sync comes back.
func TestHungDisk(t *testing.T) {
	f := newFaulty(t)
	kept := disktest.Shard(disktest.Key(1, 1), 500, 1)
	add(t, f.Disk, kept)
	entered, release := make(chan struct{}), make(chan struct{})
	f.set(func(op vfs.Op, _ string) (bool, error) {
		if op == vfs.OpSyncData {
			close(entered)
			<-release
		}
		return true, nil
	})
	stuck, waiting, deleting := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { stuck <- f.Append(t.Context(), []cluster.Shard{disktest.Shard(disktest.Key(1, 2), 500, 2)}) }()
	<-entered
	go func() {
		waiting <- f.Append(t.Context(), []cluster.Shard{disktest.Shard(disktest.Key(1, 3), 500, 3)})
	}()
	go func() { deleting <- f.Delete(t.Context(), []cluster.ShardKey{kept.Key}) }()
	for range hungAfter {
		state(t, f.Disk, StateOK)
		f.watchTick()
	}
	state(t, f.Disk, StateHung)
	for _, c := range []chan error{waiting, deleting} {
		if err := <-c; !errors.Is(err, cluster.ErrDiskFailed) {
			t.Fatal(err)
		}
	}
	if !isLost(f.Disk) {
		t.Fatal("nobody is told to open it again")
	}
	if _, err := f.List(t.Context(), 1, nil, 10); !errors.Is(err, cluster.ErrDiskFailed) {
		t.Fatal(err)
	}
	if err := f.Append(t.Context(), []cluster.Shard{disktest.Shard(disktest.Key(1, 4), 500, 4)}); !errors.Is(err, cluster.ErrDiskFailed) {
		t.Fatal(err)
	}
	close(release)
	if err := <-stuck; err != nil {
		t.Fatal(err) // its sync did come back
	}
	f.clear()
	mustClose(t, f.Disk)
	again := mustOpen(t, f.cfg)
	defer mustClose(t, again)
	have(t, again, kept)
}

// Background work that hangs does not hold up whoever waits for Run to open the
// disk again; Close waits for it.
func TestHungUpkeep(t *testing.T) {
	f := newFaulty(t)
	add(t, f.Disk, disktest.Shard(disktest.Key(1, 1), LargeBytes, 1))
	if err := f.Delete(t.Context(), []cluster.ShardKey{disktest.Key(1, 1)}); err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	f.set(func(op vfs.Op, _ string) (bool, error) {
		if op == vfs.OpPunch {
			close(entered)
			<-release
		}
		return true, nil
	})
	ran, closed := make(chan error, 1), make(chan error, 1)
	go func() { ran <- f.Run(t.Context()) }()
	f.kick()
	<-entered
	for range hungAfter {
		f.watchTick()
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	go func() { closed <- f.Close() }()
	select {
	case err := <-closed:
		t.Fatalf("closed under a call: %v", err)
	default:
	}
	close(release)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

// Reads that hang hold no more than the slots of one disk: large ones few, since they hold
// their caller's memory, and small ones go on beside those.
func TestHungReads(t *testing.T) {
	f := newFaulty(t)
	large, small := disktest.Shard(disktest.Key(1, 1), 2<<20, 1), disktest.Shard(disktest.Key(1, 2), 500, 2)
	add(t, f.Disk, large, small)
	entered, release := make(chan struct{}, 10*maxReaders), make(chan struct{})
	f.set(func(op vfs.Op, _ string) (bool, error) {
		if op == vfs.OpRead {
			entered <- struct{}{}
			<-release
		}
		return true, nil
	})
	results := make(chan error, 5*maxReaders)
	start := func(s cluster.Shard, n, enter int) {
		for range n {
			go func() {
				_, err := disktest.ReadWhole(t.Context(), f.Disk, s.Key)
				results <- err
			}()
		}
		for range enter {
			<-entered
		}
	}
	start(large, 2*maxReaders, maxLargeReaders)
	start(small, 3*maxReaders, maxReaders-maxLargeReaders)
	for range hungAfter {
		f.watchTick()
	}
	for range 4 * maxReaders {
		if err := <-results; !errors.Is(err, cluster.ErrDiskFailed) {
			t.Fatal(err)
		}
	}
	if len(entered) != 0 {
		t.Fatalf("%d more reads than slots", len(entered))
	}
	close(release)
	for range maxReaders {
		<-results
	}
}

// A process that was stopped for long finds its calls as young as they were.
func TestPausedIsNotHung(t *testing.T) {
	f := newFaulty(t)
	for range 10 * hungAfter {
		f.watchTick()
	}
	state(t, f.Disk, StateOK)
}

func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		hook vfs.Hook
		want State
		lost bool
	}{
		"moved":        {failOp(vfs.OpInPlace, false, vfs.ErrMoved), StateMissing, true},
		"read only":    {failOp(vfs.OpWrite, false, syscall.EROFS), StateReadOnly, false},
		"create fails": {failOp(vfs.OpCreate, false, syscall.EROFS), StateReadOnly, false},
		"sync fails":   {failOp(vfs.OpSyncData, true, syscall.EIO), StateFailed, false},
		"lies":         {failOp(vfs.OpWrite, false, nil), StateFailed, false},
		"no space":     {failOp(vfs.OpCreate, false, syscall.ENOSPC), StateOK, false},
		"no files":     {failOp(vfs.OpOpenWrite, false, syscall.EMFILE), StateOK, false},
		"no inodes":    {failOp(vfs.OpCreate, false, syscall.ENOSPC), StateOK, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			s := disktest.Shard(disktest.Key(1, 1), 500, 1)
			add(t, f.Disk, s)
			f.set(c.hook)
			f.probe(true)
			state(t, f.Disk, c.want)
			if isLost(f.Disk) != c.lost {
				t.Fatal("lost:", !c.lost)
			}
			have(t, f.Disk, s)
			err := f.Append(t.Context(), []cluster.Shard{disktest.Shard(disktest.Key(1, 2), 500, 2)})
			if refused := errors.Is(err, cluster.ErrDiskFailed); refused != (c.want != StateOK) {
				t.Fatal(err)
			}
		})
	}
}

// A sector that cannot be read makes the disk suspect, however many want what lies on it
// before it is mended; one that fails on and on takes it out of service.
func TestFailedReads(t *testing.T) {
	f := newFaulty(t)
	s := disktest.Shard(disktest.Key(1, 1), 500, 1)
	add(t, f.Disk, s)
	f.set(failOp(vfs.OpRead, false, syscall.EIO))
	read := func() {
		t.Helper()
		if _, err := disktest.ReadWhole(t.Context(), f.Disk, s.Key); !errors.Is(err, cluster.ErrDiskFailed) {
			t.Fatal(err)
		}
	}
	state(t, f.Disk, StateOK)
	for range 3 * maxFailedReads {
		read()
	}
	f.probe(false)
	state(t, f.Disk, StateSuspect)
	for range maxFailedReads {
		f.watchTick()
		read()
	}
	f.probe(false)
	state(t, f.Disk, StateFailed)
}

// Nothing is written where the disk is not: not by one that was open when its
// directory was swapped, and not by an Open of an empty mount point.
func TestUnmounted(t *testing.T) {
	cfg := testConfig(t, nil)
	d := fresh(t, cfg)
	s := disktest.Shard(disktest.Key(1, 1), 500, 1)
	add(t, d, s)
	if err := os.Rename(cfg.Dir, cfg.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	large := disktest.Shard(disktest.Key(1, 2), 200_000, 2)
	add(t, d, large) // it is not known yet, and goes to the right place
	d.probe(true)
	state(t, d, StateMissing)
	if !isLost(d) {
		t.Fatal("not lost")
	}
	if err := d.Append(t.Context(), []cluster.Shard{disktest.Shard(disktest.Key(1, 3), 500, 3)}); !errors.Is(err, cluster.ErrDiskFailed) {
		t.Fatal(err)
	}
	have(t, d, large)
	mustClose(t, d)
	if _, err := Open(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
	if err := os.Remove(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(cfg.Dir+".away", cfg.Dir); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, cfg)
	defer mustClose(t, again)
	have(t, again, s)
	have(t, again, large)
}

// Another disk in the same place is not taken for this one.
func TestSwapped(t *testing.T) {
	cfg := testConfig(t, nil)
	d := fresh(t, cfg)
	other := cfg
	other.Dir, other.ID = cfg.Dir+".other", cluster.DiskID{7}
	mustFormat(t, other)
	for _, name := range []string{identityName, manifestName} {
		if err := os.Rename(filepath.Join(other.Dir, name), filepath.Join(cfg.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d.probe(false)
	state(t, d, StateMissing)
}

// A damaged index is noticed while the disk is open, and gone after it was opened
// again.
func TestIndexDamagedWhileOpen(t *testing.T) {
	cfg := testConfig(t, nil)
	mustFormat(t, cfg)
	d := mustOpen(t, cfg)
	var shards []cluster.Shard
	for i := range 500 {
		shards = append(shards, disktest.Shard(disktest.Key(1, i), 100, uint64(i)))
	}
	for i := 0; i < len(shards); i += MaxAppendShards {
		add(t, d, shards[i:min(i+MaxAppendShards, len(shards))]...)
	}
	if err := d.checkpoint(true); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(cfg.Dir, indexName)
	b := readAll(t, name)
	for i := 4 * pageBytes; i < len(b); i += 97 {
		b[i] ^= 0x10
	}
	writeOver(t, name, b)
	damaged := 0
	for _, s := range shards {
		if _, err := disktest.ReadWhole(context.Background(), d, s.Key); err != nil {
			damaged++
		}
	}
	if damaged == 0 || !isLost(d) {
		t.Fatalf("%d reads failed, lost: %v", damaged, isLost(d))
	}
	state(t, d, StateReindex)
	if n := d.Usage().Damaged; n != 0 {
		t.Fatalf("%d shards are taken for damaged", n)
	}
	if err := d.Close(); err != nil && !errors.Is(err, errIndex) {
		t.Fatal(err)
	}
	again := mustOpen(t, cfg)
	defer mustClose(t, again)
	for _, s := range shards {
		have(t, again, s)
	}
}

// writeOver changes the file in place, as rot does.
func writeOver(t *testing.T, name string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
