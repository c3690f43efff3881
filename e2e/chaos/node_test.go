//go:build e2e

package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"bivalve/server"
)

const adminAddr = "127.0.0.1:9300"

// node is one server process on a host of its own.
type node struct {
	id, zone string
	host     *host
	dir      string
	disks    []string
	s3       string
	admin    *http.Client
	binary   string

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process is gone
	wanted  bool          // the process is to run: if it ends, that is a fault of its own
	paused  bool
	starts  int
	crashes []string // what was said when it ended by itself
}

func newNode(id, zone, dir, binary string, h *host) *node {
	n := &node{id: id, zone: zone, host: h, dir: dir, binary: binary, s3: net.JoinHostPort(h.addr, "9000")}
	local := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return h.dial(ctx, network, adminAddr)
	}
	n.admin = &http.Client{Transport: &http.Transport{DialContext: local, MaxIdleConnsPerHost: 1, IdleConnTimeout: 2 * time.Second}, Timeout: 15 * time.Second}
	return n
}

func (n *node) logPath() string { return filepath.Join(n.dir, "server.log") }

// start runs the process, unless it runs.
func (n *node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(n.binary, "server", "--config", filepath.Join(n.dir, "config.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.host.in(cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", n.id, err)
	}
	ended := make(chan struct{})
	n.cmd, n.ended, n.wanted, n.paused = cmd, ended, true, false
	n.starts++
	go func() {
		err := cmd.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.wanted {
			n.crashes = append(n.crashes, fmt.Sprintf("%s ended by itself: %v\n%s", n.id, err, lastWords(n.logPath())))
		}
		n.cmd = nil
		close(ended)
	}()
	return nil
}

// signal sends one to the process, if it runs.
func (n *node) signal(s syscall.Signal) (ended <-chan struct{}, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		done := make(chan struct{})
		close(done)
		return done, nil
	}
	switch s {
	case syscall.SIGKILL, syscall.SIGTERM:
		n.wanted = false
	case syscall.SIGSTOP:
		n.paused = true
	case syscall.SIGCONT:
		n.paused = false
	}
	return n.ended, n.cmd.Process.Signal(s)
}

// kill is pulling the plug of the process.
func (n *node) kill() error {
	ended, err := n.signal(syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-ended
	return nil
}

// drainWithin is how long a server that is told to end may take.
const drainWithin = 45 * time.Second

// drain ends it in order.
func (n *node) drain() error {
	ended, err := n.signal(syscall.SIGTERM)
	if err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(drainWithin):
	}
	if _, err := n.signal(syscall.SIGQUIT); err != nil { // it tells what it waits for
		return err
	}
	<-ended
	return fmt.Errorf("%s did not end within %s of SIGTERM\n%s", n.id, drainWithin, lastWords(n.logPath()))
}

func (n *node) pause() error  { _, err := n.signal(syscall.SIGSTOP); return err }
func (n *node) resume() error { _, err := n.signal(syscall.SIGCONT); return err }

// pid is 0 when there is no process.
func (n *node) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// ask has the node's admin listener serve a request, from the node's own host.
func (n *node) ask(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+adminAddr+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.admin.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s of %s: %s: %s", path, n.id, resp.Status, bytes.TrimSpace(raw))
	}
	return raw, err
}

// ready is nil when the node says that it can serve.
func (n *node) ready(ctx context.Context) error {
	_, err := n.ask(ctx, http.MethodGet, "/readyz")
	return err
}

// status is what the node says of the region.
func (n *node) status(ctx context.Context) (*server.Status, error) {
	raw, err := n.ask(ctx, http.MethodGet, "/v1/status")
	if err != nil {
		return nil, err
	}
	s := &server.Status{}
	return s, json.Unmarshal(raw, s)
}

// lastWords are the end of a log.
func lastWords(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 6000
	if i := bytes.LastIndex(raw, []byte("SIGQUIT: quit")); i >= 0 {
		raw = raw[i:min(len(raw), i+20*most)]
	} else {
		raw = raw[max(0, len(raw)-most):]
	}
	return string(raw)
}

var errNotRunning = errors.New("not running")
