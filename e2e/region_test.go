//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bivalve/server"
	"bivalve/server/demo"
)

// options of a region; zero is the demo's default.
type options struct {
	NodesPerZone, DisksPerNode int
}

// region is one running demo.
type region struct {
	dir   string
	port  int
	opts  options
	cmd   *exec.Cmd
	out   *bytes.Buffer
	ended chan error
	took  time.Duration // from start to serving
}

// startDemo runs a region that ends with the test.
func startDemo(t *testing.T, o options) *region {
	t.Helper()
	dir, err := os.MkdirTemp("", "bivalve-e2e-region-")
	if err != nil {
		t.Fatal(err)
	}
	r := &region{dir: filepath.Join(dir, "region"), opts: o}
	t.Cleanup(func() {
		if r.cmd != nil {
			if err := r.stop(); err != nil {
				t.Errorf("stop the region: %v", err)
			}
		}
		if t.Failed() {
			r.dumpLogs(t)
		}
		if os.Getenv("BIVALVE_E2E_KEEP") == "1" {
			t.Logf("the region is left in %s", r.dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the region served after %s", r.took.Round(10*time.Millisecond))
	return r
}

var shared struct {
	sync.Mutex
	r   *region
	dir string
}

// sharedRegion is one for all tests that leave it as they found it.
func sharedRegion(t *testing.T) *region {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.r == nil {
		dir, err := os.MkdirTemp("", "bivalve-e2e-shared-")
		if err != nil {
			t.Fatal(err)
		}
		shared.dir = dir
		r := &region{dir: filepath.Join(dir, "region")}
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		shared.r = r
	}
	r := shared.r
	t.Cleanup(func() {
		if t.Failed() {
			r.dumpLogs(t)
		}
	})
	return r
}

func endShared() error {
	if shared.dir == "" {
		return nil
	}
	var err error
	if shared.r != nil {
		err = shared.r.stop()
	}
	if os.Getenv("BIVALVE_E2E_KEEP") == "1" {
		return err
	}
	return errors.Join(err, os.RemoveAll(shared.dir))
}

// start runs the demo on the region's folder and returns once it serves. A port
// that somebody else takes meanwhile costs another try.
func (r *region) start() error {
	var err error
	for range 5 {
		if r.port == 0 {
			if r.port, err = freePorts(); err != nil {
				return err
			}
		}
		if err = r.startOnce(); err == nil {
			return nil
		}
		if !strings.Contains(err.Error(), "address already in use") {
			return err
		}
		if err := os.RemoveAll(r.dir); err != nil { // the ports are part of a region
			return err
		}
		r.port = 0
	}
	return err
}

func (r *region) startOnce() error {
	args := []string{"demo", "--dir", r.dir, "--port", fmt.Sprint(r.port)}
	if r.opts.NodesPerZone > 0 {
		args = append(args, "--nodes-per-zone", fmt.Sprint(r.opts.NodesPerZone))
	}
	if r.opts.DisksPerNode > 0 {
		args = append(args, "--disks-per-node", fmt.Sprint(r.opts.DisksPerNode))
	}
	// demo.json of an earlier run would look like a region that serves.
	if err := os.Remove(filepath.Join(r.dir, "demo.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	r.out, r.ended = &bytes.Buffer{}, make(chan error, 1)
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = r.out, r.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	r.cmd = cmd
	ended := r.ended
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(90 * time.Second)
	for {
		if _, err := os.Stat(filepath.Join(r.dir, "demo.json")); err == nil {
			r.took = time.Since(begun)
			return nil
		}
		select {
		case err := <-ended:
			r.cmd = nil
			return fmt.Errorf("the demo ended: %v\n%s%s", err, r.out, r.serverErrors())
		case <-deadline:
			return errors.Join(fmt.Errorf("the demo does not serve after 90s\n%s", r.serverErrors()), r.stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop is Ctrl-C. It fails when the demo did not end in order. A server that does
// not drain is asked for its goroutines before the demo gives it up.
func (r *region) stop() error {
	info, err := demo.ReadInfo(r.dir)
	if err != nil {
		return err
	}
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	cmd := r.cmd
	r.cmd = nil
	stuck, late := time.After(25*time.Second), time.After(45*time.Second)
	for {
		select {
		case err := <-r.ended:
			if err != nil {
				return fmt.Errorf("the demo ended with %w\n%s%s", err, tail(r.out.String(), 500), r.lastWords())
			}
			return nil
		case <-stuck:
			for _, n := range info.Nodes {
				if n.PID > 0 {
					_ = syscall.Kill(n.PID, syscall.SIGQUIT) // most are gone
				}
			}
		case <-late:
			return errors.Join(errors.New("the demo did not end within 45s of SIGINT"), cmd.Process.Kill(), <-r.ended)
		}
	}
}

// info is demo.json as it is now.
func (r *region) info(t testing.TB) *demo.Info {
	t.Helper()
	info, err := demo.ReadInfo(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func (r *region) node(t testing.TB, id string) demo.NodeInfo {
	t.Helper()
	for _, n := range r.info(t).Nodes {
		if n.ID == id {
			return n
		}
	}
	t.Fatalf("no node %q", id)
	return demo.NodeInfo{}
}

// endpoint is the first of a zone; endpoints are those of all zones.
func (r *region) endpoint(t testing.TB, zone string) string { return r.info(t).Endpoints[zone][0] }

func (r *region) endpoints(t testing.TB) []string {
	info := r.info(t)
	return append(append([]string{}, info.Endpoints["a"]...), info.Endpoints["b"]...)
}

// bivalve runs a subcommand of the program.
func (r *region) bivalve(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("bivalve %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

func (r *region) stopZone(t testing.TB, zone string) {
	r.bivalve(t, "demo", "zone", "stop", zone, "--dir", r.dir)
}
func (r *region) startZone(t testing.TB, zone string) {
	r.bivalve(t, "demo", "zone", "start", zone, "--dir", r.dir)
}

// status is `bivalve status --json`.
func (r *region) status(t testing.TB) *server.Status {
	t.Helper()
	s := &server.Status{}
	if err := json.Unmarshal([]byte(r.bivalve(t, "status", "--json", "--dir", r.dir)), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *region) zoneDown(t testing.TB, zone string) bool {
	t.Helper()
	for _, z := range r.status(t).Zones {
		if string(z.Zone) == zone {
			return z.Down
		}
	}
	t.Fatalf("status knows no zone %q", zone)
	return false
}

// allUp waits until every node is ready and no zone is down.
func (r *region) allUp(t testing.TB) {
	t.Helper()
	eventually(t, time.Minute, "all nodes and zones are up", func() error {
		s := r.status(t)
		for _, z := range s.Zones {
			if z.Down {
				return fmt.Errorf("zone %s is down", z.Zone)
			}
		}
		for _, n := range s.Nodes {
			if n.Local == nil || n.Local.Ready != "" {
				return fmt.Errorf("node %s is not ready", n.ID)
			}
		}
		for _, g := range s.Groups {
			if g.Leader == "" || g.Alive < len(g.Voters) {
				return fmt.Errorf("group %d: leader %q, %d of %d voters", g.Group, g.Leader, g.Alive, len(g.Voters))
			}
		}
		return nil
	})
}

// killNode pulls the plug of one node; startNode plugs it in again through the
// files by which a demo is told (server/demo/control.go).
func (r *region) killNode(t testing.TB, id string) {
	t.Helper()
	n := r.node(t, id)
	if n.PID == 0 {
		return
	}
	if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
		t.Errorf("kill %s: %v", id, err)
	}
}

func (r *region) startNode(t testing.TB, id string) {
	t.Helper()
	n := r.node(t, id)
	if err := os.WriteFile(filepath.Join(n.Dir, "start"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "node "+id+" is ready", func() error {
		resp, err := http.Get(n.Admin + "/readyz")
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

// serverErrors are the last words of each server above Info.
func (r *region) serverErrors() string {
	var out strings.Builder
	logs, _ := filepath.Glob(filepath.Join(r.dir, "*", "server.log"))
	for _, path := range logs {
		raw, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(&out, err)
			continue
		}
		var lines []string
		sc := bufio.NewScanner(bytes.NewReader(raw))
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			if !strings.Contains(sc.Text(), "level=INFO") && !strings.Contains(sc.Text(), "level=DEBUG") {
				lines = append(lines, sc.Text())
			}
		}
		if len(lines) > 20 {
			lines = append([]string{fmt.Sprintf("(%d lines before)", len(lines)-20)}, lines[len(lines)-20:]...)
		}
		if len(lines) > 0 {
			fmt.Fprintf(&out, "--- %s\n%s\n", filepath.Base(filepath.Dir(path)), strings.Join(lines, "\n"))
		}
	}
	return out.String()
}

// stuckWords are the goroutines of a server that had to be asked for them, else
// its last lines.
func stuckWords(log string) string {
	if i := strings.LastIndex(log, "SIGQUIT: quit"); i >= 0 {
		return log[i:]
	}
	return tail(log, 600)
}

// lastWords are the ends of all logs.
func (r *region) lastWords() string {
	var out strings.Builder
	logs, _ := filepath.Glob(filepath.Join(r.dir, "*", "server.log"))
	for _, path := range logs {
		raw, err := os.ReadFile(path)
		fmt.Fprintf(&out, "--- %s %v\n%s\n", filepath.Base(filepath.Dir(path)), err, stuckWords(string(raw)))
	}
	return out.String()
}

func (r *region) dumpLogs(t *testing.T) { t.Logf("what the servers said:\n%s", r.serverErrors()) }

// basePort is the first of the range that the tests use.
const basePort = 19000

// freePorts finds a run of S3 ports that is free, and so at +100, +200 and +300.
func freePorts() (int, error) {
	const nodes = 11
	for base := basePort; base < basePort+4000; base += 400 {
		for at := base; at < base+100-nodes; at += 20 {
			if portsFree(at, nodes) {
				return at, nil
			}
		}
	}
	return 0, fmt.Errorf("no run of free ports from %d on", basePort)
}

func portsFree(at, n int) bool {
	for group := range 4 {
		for i := range n {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", at+100*group+i))
			if err != nil || l.Close() != nil {
				return false
			}
		}
	}
	return true
}

// eventually waits for a condition, and fails the test when it does not come.
func eventually(t testing.TB, limit time.Duration, what string, cond func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-late:
			t.Fatalf("not within %s: %s: %v", limit, what, err)
		case <-tick.C:
		}
	}
}
