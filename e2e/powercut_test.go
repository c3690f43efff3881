//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"bivalve/cluster/disk"

	"golang.org/x/sync/errgroup"
)

// settled is a ledger of objects that have all their shards, for a test that takes
// away as many as may be lost.
func (f *faults) settled(t *testing.T, name string) *ledger {
	t.Helper()
	for try := range 5 {
		before := f.r.status(t).Protected.UnderProtected
		l := newLedger(f.load.ledger.bucket)
		clients := f.r.allClients(t)
		var g errgroup.Group
		for i, c := range clients {
			g.Go(func() error {
				for n, size := range loadSizes {
					if err := l.put(t.Context(), c, fmt.Sprintf("%s/%d/%d/%d", name, try, i, n), uint64(i<<8|n), size); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if f.r.status(t).Protected.UnderProtected <= before {
			return l
		}
	}
	t.Fatal("writes go on lacking shards")
	return nil
}

// powerCut: the power of all disks of b1 fails while shards are appended; what the
// file systems had not written is gone. Then zone a is lost, and then the disks of
// b3: what was acknowledged before must come from the disks of b1.
func (f *faults) powerCut(t *testing.T) {
	n := f.r.node(t, "b1")
	whole := f.settled(t, "powercut")
	for _, d := range f.disks {
		if err := d.powerCut(); err != nil {
			unavailable(t, "cutting the power of a file system", err)
		}
	}
	f.load.excuse(n.S3)
	f.r.killNode(t, "b1")
	eventually(t, 30*time.Second, "b1 has ended", func() error {
		if f.r.node(t, "b1").PID != 0 {
			return errors.New("it runs")
		}
		return nil
	})
	for _, d := range f.disks {
		if err := d.umount(); err != nil {
			t.Fatal(err)
		}
		d.gone(t)
		if err := d.mount(); err != nil {
			t.Fatal(err)
		}
	}
	f.load.goesOn(t, 20)
	began := time.Now()
	f.r.startNode(t, "b1")
	took := time.Since(began)
	f.r.allUp(t)
	for _, d := range f.disks {
		if _, got := f.r.awaitState(t, d, backWithin, disk.StateOK); got.Damaged > 0 {
			t.Errorf("%d shards are damaged on %s", got.Damaged, d.dir)
		}
	}
	f.load.excuse()
	f.load.stop()
	f.load.blameless(t)

	f.r.stopZone(t, "a")
	eventually(t, 30*time.Second, "zone a is down", func() error {
		if !f.r.zoneDown(t, "a") {
			return errors.New("it is up")
		}
		return nil
	})
	b := f.r.zoneClients(t, "b")
	f.load.ledger.verify(t, b...)
	disks := f.r.node(t, "b3").Disks
	for _, dir := range disks {
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		f.r.awaitState(t, &loopDisk{dir: dir}, missingWithin, disk.StateMissing)
	}
	whole.verify(t, b...)
	for _, dir := range disks {
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		f.r.awaitState(t, &loopDisk{dir: dir}, backWithin, disk.StateOK)
	}
	f.r.startZone(t, "a")
	f.r.allUp(t)
	f.load.begin(t)
	t.Logf("ready %s after the start; %d objects came from zone b, %d without b3", took.Round(100*time.Millisecond), f.load.mark(), len(whole.acked))
}
