//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestResume stops a region in order, and then by SIGKILL to every server at
// once in the midst of writes. Started again on the same folder it has all that
// was acknowledged.
func TestResume(t *testing.T) {
	r := startDemo(t, options{})
	r.makeBucket(t, "resume")
	l := newLedger("resume")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	c := r.client(t, r.endpoint(t, "a"))
	for i, size := range []int{0, 100, 16 << 10, 100 << 10, 1 << 20, 9 << 20} {
		if err := l.put(ctx, c, fmt.Sprintf("first/%d", i), uint64(i), size); err != nil {
			t.Fatal(err)
		}
	}
	was := r.info(t)

	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("resumed after Ctrl-C in %.1f s", r.took.Seconds())
	if now := r.info(t); now.AccessKey != was.AccessKey || now.SecretKey != was.SecretKey || now.Endpoints["a"][0] != was.Endpoints["a"][0] {
		t.Error("the resumed region has other keys or endpoints")
	}
	l.verify(t, r.allClients(t)...)

	// The servers die all at once while clients write.
	bg, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for i, c := range r.allImpatient(t) {
		wg.Go(func() {
			sizes := []int{500, 16<<10 + 1, 300 << 10, 4<<20 + 1}
			for n := 0; bg.Err() == nil; n++ {
				if l.put(bg, c, fmt.Sprintf("second/%d/%d", i, n), uint64(n), sizes[n%len(sizes)]) != nil {
					return
				}
			}
		})
	}
	eventually(t, time.Minute, "some hundred writes are acknowledged", func() error {
		if n, _ := l.count(); n < 200 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	for _, n := range r.info(t).Nodes {
		if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	acked, _ := l.count()
	l.verify(t, r.allClients(t)...)
	t.Logf("resumed after SIGKILL of every server in %.1f s; %d acknowledged objects are there", r.took.Seconds(), acked)
	if err := l.put(ctx, r.client(t, r.endpoint(t, "b")), "third", 3, 1<<20); err != nil {
		t.Errorf("a write after resuming: %v", err)
	}
	l.verify(t, r.allClients(t)...)
}

// allClients is one for each endpoint; allImpatient the same without retries.
func (r *region) allClients(t testing.TB) (out []*s3.Client) {
	for _, e := range r.endpoints(t) {
		out = append(out, r.client(t, e))
	}
	return out
}

func (r *region) allImpatient(t testing.TB) (out []*s3.Client) {
	for _, e := range r.endpoints(t) {
		out = append(out, r.impatient(t, e))
	}
	return out
}
