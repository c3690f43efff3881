package demo

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func child(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), done: make(chan error, 1)}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
	})
	return p
}

// TestStopZoneOfThePast must not kill whoever has the process ids of a demo that
// ended.
func TestStopZoneOfThePast(t *testing.T) {
	dir := t.TempDir()
	if err := StopZone(dir, "a"); err == nil {
		t.Error("stopped a zone of nothing")
	}
	p := child(t, "sleep", "60")
	info := Info{Nodes: []NodeInfo{{ID: "a1", Zone: "a", Dir: dir, PID: p.cmd.Process.Pid}}}
	if err := info.write(dir); err != nil {
		t.Fatal(err)
	}
	if err := StopZone(dir, "a"); err == nil || !strings.Contains(err.Error(), "no demo is running") {
		t.Errorf("%v", err)
	}
	select {
	case err := <-p.done:
		p.done <- err
		t.Fatal("killed a stranger")
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := os.Stat(filepath.Join(dir, stoppedFile)); err == nil {
		t.Error("left a mark")
	}
	held, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := StopZone(dir, "a"); err != nil {
		t.Error(err)
	}
	p.done <- <-p.done // it ends
}

// TestAnyServerMayEnd while the first is waited for.
func TestAnyServerMayEnd(t *testing.T) {
	d := &demo{info: &Info{Nodes: []NodeInfo{{ID: "a1", Admin: "http://127.0.0.1:1"}, {ID: "a2", Admin: "http://127.0.0.1:1"}}}}
	d.procs = []*process{child(t, "sleep", "60"), child(t, "false")}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.awaitReady(ctx); err == nil || !strings.Contains(err.Error(), "a2 ended") {
		t.Errorf("%v", err)
	}
}
