package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
	"bivalve/cluster/disk/watch"
)

// State is a disk's health in one word.
type State string

// In all but the first four the disk takes no writes. Of a lost one (missing,
// hung, damaged index) nothing more can be had until it is opened again.
const (
	StateOK       State = "ok"
	StateFull     State = "full"    // down to its reserve: reads and deletes only
	StateSuspect  State = "suspect" // some reads failed in the last minute
	StateSlow     State = "slow"    // against its peers; said by who knows them
	StateReadOnly State = "read-only"
	StateFailed   State = "failed"
	StateHung     State = "hung"    // a call does not return
	StateMissing  State = "missing" // unmounted, wiped, or another disk in its place
	StateReindex  State = "damaged index"
)

const (
	watchEvery = time.Second
	// presentEvery, canaryEvery and hungAfter are in ticks of watchEvery.
	presentEvery = 3
	canaryEvery  = 15
	hungAfter    = 20
	// maxFailedReads in a minute, of each file one a second, take the disk out of service;
	// fewer are sectors that went bad, which mending writes elsewhere.
	maxFailedReads = 8
	canaryName     = "CANARY"
)

// Watch judges the disk's health until ctx is done: is it there, can it be
// written, do its calls return. It returns nil.
func (d *Disk) Watch(ctx context.Context) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	busy := make(chan struct{}, 1)
	for n := 0; ; n++ {
		d.watchTick()
		if n%presentEvery == 0 {
			select {
			case busy <- struct{}{}:
				// On its own, as it may hang with the disk; Close waits for it if it can.
				go func() { d.probe(n%canaryEvery == 0 || d.closely.Load()); <-busy }()
			default:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.lost:
			return nil
		case <-ticker.C:
		}
	}
}

// watchTick notices calls that do not return.
func (d *Disk) watchTick() {
	if c, any := d.monitor.Tick(); any && c.Ticks >= hungAfter {
		d.lose(StateHung, fmt.Sprintf("%s of %s", c.Op, filepath.Base(c.Name)),
			fmt.Errorf("no answer for %s", hungAfter*watchEvery))
	}
}

// probe asks whether the disk is still the one that was opened, and works.
func (d *Disk) probe(canary bool) {
	if d.enter() != nil {
		return // closed
	}
	defer d.users.Done()
	if state, err := d.present(); err != nil {
		d.lose(state, "look for it", err)
		return
	}
	if n := d.monitor.FailedReads(); n >= maxFailedReads {
		_ = d.fence("read", fmt.Errorf("%d reads in a minute failed: %w", n, syscall.EIO))
	}
	if _, _, err := d.space(); err != nil && !transient(err) {
		_ = d.fence("ask for space", err)
	}
	if canary && d.Failed() == nil {
		if err := d.sing(); err != nil && !transient(err) {
			_ = d.fence("canary", err)
		}
	}
}

// transient tells whether the error passes by itself and says nothing of the disk.
func transient(err error) bool {
	return starved(err) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// starved tells whether it was the process, or the machine, that lacked something.
func starved(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// present checks that the disk's directory holds this disk.
func (d *Disk) present() (State, error) {
	if err := d.fs.InPlace(); errors.Is(err, vfs.ErrMoved) {
		return StateMissing, err
	}
	o, err := readIdentity(d.fs, d.cfg)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, cluster.ErrInvalid):
		return StateMissing, err
	case err == nil && o != d.owner:
		return StateMissing, fmt.Errorf("%w: disk %s is in its place", cluster.ErrInvalid, o.disk)
	}
	return StateOK, nil // unreadable is another matter, and not for the next Open to find
}

