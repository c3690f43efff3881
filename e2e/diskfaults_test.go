//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"bivalve/cluster/disk"
	"bivalve/server"
)

// Three times what is promised: this may be a machine of two busy cores.
const (
	fullWithin     = 30 * time.Second
	readOnlyWithin = 90 * time.Second
	missingWithin  = 30 * time.Second
	hungWithin     = 90 * time.Second
	backWithin     = time.Minute
)

// faults is what each row works on: a region under load, and the disks of node b1,
// each on a file system of its own.
type faults struct {
	r     *region
	load  *load
	disks []*loopDisk
}

// row is one fault of a disk of node b1. It leaves the disk in service again.
type row struct {
	name string
	run  func(f *faults, t *testing.T)
}

var faultRows = []row{
	{"Full", (*faults).full},
	{"Inodes", (*faults).inodes},
	{"ReadOnly", (*faults).readOnly},
	{"ReadErrors", (*faults).readErrors},
	{"Unmounted", (*faults).unmounted},
	{"Foreign", (*faults).foreign},
	{"Hung", (*faults).hung},
	{"Descriptors", (*faults).descriptors},
	{"DescriptorsAtStart", (*faults).descriptorsAtStart},
	{"PowerCut", (*faults).powerCut},
}

// fewestRows must run where file systems can be mounted at all; the others need a
// call that a kernel may refuse.
const fewestRows = 6

// TestDiskFaults does to one node's disks what machines do to disks, one after the
// other, while clients work: they notice nothing, status says what is wrong, all
// that was acknowledged is there after it, and the disk is back in service.
func TestDiskFaults(t *testing.T) {
	needLoops(t)
	r, disks := loopRegion{nodesPerZone: 3, disksPerNode: 2, loops: []string{"b1"}, mib: 512, grace: 5 * time.Second,
		limits: server.Limits{Segment: 16 << 20, DiskReserve: 64 << 20}}.start(t)
	r.allUp(t)
	f := &faults{r: r, disks: disks, load: r.startLoad(t, "faults")}
	f.load.goesOn(t, 20)
	skipped := 0
	for _, row := range faultRows {
		t.Run(row.name, func(t *testing.T) {
			defer func() {
				if t.Skipped() {
					skipped++
				}
			}()
			began, from := time.Now(), f.load.mark()
			row.run(f, t)
			f.load.goesOn(t, 20)
			f.load.excuse()
			f.load.blameless(t)
			f.load.readable(t, r, from)
			t.Logf("%d objects acknowledged meanwhile; %s", f.load.mark()-from, time.Since(began).Round(time.Second))
		})
		if t.Failed() {
			t.FailNow() // what follows would fail for what this has left
		}
	}
	f.load.stop()
	f.load.readable(t, r, 0)
	if skipped > len(faultRows)-fewestRows {
		t.Errorf("%d of %d rows could not be tried: that shows too little", skipped, len(faultRows))
	}
	t.Logf("%d of %d rows were skipped; %d objects, %d errors of endpoints that were allowed to fail", skipped, len(faultRows), f.load.mark(), f.load.excused)
}

// putBack unmounts a disk that takes no writes, repairs its file system and mounts
// it again; the node finds it by itself.
func (f *faults) putBack(t *testing.T, d *loopDisk) time.Duration {
	t.Helper()
	if err := d.umount(); err != nil {
		t.Fatal(err)
	}
	d.gone(t)
	if err := errors.Join(d.repair(), d.mount()); err != nil {
		t.Fatal(err)
	}
	took, _ := f.r.awaitState(t, d, backWithin, disk.StateOK, disk.StateSlow)
	return took
}

// healthy checks that the disk is none the worse for what happened to another.
func (f *faults) healthy(t *testing.T, d *loopDisk) {
	t.Helper()
	if got := f.r.diskReport(t, d.dir); got.State != disk.StateOK && got.State != disk.StateSlow {
		t.Errorf("the other disk is %q: %s", got.State, got.Failed)
	}
}

// running checks that b1 is the process it was.
func (f *faults) running(t *testing.T, pid int) {
	t.Helper()
	if now := f.r.node(t, "b1").PID; now != pid {
		t.Fatalf("node b1 was process %d, now %d", pid, now)
	}
}

// puts stores objects of one size.
func (f *faults) puts(t *testing.T, name string, count, size int) *ledger {
	t.Helper()
	l := newLedger(f.load.ledger.bucket)
	c := f.r.client(t, f.r.endpoint(t, "a"))
	for i := range count {
		if err := l.put(t.Context(), c, fmt.Sprintf("%s/%d", name, i), uint64(i), size); err != nil {
			t.Fatal(err)
		}
	}
	return l
}
