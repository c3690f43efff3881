//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestStatus reads what operators see, in words and as JSON.
func TestStatus(t *testing.T) {
	r := sharedRegion(t)
	r.allUp(t)
	text := r.bivalve(t, "status", "--dir", r.dir)
	for _, want := range []string{"k=2 m=1", "ZONE", "IF IT DIED NOW", "0 objects lost", "NODE", "a1", "b3", "w1", "DISK", "GROUP", "root", "under-protected 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("status does not say %q:\n%s", want, text)
		}
	}
	s := r.status(t)
	if len(s.Nodes) != 7 || len(s.Zones) != 2 || len(s.Groups) != 5 || len(s.Problems) != 0 || s.Epoch == 0 {
		t.Errorf("status --json: %d nodes, %d zones, %d groups, epoch %d, problems %q", len(s.Nodes), len(s.Zones), len(s.Groups), s.Epoch, s.Problems)
	}
	// Any node answers.
	if one := r.bivalve(t, "status", "--admin", r.node(t, "b2").Admin); !strings.Contains(one, "IF IT DIED NOW") {
		t.Errorf("status --admin: %s", one)
	}
	if out := r.bivalve(t, "version"); !strings.HasPrefix(out, "bivalve ") || len(strings.Fields(out)) < 2 {
		t.Errorf("version: %q", out)
	}
}

// TestAdmin asks a node's admin listener what monitoring asks.
func TestAdmin(t *testing.T) {
	r := sharedRegion(t)
	for _, n := range r.info(t).Nodes {
		for _, path := range []string{"/healthz", "/readyz"} {
			if code, body := get(t, n.Admin+path); code != http.StatusOK {
				t.Errorf("%s of %s: %d %s", path, n.ID, code, body)
			}
		}
		code, body := get(t, n.Admin+"/metrics")
		if code != http.StatusOK || !strings.Contains(body, "bivalve_replica_") {
			t.Errorf("/metrics of %s: %d", n.ID, code)
		}
	}
}

// TestBadConfig: all faults are told at once.
func TestBadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	err := os.WriteFile(path, []byte(`node: "Not A Name"
listen: {s3: nowhere}
transport: {encrypt: perhaps}
limits: {budget: 1MiB, requests: 100000000}
log: {level: loud, format: verse}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "server", "--config", path).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the server with a bad configuration: %v", err)
	}
	for _, want := range []string{"node", "listen.s3", "transport.encrypt", "limits.budget", "limits.requests", "log.level", "log.format"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the fault of %s is not told:\n%s", want, out)
		}
	}
	if err := os.WriteFile(path, []byte("node: a1\nno_such_key: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "server", "--config", path).CombinedOutput(); err == nil || !strings.Contains(string(out), "no_such_key") {
		t.Errorf("an unknown key: %v\n%s", err, out)
	}
}

// TestDrain sends SIGTERM to a node in the midst of a download: the download
// ends well, new requests are not taken, and the process ends by itself.
func TestDrain(t *testing.T) {
	const size = 64 << 20
	r := startDemo(t, options{})
	r.makeBucket(t, "drain")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n := r.node(t, "a1")
	body := noiseBytes(3, size)
	if err := put(ctx, r.client(t, r.endpoint(t, "b")), "drain", "big", bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	out, err := r.impatient(t, n.S3).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("drain"), Key: aws.String("big")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	// The rest is more than the sockets between hold, so the node is not done.
	h := sha256.New()
	if _, err := io.CopyN(h, out.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "the node takes no new connections", func() error {
		resp, err := newHTTPClient(nil).Get(n.S3)
		if err != nil {
			return nil
		}
		return errors.Join(fmt.Errorf("it answers %s", resp.Status), resp.Body.Close())
	})
	if _, err := io.Copy(h, out.Body); err != nil {
		t.Fatalf("the download was cut off: %v", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sumBytes(body) {
		t.Error("the download is not what was stored")
	}
	eventually(t, 30*time.Second, "the drained node has ended", func() error {
		if pid := r.node(t, "a1").PID; pid != 0 {
			return fmt.Errorf("process %d runs", pid)
		}
		return nil
	})
	// One node less is nothing that clients notice elsewhere.
	if err := put(ctx, r.client(t, r.node(t, "a2").S3), "drain", "after", bytes.NewReader(body[:1<<20])); err != nil {
		t.Error(err)
	}
	r.startNode(t, "a1")
	if _, err := fetch(ctx, r.client(t, n.S3), "drain", "after"); err != nil {
		t.Error(err)
	}
}