// sing writes a page, makes it durable and reads it back from the medium.
func (d *Disk) sing() error {
	name := filepath.Join(d.cfg.Dir, canaryName)
	f, err := d.fs.OpenWrite(name, false)
	if isNotExist(err) {
		f, err = d.fs.Create(name)
	}
	if err != nil {
		return err
	}
	page := GetBuffer(pageBytes)
	defer PutBuffer(page)
	clear(page)
	putPage(page, magicCanary, d.owner)
	binary.LittleEndian.PutUint64(page[pageHead:], uint64(d.cfg.Now().UnixNano()))
	sealPage(page)
	if _, err = f.WriteVec([][]byte{page}, 0); err == nil {
		err = f.SyncData()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	r, err := openPastCache(d.fs, name)
	if err != nil {
		return err
	}
	defer closeReader(r)
	back := GetBuffer(pageBytes)
	defer PutBuffer(back)
	if _, err := r.ReadVec([][]byte{back}, 0); err != nil && err != io.EOF {
		return err
	}
	if !bytes.Equal(page, back) {
		return fmt.Errorf("%w: what was written is not what is read", cluster.ErrCorrupt)
	}
	return nil
}

// openPastCache opens for aligned reads that come from the medium if they can.
func openPastCache(fsys vfs.FS, name string) (vfs.File, error) {
	f, err := fsys.OpenDirect(name)
	if errors.Is(err, vfs.ErrDirect) {
		return fsys.OpenRead(name)
	}
	return f, err
}

// fence refuses all writes from now on. After a failed sync the kernel may have
// dropped the pages and call the next sync a success, so nothing is retried.
func (d *Disk) fence(op string, cause error) error {
	state := StateFailed
	if errors.Is(cause, syscall.EROFS) {
		state = StateReadOnly
	}
	return d.giveUp(state, op, cause)
}

func (d *Disk) giveUp(state State, op string, cause error) error {
	err := fmt.Errorf("disk %s: %w: %s: %w", d.owner.disk, cluster.ErrDiskFailed, op, cause)
	if d.failed.CompareAndSwap(nil, &failure{state, err}) {
		d.log.Error("disk is fenced: it takes no more writes", "state", state, "op", op, "err", cause)
	}
	return err
}

// lose gives the disk up until it is opened again. If it hangs, whoever waits for
// it is let go.
func (d *Disk) lose(state State, op string, cause error) {
	_ = d.giveUp(state, op, cause)
	d.lossMu.Lock()
	defer d.lossMu.Unlock()
	if state == StateHung {
		closeOnce(d.hung)
	}
	closeOnce(d.lost)
}

// closeOnce closes c if it is open; the caller keeps others from doing the same.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// failure is why a disk takes no more writes.
type failure struct {
	state State
	err   error
}

// Failed is why the disk takes no writes, nil if it does; unlike Usage it asks
// nothing of the file system.
func (d *Disk) Failed() error {
	if p := d.failed.Load(); p != nil {
		return p.err
	}
	return nil
}

// Lost is closed when the disk has to be closed and opened again: it is missing,
// it hangs, or its index is damaged. Failed says why. Close of a disk that hangs
// does not return before its calls do.
func (d *Disk) Lost() <-chan struct{} { return d.lost }

// Latency of the disk's calls in the last minute.
func (d *Disk) Latency() watch.Latency { return d.monitor.Latency() }

// LatencyOf is Latency of so much of the last minute. Calls under way count by their
// age.
func (d *Disk) LatencyOf(last time.Duration) watch.Latency {
	return d.monitor.LatencyOf(uint64(last / watchEvery))
}

// WatchClosely has the disk write, sync and read a page every few seconds instead of
// every 15, as long as it is on: who gives it no work learns its pace by that.
func (d *Disk) WatchClosely(on bool) { d.closely.Store(on) }

// hungError is what those are told that were waiting.
func (d *Disk) hungError() error {
	return fmt.Errorf("disk %s: %w: it hangs", d.owner.disk, cluster.ErrDiskFailed)
}

func leaveErr(ctx context.Context, d *Disk, op func() error) error {
	_, err := leave(ctx, d, func() (struct{}, error) { return struct{}{}, op() })
	return err
}

// leaveAfter is how long a call may go on after its context has ended: it ends by
// itself well within that, unless the disk hangs and nobody has noticed yet.
const leaveAfter = 5 * time.Second

// leave lets the caller of a background call go when the disk hangs: op goes on
// by itself, and so does what it was given.
func leave[T any](ctx context.Context, d *Disk, op func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := op()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-d.hung:
	case <-ctx.Done():
		t := time.NewTimer(leaveAfter)
		defer t.Stop()
		select {
		case r := <-done:
			return r.value, r.err
		case <-d.hung:
		case <-t.C:
		}
	}
	var zero T
	return zero, d.hungError()
}
