//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bivalve/cluster/disk"
	"bivalve/server"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// fill takes all the room of the file system, and returns what gives it back.
func (d *loopDisk) fill() (undo func() error, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return nil, err
	}
	name := filepath.Join(d.dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	for n := int64(st.Bavail) * st.Bsize; n > 0; n -= 1 << 20 { // others take some of it meanwhile
		if err = unix.Fallocate(int(f.Fd()), 0, 0, n); !errors.Is(err, syscall.ENOSPC) {
			break
		}
	}
	return func() error { return os.Remove(name) }, errors.Join(err, f.Close())
}

// full: a file system with no room at all. Writes are acknowledged without that
// disk, reads and deletes go on.
func (f *faults) full(t *testing.T) {
	d := f.disks[0]
	gone := f.puts(t, "full", 8, 100_000)
	undo, err := d.fill()
	if err != nil {
		t.Fatal(err)
	}
	took, _ := f.r.awaitState(t, d, fullWithin, disk.StateFull)
	f.load.goesOn(t, 40)
	gone.verify(t, f.r.zoneClients(t, "b")...)
	for i, c := range f.r.allClients(t) {
		key := fmt.Sprintf("full/%d", i)
		if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &gone.bucket, Key: &key}); err != nil {
			t.Errorf("DELETE: %v", err)
		}
		_, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &gone.bucket, Key: &key})
		want(t, err, http.StatusNotFound, "")
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	back, _ := f.r.awaitState(t, d, fullWithin, disk.StateOK)
	f.r.awaitShards(t, d)
	t.Logf("full after %s, ok again after %s", took, back)
}

// inodes: room for bytes, none for another file. Segments are small here, so that
// one more is wanted soon.
func (f *faults) inodes(t *testing.T) {
	d := f.disks[1]
	dir := filepath.Join(d.dir, "filler")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), nil, 0o600)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil || n > 100_000 {
			t.Fatal(n, err)
		}
	}
	took, _ := f.r.awaitState(t, d, fullWithin, disk.StateFull)
	f.puts(t, "inodes", 10, 8<<20).verify(t, f.r.zoneClients(t, "b")...)
	f.load.goesOn(t, 20)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	back, _ := f.r.awaitState(t, d, fullWithin, disk.StateOK)
	f.r.awaitShards(t, d)
	t.Logf("full after %s for want of inodes (%d files), ok again after %s", took, n, back)
}

// TestRegionFull fills the disks of both zones with objects: PUT says so, GET and
// DELETE work, and what is deleted makes room again.
func TestRegionFull(t *testing.T) {
	needLoops(t)
	r, disks := loopRegion{nodesPerZone: 1, disksPerNode: 1, loops: []string{"a1", "b1"}, mib: 192, grace: 2 * time.Second,
		limits: server.Limits{Segment: 16 << 20, DiskReserve: 64 << 20}}.start(t)
	r.allUp(t)
	r.makeBucket(t, "full")
	l := newLedger("full")
	c := r.client(t, r.endpoint(t, "a"))
	var n int
	var err error
	for ; err == nil && n < 100; n++ {
		err = l.put(t.Context(), c, fmt.Sprint("object/", n), uint64(n), 4<<20)
	}
	want(t, err, http.StatusInsufficientStorage, "InsufficientStorage")
	for _, d := range disks {
		r.awaitState(t, d, fullWithin, disk.StateFull)
	}
	l.verify(t, r.allClients(t)...)
	if err := l.put(t.Context(), c, "inline", 1, 1000); err != nil { // it lies in the metadata
		t.Errorf("a small object: %v", err)
	}
	kept := newLedger("full")
	for key, sum := range l.acked {
		if key == "inline" || len(kept.acked) < 5 {
			kept.acked[key] = sum
			continue
		}
		if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &l.bucket, Key: &key}); err != nil {
			t.Errorf("DELETE: %v", err)
		}
	}
	began := time.Now()
	// Ten seconds are promised, after the grace of garbage.
	eventually(t, 3*10*time.Second+2*time.Second, "a PUT finds room again", func() error {
		return kept.put(t.Context(), r.client(t, r.endpoint(t, "b")), fmt.Sprint("after/", time.Since(began)), 7, 4<<20)
	})
	t.Logf("507 after %d objects of 4 MiB; room again %s after the deletes", n-1, time.Since(began).Round(100*time.Millisecond))
	for i := range 5 {
		if err := kept.put(t.Context(), c, fmt.Sprint("more/", i), uint64(i), 4<<20); err != nil {
			t.Error(err)
		}
	}
	kept.verify(t, r.allClients(t)...)
}
