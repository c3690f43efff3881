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
	ran := 0
	for _, python := range programs(t, "python3") {
		if exec.Command(python, "-c", "import boto3").Run() != nil {
			continue
		}
		out, err := r.commandEnv(t, []string{"AWS_CA_BUNDLE=" + front.pem}, python, "boto.py", r.endpoint(t, "a"), r.endpoint(t, "b"), front.url)
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
