//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// memoryLimit is what one large PUT or GET may cost the node that serves it.
const memoryLimit = 64 << 20

// TestMemory streams one large object up and down through a node and looks at
// the most memory that the node had (VmHWM of /proc).
func TestMemory(t *testing.T) {
	size := sized(1<<30, 300<<20)
	if os.Getenv("BIVALVE_E2E_BIG") == "1" {
		size = 5 << 30
	}
	r := startDemo(t, options{})
	r.makeBucket(t, "memory")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	n := r.node(t, "a1")
	// Idle is after first use: what connections and pools take once is not the
	// object's.
	c := r.client(t, n.S3)
	if err := put(ctx, c, "memory", "warm", bytes.NewReader(noiseBytes(1, 1<<20))); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(ctx, c, "memory", "warm"); err != nil {
		t.Fatal(err)
	}
	r.allUp(t)

	idle := procBytes(t, n.PID, "VmRSS")
	measure := func(what string, work func()) {
		resetPeak(t, n.PID)
		begun := time.Now()
		work()
		took := time.Since(begun)
		peak := procBytes(t, n.PID, "VmHWM")
		text := fmt.Sprintf("%s of %s at %.0f MiB/s: %s above the %s of an idle node", what, mib(size),
			float64(size)/(1<<20)/took.Seconds(), mib(peak-idle), mib(idle))
		if peak-idle > memoryLimit {
			t.Error(text)
		} else {
			t.Log(text)
		}
	}
	measure("PUT", func() { r.putStream(t, ctx, n.S3, "memory", "big", 5, size) })
	measure("GET", func() {
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("memory"), Key: aws.String("big")})
		if err != nil {
			t.Fatal(err)
		}
		defer out.Body.Close()
		if got, want := sumReader(t, out.Body), sumReader(t, noise(5, size)); got != want {
			t.Errorf("%s was stored, %s came back", want, got)
		}
	})
}

// putStream puts noise in one request. The SDK would read it twice to sign it
// over HTTP, so the request is signed here, with its payload left out.
func (r *region) putStream(t testing.TB, ctx context.Context, endpoint, bucket, key string, seed uint64, size int64) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, endpoint+"/"+bucket+"/"+key, io.NopCloser(noise(seed, size)))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	const unsigned = "UNSIGNED-PAYLOAD"
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	info := r.info(t)
	keys := aws.Credentials{AccessKeyID: info.AccessKey, SecretAccessKey: info.SecretKey}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, unsigned, "s3", info.Region, time.Now(), func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = true
	}); err != nil {
		t.Fatal(err)
	}
	resp, err := newHTTPClient(nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("PUT of %d bytes: %s %s", size, resp.Status, body)
	}
}

// procBytes reads a size out of /proc/PID/status.
func procBytes(t testing.TB, pid int, name string) int64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kib int64
		if _, err := fmt.Sscanf(line, name+": %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatalf("no %s of process %d", name, pid)
	return 0
}

// resetPeak makes VmHWM start from what the process has now.
func resetPeak(t testing.TB, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o600); err != nil {
		t.Logf("the peak cannot be reset, so it is that of the process's life: %v", err)
	}
}
