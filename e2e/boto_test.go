//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestBoto3 runs boto.py over HTTP and over TLS (where boto3 sends checksums in
// trailers), with every python3 that has boto3: Debian's and a newer one differ.
func TestBoto3(t *testing.T) {
	r := sharedRegion(t)
	front := newTLSFront(t, r.endpoint(t, "a"))
	runBoto(t, r, []string{"AWS_CA_BUNDLE=" + front.pem}, "boto.py", r.endpoint(t, "a"), r.endpoint(t, "b"), front.url)
}

// TestBotoData runs boto_data.py: versions, object lock, tags and lifecycle, in a
// region whose lifecycle day is four seconds.
func TestBotoData(t *testing.T) {
	r := startDemo(t, options{NodesPerZone: 2, DisksPerNode: 1})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.appendConfig(t, "lifecycle_day: 4s\n")
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	runBoto(t, r, nil, "boto_data.py", r.endpoint(t, "b"))
	if text := r.bivalve(t, "status", "--dir", r.dir); !strings.Contains(text, "walks done") || !strings.Contains(text, "versions expired") {
		t.Errorf("status says nothing of the lifecycle:\n%s", text)
	}
}

// runBoto runs a program with every python3 that has boto3.
func runBoto(t *testing.T, r *region, env []string, program string, args ...string) {
	t.Helper()
	ran := 0
	for _, python := range programs(t, "python3") {
		if exec.Command(python, "-c", "import boto3").Run() != nil {
			continue
		}
		out, err := r.commandEnv(t, env, python, append([]string{program}, args...)...)
		if err != nil {
			t.Errorf("%v\n%s", err, out)
			continue
		}
		t.Log(strings.TrimSpace(out))
		ran++
	}
	if ran == 0 && !t.Failed() {
		missing(t, "python3 with boto3")
	}
}
