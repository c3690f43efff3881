//go:build e2e

package server_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"bivalve/server/servertest"
)

// dawdler is a body of size bytes that brings the first of them at once and then so many
// every tenth of a second, until it is told to stop.
type dawdler struct {
	ctx              context.Context
	size, left, each int64
}

func (d *dawdler) Seek(_ int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		return d.size, nil
	}
	return 0, nil
}

func (d *dawdler) Read(p []byte) (int, error) {
	n := min(int64(len(p)), d.left)
	d.left -= n
	if n == 0 {
		n = min(int64(len(p)), d.each)
		select {
		case <-time.After(time.Second / 10): // the client really is this slow
		case <-d.ctx.Done():
			return 0, d.ctx.Err()
		}
	}
	return int(n), nil
}

// slowClients are many requests to one node that take their time. stop ends them, and
// returns what they were told.
func slowClients(r *servertest.Region, n int, one func(ctx context.Context, i int) (said string, err error)) (stop func() map[string]int) {
	ctx, cancel := context.WithCancel(context.Background())
	var slow sync.WaitGroup
	var mu sync.Mutex
	told := map[string]int{}
	for i := range n {
		slow.Go(func() {
			said, err := one(ctx, i)
			if err != nil {
				if said = "the connection broke"; ctx.Err() != nil {
					said = "went on"
				}
			}
			mu.Lock()
			defer mu.Unlock()
			told[said]++
		})
	}
	return sync.OnceValue(func() map[string]int {
		cancel()
		slow.Wait()
		return told
	})
}

// slowUploads are uploads of 64 MiB.
func slowUploads(r *servertest.Region, n int, first, perSecond int64) (stop func() map[string]int) {
	return slowClients(r, n, func(ctx context.Context, i int) (string, error) {
		answer, err := r.Do(ctx, "a1", "PUT", fmt.Sprint("/load/slow", i), &dawdler{ctx, 64 << 20, first, perSecond / 10}, nil)
		if err != nil {
			return "", err
		}
		said, err := io.ReadAll(answer.Body)
		return answer.Status + code(said), joinClose(err, answer.Body)
	})
}

// slowDownloads are downloads of an object of 64 MiB.
func slowDownloads(r *servertest.Region, n int, perSecond int64) (stop func() map[string]int) {
	return slowClients(r, n, func(ctx context.Context, i int) (string, error) {
		answer, err := r.Do(ctx, "a1", "GET", "/load/large", nil, nil)
		if err != nil {
			return "", err
		}
		for err == nil && answer.StatusCode == 200 {
			select {
			case <-time.After(time.Second / 10): // as slow as that
			case <-ctx.Done():
				return "", joinClose(ctx.Err(), answer.Body)
			}
			_, err = io.CopyN(io.Discard, answer.Body, perSecond/10)
		}
		return answer.Status, joinClose(err, answer.Body)
	})
}

func joinClose(err error, c io.Closer) error {
	if closed := c.Close(); err == nil {
		err = closed
	}
	return err
}

// code is the S3 code in the body of an error.
func code(answer []byte) string {
	_, after, _ := strings.Cut(string(answer), "<Code>")
	name, _, ok := strings.Cut(after, "</Code>")
	if !ok {
		return ""
	}
	return " " + name
}

// largeObject is what slowDownloads read.
func largeObject(tb testing.TB, r *servertest.Region) {
	tb.Helper()
	answer, err := r.Do(tb.Context(), "a1", "PUT", "/load/large", &dawdler{tb.Context(), 64 << 20, 64 << 20, 1}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if err := joinClose(nil, answer.Body); err != nil || answer.StatusCode != 200 {
		tb.Fatal(answer.Status, err)
	}
}

// kindsOfSlow are the clients that keep a node's memory if they are let.
var kindsOfSlow = []struct {
	name  string
	begin func(r *servertest.Region) (stop func() map[string]int)
	goOn  int // at least so many of them are served as slowly as they like
}{
	{"uploads that hardly come", func(r *servertest.Region) func() map[string]int { return slowUploads(r, 200, 100_000, 2<<10) }, 1},
	{"uploads of 200 kB each second", func(r *servertest.Region) func() map[string]int { return slowUploads(r, 100, 0, 200_000) }, 1},
	{"downloads that hardly read", func(r *servertest.Region) func() map[string]int { return slowDownloads(r, 100, 2<<10) }, 50},
	{"downloads of 200 kB each second", func(r *servertest.Region) func() map[string]int { return slowDownloads(r, 100, 200_000) }, 50},
}

// TestSlowClients: while many slow clients of each kind are served by a node that has
// 64 MiB for chunks in flight, nobody else is refused, there or elsewhere; and when they are
// gone all of the memory is there again.
func TestSlowClients(t *testing.T) {
	r := servertest.Start(t, servertest.Options{})
	bucketOfLoad(t, r)
	largeObject(t, r)
	for _, kind := range kindsOfSlow {
		t.Run(kind.name, func(t *testing.T) {
			l := startSlowLoad(t, r)
			stop := kind.begin(r)
			defer stop()
			l.p99(200)
			l.p99(200)
			l.end(t)
			told := stop()
			t.Logf("the slow ones were told: %v", told)
			if told["went on"] < kind.goOn {
				t.Errorf("%d of them went on, want %d", told["went on"], kind.goOn)
			}
			r.Until("the budget is whole", func(context.Context) error {
				for _, id := range r.Nodes(servertest.ZoneA, servertest.ZoneB) {
					if used := r.Node(id).Gauge("bivalve_budget_used_bytes", ""); used != 0 {
						return fmt.Errorf("%s: %.0f bytes are in use", id, used)
					}
				}
				return nil
			})
		})
	}
}

// BenchmarkSlowClients measures what many slow clients of one node do to other clients of
// the same nodes, which have 64 MiB for chunks in flight each, a quarter of the default.
func BenchmarkSlowClients(b *testing.B) {
	const n = 400
	for _, kind := range kindsOfSlow {
		b.Run(strings.ReplaceAll(kind.name, " ", "-"), func(b *testing.B) {
			for range b.N {
				r := servertest.Start(b, servertest.Options{})
				bucketOfLoad(b, r)
				largeObject(b, r)
				l := startSlowLoad(b, r)
				l.p99(n)
				alone := l.p99(n)
				stop := kind.begin(r)
				first, later := l.p99(n), l.p99(n)
				for what, got := range map[string]map[string]float64{"at-first": first, "later": later} {
					for _, op := range []string{"PUT", "GET"} {
						b.Logf("%s: p99 of %s %.0f ms, without them %.0f ms", what, op, got[op], alone[op])
						b.ReportMetric(got[op]/alone[op], op+"-"+what)
					}
				}
				b.Logf("the slow ones were told: %v", stop())
				l.end(b)
				r.Kill(r.Nodes()...)
			}
		})
	}
}
