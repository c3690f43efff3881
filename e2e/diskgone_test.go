//go:build e2e

package e2e

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bivalve/cluster/disk"
	"bivalve/server"
)

// readOnly: the file system met an error and went read-only, as ext4 does, while
// nobody wrote. Reads are served, nothing is written, and mounting it again is
// enough.
func (f *faults) readOnly(t *testing.T) {
	d := f.disks[0]
	f.load.stop() // a sync under way would get EIO, and the disk be called failed
	trigger := filepath.Join("/sys/fs/ext4", d.device(), "trigger_fs_error")
	err := os.WriteFile(trigger, []byte("a test"), 0o200)
	if err != nil {
		f.load.begin(t)
		unavailable(t, "an error of ext4", err)
	}
	took, report := f.r.awaitState(t, d, readOnlyWithin, disk.StateReadOnly)
	f.load.begin(t)
	f.load.goesOn(t, 30)
	f.healthy(t, f.disks[1])
	if err := d.forget(); err != nil {
		t.Fatal(err)
	}
	failures := f.r.readFailures(t, "b1", report.ID)
	f.load.readable(t, f.r, max(0, f.load.mark()-100))
	if now := f.r.diskReport(t, d.dir); now.State != disk.StateReadOnly || now.Shards < report.Shards {
		t.Errorf("state %q, %d shards of %d: %s", now.State, now.Shards, report.Shards, now.Failed)
	}
	if now := f.r.readFailures(t, "b1", report.ID); now > failures {
		t.Errorf("%d reads of it failed", now-failures)
	}
	t.Logf("read-only after %s (%s), ok %s after it was mounted again", took, report.Failed, f.putBack(t, d))
}

// readErrors: the medium gives EIO, to writes and to reads that do not come out of
// memory. A read or two make the disk suspect, a write or many reads have it given
// up; repaired and mounted again it is back.
func (f *faults) readErrors(t *testing.T) {
	d := f.disks[1]
	f.load.stop()
	if err := d.limit(8 << 20); err != nil {
		f.load.begin(t)
		unavailable(t, "cutting a loop device", err)
	}
	t.Cleanup(func() {
		if d.device() != "" {
			_ = d.limit(0) // it is so already, unless the row failed
		}
	})
	if err := d.forget(); err != nil {
		t.Fatal(err)
	}
	c := f.r.client(t, f.r.node(t, "b1").S3)
	var first server.DiskReport
	keys, began := f.load.acked(), time.Now()
	for _, key := range keys {
		body, err := fetch(t.Context(), c, f.load.ledger.bucket, key)
		if err != nil || sumBytes(body) != f.load.ledger.acked[key] {
			t.Errorf("GET %s: %d bytes, %v", key, len(body), err)
		}
		if first = f.r.diskReport(t, d.dir); first.State != disk.StateOK {
			break
		}
	}
	t.Logf("%s after %s", first.State, time.Since(began).Round(100*time.Millisecond))
	if first.State == disk.StateOK {
		t.Errorf("%d reads did not make it suspect", len(keys))
	}
	f.load.begin(t)
	took, report := f.r.awaitState(t, d, readOnlyWithin, disk.StateFailed, disk.StateReadOnly, disk.StateReindex)
	f.load.goesOn(t, 30)
	f.healthy(t, f.disks[0])
	failures := f.r.readFailures(t, "b1", report.ID)
	if failures == 0 {
		t.Error("no read of it failed")
	}
	if err := d.limit(0); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s after writes began (%s), %d reads failed, ok %s after it was mounted again", report.State, took, report.Failed, failures, f.putBack(t, d))
}

// empty checks that nothing was written where the disk was.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("in the empty mount point: %v, %v", left, err)
	}
}

func (f *faults) unmounted(t *testing.T) {
	d := f.disks[0]
	pid := f.r.node(t, "b1").PID
	if err := d.umount(); err != nil {
		t.Fatal(err)
	}
	took, _ := f.r.awaitState(t, d, missingWithin, disk.StateMissing)
	d.gone(t)
	f.load.goesOn(t, 40)
	empty(t, d.dir)
	if err := d.mount(); err != nil {
		t.Fatal(err)
	}
	back, _ := f.r.awaitState(t, d, backWithin, disk.StateOK)
	f.r.awaitShards(t, d)
	f.running(t, pid)
	t.Logf("missing after %s, ok again %s after it was mounted", took, back)
}

