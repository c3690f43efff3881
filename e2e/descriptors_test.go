//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/server/demo"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// weight is what a process holds.
type weight struct{ threads, goroutines int }

func (r *region) weigh(t testing.TB, n demo.NodeInfo) (w weight) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID))
	if err != nil {
		t.Fatal(err)
	}
	w.threads = numberAfter(t, string(raw), "Threads:")
	w.goroutines = numberAfter(t, metrics(t, n), "\ngo_goroutines ")
	return w
}

// metrics is what a node tells Prometheus.
func metrics(t testing.TB, n demo.NodeInfo) string {
	t.Helper()
	resp, err := http.Get(n.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readFailures is how many reads of a disk have failed since it was opened.
func (r *region) readFailures(t testing.TB, node string, id cluster.DiskID) int {
	t.Helper()
	for line := range strings.Lines(metrics(t, r.node(t, node))) {
		if strings.HasPrefix(line, "bivalve_disk_read_failures_total{") && strings.Contains(line, id.String()) {
			return numberAfter(t, line, "} ")
		}
	}
	t.Fatalf("no such metric of disk %s", id)
	return 0
}

func numberAfter(t testing.TB, text, label string) int {
	t.Helper()
	_, rest, _ := strings.Cut(text, label)
	rest, _, _ = strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(rest))
	if err != nil {
		t.Fatalf("%s: %v", label, err)
	}
	return n
}

// descriptors: the process may open no more files for a while. It may refuse, and
// not hear who calls; nothing is given up for it.
func (f *faults) descriptors(t *testing.T) {
	n := f.r.node(t, "b1")
	var was unix.Rlimit
	err := unix.Prlimit(n.PID, unix.RLIMIT_NOFILE, nil, &was)
	if err == nil {
		err = unix.Prlimit(n.PID, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 10, Max: was.Max}, nil)
	}
	if err != nil {
		unavailable(t, "prlimit", err)
	}
	raise := func() error { return unix.Prlimit(n.PID, unix.RLIMIT_NOFILE, &was, nil) }
	t.Cleanup(func() { _ = raise() }) // it is so already, unless the row failed
	f.load.excuse(n.S3)
	// Segments are begun meanwhile, which takes descriptors.
	f.puts(t, "descriptors", 3, 8<<20)
	f.load.goesOn(t, 40)
	if err := raise(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	f.running(t, n.PID)
	for _, d := range f.disks {
		f.r.awaitState(t, d, backWithin, disk.StateOK)
		f.r.awaitShards(t, d)
	}
	f.r.allUp(t)
	f.running(t, n.PID)
	f.load.excuse()
	eventually(t, backWithin, "node b1 serves", func() error {
		_, err := f.r.client(t, n.S3).HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &f.load.ledger.bucket})
		return err
	})
	t.Logf("all well %s after the limit was raised", time.Since(began).Round(100*time.Millisecond))
}

// descriptorsAtStart: a node that starts with far too few descriptors may end, or
// go on without its disks, and takes nothing for lost.
func (f *faults) descriptorsAtStart(t *testing.T) {
	prlimit := program(t, "prlimit")
	n := f.r.node(t, "b1")
	f.load.excuse(n.S3)
	f.r.killNode(t, "b1")
	eventually(t, 30*time.Second, "b1 has ended", func() error {
		if f.r.node(t, "b1").PID != 0 {
			return errors.New("it runs")
		}
		return nil
	})
	before := f.inventory(t)
	for _, limit := range []int{9, 15, 24, 32, 48} {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		cmd := exec.CommandContext(ctx, prlimit, fmt.Sprintf("--nofile=%d:%d", limit, limit), binary, "server", "--config", filepath.Join(n.Dir, "config.yaml"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		cancel()
		last := strings.TrimSpace(string(out))
		last = last[strings.LastIndexByte(last, '\n')+1:]
		t.Logf("%d descriptors: %v: %s", limit, err, tail(last, 200))
		if strings.Contains(string(out), "panic:") {
			t.Errorf("it panicked:\n%s", tail(string(out), 2000))
		}
		now := f.inventory(t)
		for name, inode := range before {
			if now[name] != inode && !replaceable(name) {
				t.Errorf("%d descriptors: %s was removed or replaced", limit, name)
			}
		}
	}
	f.r.startNode(t, "b1")
	f.load.excuse()
	f.r.allUp(t)
	for _, d := range f.disks {
		f.r.awaitState(t, d, backWithin, disk.StateOK, disk.StateSlow)
	}
}

// replaceable tells whether a file is replaced as a whole now and then.
func replaceable(name string) bool {
	return strings.HasSuffix(name, ".tmp") || filepath.Base(name) == "MANIFEST"
}

// inventory is the inode of every file that b1 must not lose: on its disks, and its
// metadata.
func (f *faults) inventory(t *testing.T) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	dir := f.r.node(t, "b1").Dir
	for _, pattern := range []string{"disks/*/*", "data/raft.db", "data/groups/*.db"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, names, err)
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if !info.IsDir() {
				out[strings.TrimPrefix(name, dir)] = info.Sys().(*syscall.Stat_t).Ino
			}
		}
	}
	return out
}
