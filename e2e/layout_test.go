//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"bivalve/server"
)

// TestLayout replaces a wiped disk, adds a node, drains another out of a region of
// processes, and replaces a dead one, by the program's own orders and under load.
func TestLayout(t *testing.T) {
	r := startDemo(t, options{NodesPerZone: 3, DisksPerNode: 1})
	r.makeBucket(t, "layout")
	a, b := r.client(t, r.endpoint(t, "a")), r.client(t, r.endpoint(t, "b"))
	l := newLedger("layout")
	for i := range 30 {
		if err := l.put(t.Context(), a, fmt.Sprint("before-", i), uint64(i), 300_000); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond): // a light load
				_ = l.put(t.Context(), b, fmt.Sprint("meanwhile-", i), uint64(1000+i), 200_000) // the ledger counts refusals
			}
		}
	})
	end := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer end()

	// A disk is wiped, and its place given to an empty one.
	disk := r.node(t, "a2").Disks[0]
	if !filepath.IsAbs(disk) {
		disk = filepath.Join(r.node(t, "a2").Dir, disk)
	}
	if err := errors.Join(os.RemoveAll(disk), os.Mkdir(disk, 0o700)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the loss is noticed", func() error {
		if d := r.diskReport(t, disk); d.Failed == "" {
			return errors.New("not yet")
		}
		return nil
	})
	var out struct {
		Moved struct {
			Rebuilt int64   `json:"shards_rebuilt"`
			Bytes   int64   `json:"bytes"`
			Seconds float64 `json:"seconds"`
		} `json:"moved"`
	}
	r.order(t, &out, "disk", "replace", "--node", "a2", "--path", disk, "--wait", "--json")
	if out.Moved.Rebuilt < 20 {
		t.Errorf("%+v", out)
	}
	t.Logf("a wiped disk: %d shards, %d bytes rebuilt in %.1f s", out.Moved.Rebuilt, out.Moved.Bytes, out.Moved.Seconds)

	r.joinNode(t, "a4", "a", r.port+10)
	r.order(t, &out, "layout", "apply", "--wait", "--json")
	r.order(t, &out, "node", "drain", "a3", "--wait", "--json")
	eventually(t, time.Minute, "a3 is removed", func() error { // once its replicas have gone elsewhere
		raw, err := exec.Command(binary, "admin", "node", "remove", "a3", "--dir", r.dir).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s", raw)
		}
		return nil
	})
	r.killNode(t, "a3")

	r.joinNode(t, "a5", "a", r.port+11)
	r.killNode(t, "a2")
	eventually(t, time.Minute, "a5 takes the place of a2", func() error { // once a2 is known to be dead
		raw, err := exec.Command(binary, "admin", "node", "replace", "a2", "--by", "a5", "--wait", "--json", "--dir", r.dir).Output()
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &out)
	})
	if out.Moved.Rebuilt < 20 {
		t.Errorf("%+v", out)
	}
	t.Logf("a dead node: %d shards, %d bytes rebuilt in %.1f s", out.Moved.Rebuilt, out.Moved.Bytes, out.Moved.Seconds)
	end()
	acked, refused := l.count()
	t.Logf("%d objects acknowledged, %d refused", acked, refused)
	if refused > acked/10 {
		t.Errorf("%d of %d writes were refused", refused, acked+refused)
	}
	l.verify(t, a, b)
	var layout server.LayoutReport
	r.order(t, &layout, "layout", "show", "--json")
	for _, d := range layout.Disks {
		if gone := d.Disk.Node == "a3" || d.Disk.Node == "a2"; gone != (d.Slots == 0) && d.State == "active" || gone && d.Slots > 0 || d.In > 0 {
			t.Errorf("%+v", d)
		}
	}
}

// order runs an admin order and reads its JSON.
func (r *region) order(t *testing.T, into any, args ...string) {
	t.Helper()
	raw := r.bivalve(t, append(append([]string{"admin"}, args...), "--dir", r.dir)...)
	if err := json.Unmarshal([]byte(raw), into); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, raw)
	}
}

// joinNode adds a node to the region and runs it until the end of the test.
func (r *region) joinNode(t *testing.T, id, zone string, port int) {
	t.Helper()
	dir := filepath.Join(r.dir, id)
	r.bivalve(t, "admin", "node", "add", "--id", id, "--zone", zone, "--host", "127.0.0.1", "--disk", "disk0", "--disk-reserve", "16MiB",
		"--ca", filepath.Join(r.dir, "ca"), "--like", filepath.Join(r.dir, "a1"), "--out", dir, "--dir", r.dir,
		"--s3-port", fmt.Sprint(port), "--transport-port", fmt.Sprint(port+100), "--gossip-port", fmt.Sprint(port+200), "--admin-port", fmt.Sprint(port+300))
	log, err := os.Create(filepath.Join(r.dir, id+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "server", "--config", filepath.Join(dir, "config.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stop %s: %v", id, err)
		}
		_ = cmd.Wait() // the region may be gone already, and its drain cut short
		if raw, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("%s said:\n%s", id, tail(string(raw), 4000))
		}
		_ = log.Close()
	})
	eventually(t, time.Minute, "node "+id+" is ready", func() error {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", port+300))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}