// foreign: another disk of the same region is mounted in a disk's place. It is not
// the one that is missed, and nothing is written to it.
func (f *faults) foreign(t *testing.T) {
	d := f.disks[0]
	tmp := t.TempDir()
	other := &loopDisk{img: filepath.Join(tmp, "other.img"), dir: filepath.Join(tmp, "mnt")}
	t.Cleanup(func() {
		for _, at := range []string{other.dir, tmp} {
			if mountedBelow(at) {
				if err := tool("umount", "-l", other.dir); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var cluster [16]byte
	raw, err := hex.DecodeString(f.r.status(t).Cluster)
	if err != nil || copy(cluster[:], raw) != 16 {
		t.Fatal(raw, err)
	}
	if err := errors.Join(other.make(64, 64), other.mount()); err != nil {
		t.Fatal(err)
	}
	id, err := disk.Format(disk.Config{Dir: other.dir, Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	before := sumTree(t, other.dir)
	if err := other.umount(); err != nil {
		t.Fatal(err)
	}
	other.gone(t)

	pid := f.r.node(t, "b1").PID
	if err := d.umount(); err != nil {
		t.Fatal(err)
	}
	here := &loopDisk{img: other.img, dir: d.dir}
	if err := here.mount(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, missingWithin, "the disk is missing, and status says what is in its place", func() error {
		if got := f.r.diskReport(t, d.dir); got.State != disk.StateMissing || !strings.Contains(got.Failed, id.String()) {
			return fmt.Errorf("%s: %s", got.State, got.Failed)
		}
		return nil
	})
	took := time.Since(began).Round(100 * time.Millisecond)
	f.load.goesOn(t, 40)
	report := f.r.diskReport(t, d.dir)
	if err := here.umount(); err != nil {
		t.Fatal(err)
	}
	other.gone(t)
	d.gone(t)
	if err := d.mount(); err != nil {
		t.Fatal(err)
	}
	back, _ := f.r.awaitState(t, d, backWithin, disk.StateOK)
	f.r.awaitShards(t, d)
	f.running(t, pid)
	if err := other.mount(); err != nil {
		t.Fatal(err)
	}
	sameSums(t, before, sumTree(t, other.dir))
	if err := other.umount(); err != nil {
		t.Fatal(err)
	}
	t.Logf("missing after %s (%s), ok %s after the right one was mounted", took, report.Failed, back)
}

// hung: calls that write never return. The disk is given up, everybody goes on,
// and once the calls return it is opened again.
func (f *faults) hung(t *testing.T) {
	d := f.disks[1]
	n := f.r.node(t, "b1")
	was := f.r.weigh(t, n)
	thawed := false
	t.Cleanup(func() {
		if !thawed {
			_ = d.thaw()
		}
	})
	if err := d.freeze(); err != nil {
		thawed = true
		unavailable(t, "freezing a file system", err)
	}
	took, _ := f.r.awaitState(t, d, hungWithin, disk.StateHung)
	f.load.goesOn(t, 60)
	f.healthy(t, f.disks[0])
	now := f.r.weigh(t, n)
	if now.threads > was.threads+100 || now.goroutines > was.goroutines+500 {
		t.Errorf("threads %d, then %d; goroutines %d, then %d", was.threads, now.threads, was.goroutines, now.goroutines)
	}
	if err := d.thaw(); err != nil {
		t.Fatal(err)
	}
	thawed = true
	back, _ := f.r.awaitState(t, d, backWithin, disk.StateOK)
	f.r.awaitShards(t, d)
	f.running(t, n.PID)
	t.Logf("hung after %s, ok %s after the thaw; threads %d, then %d; goroutines %d, then %d",
		took, back, was.threads, now.threads, was.goroutines, now.goroutines)
}
