//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bivalve/server"
)

// TestPausedLeaderProcess stops the process that leads a metadata group (SIGSTOP) while
// others write, and lets it go on: nothing that it says afterwards is old.
func TestPausedLeaderProcess(t *testing.T) {
	r := startDemo(t, options{NodesPerZone: 2})
	r.allUp(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r.makeBucket(t, "paused")
	for round := range 2 {
		s := r.status(t)
		leader := string(s.Groups[1+round].Leader)
		n := r.node(t, leader)
		other := map[string]string{"a": "b", "b": "a"}[n.Zone]
		c := r.client(t, r.endpoint(t, other))
		write := func(text string) {
			for i := range 8 { // over all partitions
				key := fmt.Sprint("key", i)
				eventually(t, 30*time.Second, "a write", func() error {
					return put(ctx, c, "paused", key, strings.NewReader(fmt.Sprint(key, text, round)))
				})
			}
		}
		write("before")
		if err := syscall.Kill(n.PID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		write("meanwhile")
		t.Logf("%s stands still: eight writes after %v", leader, time.Since(began))
		if err := syscall.Kill(n.PID, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		own := r.impatient(t, n.S3)
		for i := range 8 {
			key := fmt.Sprint("key", i)
			eventually(t, 30*time.Second, "a read at the node that stood still", func() error {
				got, err := fetch(ctx, own, "paused", key)
				if err == nil && string(got) != fmt.Sprint(key, "meanwhile", round) {
					t.Fatalf("a stale read: %q", got)
				}
				return err
			})
		}
		r.allUp(t)
	}
}

// TestForcedRecoveryCommand loses a zone and the witness, and goes on with the other by
// `bivalve admin recover`. The lost ones come back, as new members.
func TestForcedRecoveryCommand(t *testing.T) {
	r := startDemo(t, options{NodesPerZone: 2})
	r.allUp(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r.makeBucket(t, "recovered")
	c := r.client(t, r.endpoint(t, "a"))
	want := map[string][]byte{}
	for i := range 20 {
		key := fmt.Sprint("key", i)
		want[key] = bytes.Repeat([]byte(key), 1+i*i*i*10)
		if err := put(ctx, c, "recovered", key, bytes.NewReader(want[key])); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, n := range r.info(t).Nodes {
		if n.Zone == "b" {
			args = append(args, "--config", filepath.Join(n.Dir, "config.yaml"))
		}
	}
	recovery := func(stdin string, more ...string) (string, error) {
		cmd := exec.CommandContext(ctx, binary, append(append([]string{"admin", "recover"}, args...), more...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := recovery("yes\n", "--force-quorum"); err == nil {
		t.Fatalf("it touched running nodes:\n%s", out)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for _, refused := range [][]string{{}, {"--force-quorum"}, {"--force-quorum", "--json"}} {
		if out, err := recovery("no\n", refused...); err == nil || !strings.Contains(out, "nothing was done") {
			t.Fatalf("recover %v: %v\n%s", refused, err, out)
		}
	}
	out, err := recovery("yes\n", "--force-quorum")
	if err != nil || !strings.Contains(out, "What could be lost") || !strings.Contains(out, "done.") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	if out, err := recovery("", "--force-quorum", "--yes", "--json"); err != nil || strings.Contains(out, `"entries"`) {
		t.Fatalf("a second time there is nothing to do: %v\n%s", err, out)
	}
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "every group has five voters of the new epoch", func() error {
		s := r.status(t)
		for _, g := range s.Groups {
			if g.Leader == "" || len(g.Voters) != 5 || g.Change != "" {
				return fmt.Errorf("group %d: %+v", g.Group, g)
			}
		}
		return epochs(s, 1)
	})
	for _, zone := range []string{"b", "a"} {
		c := r.client(t, r.endpoint(t, zone))
		for key, data := range want {
			got, err := fetch(ctx, c, "recovered", key)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s through zone %s: %d bytes of %d, %v", key, zone, len(got), len(data), err)
			}
		}
		if err := put(ctx, c, "recovered", "new-"+zone, strings.NewReader(zone)); err != nil {
			t.Fatal(err)
		}
	}
}

// epochs tells whether all replicas are of an epoch.
func epochs(s *server.Status, want uint32) error {
	for _, n := range s.Nodes {
		if n.Local == nil {
			return errors.New(string(n.ID) + " does not answer")
		}
		for _, g := range n.Local.Groups {
			if g.Epoch != want {
				return fmt.Errorf("group %d of %s is of epoch %d", g.Group, n.ID, g.Epoch)
			}
		}
	}
	return nil
}
