//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// load is clients at a bounded pace, one for each endpoint, with the SDK's own
// retries: each puts an object, then gets one that was acknowledged earlier.
type load struct {
	ledger *ledger
	r      *region
	runs   int
	stop   func()

	mu         sync.Mutex
	keys       []string
	puts, gets int
	lenient    []string // endpoints that may answer 503 or nothing at all
	bad        []string
	excused    int
}

const (
	loadEvery    = 400 * time.Millisecond
	loadPatience = time.Minute
)

var loadSizes = []int{1000, 17_000, 70_000, 300_000, 20_000, 150_000, 1 << 20, 40_000}

// startLoad works until the test ends or stop is called.
func (r *region) startLoad(t testing.TB, bucket string) *load {
	t.Helper()
	r.makeBucket(t, bucket)
	l := &load{ledger: newLedger(bucket), r: r}
	l.begin(t)
	t.Cleanup(func() { l.stop() })
	return l
}

// begin works on where stop has left off.
func (l *load) begin(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	l.stop = func() { cancel(); wg.Wait() }
	l.runs++
	for i, endpoint := range l.r.endpoints(t) {
		c := l.r.client(t, endpoint)
		name := fmt.Sprintf("load/%d/%d", l.runs, i)
		wg.Go(func() { l.work(ctx, c, i, name, endpoint) })
	}
}

func (l *load) work(ctx context.Context, c *s3.Client, worker int, name, endpoint string) {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	rng := rand.New(rand.NewPCG(uint64(worker), 5))
	for n := 0; ctx.Err() == nil; n++ {
		// What is under way at the end is awaited: its outcome would be unknown.
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadPatience)
		key := fmt.Sprintf("%s/%d", name, n)
		err := l.ledger.put(rctx, c, key, uint64(worker)<<32|uint64(n), loadSizes[n%len(loadSizes)])
		l.note("PUT "+key, endpoint, err)
		if err == nil {
			l.mu.Lock()
			l.puts++
			l.keys = append(l.keys, key)
			l.mu.Unlock()
		}
		l.get(rctx, c, rng, endpoint)
		cancel()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (l *load) get(ctx context.Context, c *s3.Client, rng *rand.Rand, endpoint string) {
	l.mu.Lock()
	if len(l.keys) == 0 {
		l.mu.Unlock()
		return
	}
	key := l.keys[rng.IntN(len(l.keys))]
	l.mu.Unlock()
	l.ledger.mu.Lock()
	want := l.ledger.acked[key]
	l.ledger.mu.Unlock()
	body, err := fetch(ctx, c, l.ledger.bucket, key)
	if err == nil && sumBytes(body) != want {
		err = errWrongBytes
	}
	l.note("GET "+key, endpoint, err)
	if err == nil {
		l.mu.Lock()
		l.gets++
		l.mu.Unlock()
	}
}

var errWrongBytes = errors.New("wrong bytes")

// note keeps an error that no client should have seen.
func (l *load) note(what, endpoint string, err error) {
	if err == nil {
		return
	}
	status, _ := statusOf(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.lenient, endpoint) && !errors.Is(err, errWrongBytes) && (status == 0 || status == 503) {
		l.excused++
		return
	}
	l.bad = append(l.bad, fmt.Sprintf("%s by %s: %v", what, endpoint, err))
}

// excuse lets these endpoints, and no others, fail to answer.
func (l *load) excuse(endpoints ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lenient = endpoints
}

// goesOn waits for so many more puts and gets.
func (l *load) goesOn(t testing.TB, n int) {
	t.Helper()
	l.mu.Lock()
	puts, gets := l.puts+n, l.gets+n
	l.mu.Unlock()
	eventually(t, 2*time.Minute, "clients go on", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.puts < puts || l.gets < gets {
			return fmt.Errorf("%d puts of %d, %d gets of %d; %d errors: %q", l.puts, puts, l.gets, gets, len(l.bad), l.bad[:min(3, len(l.bad))])
		}
		return nil
	})
}

// blameless fails the test for what clients saw since the last time.
func (l *load) blameless(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.bad) > 0 {
		t.Errorf("clients saw %d errors: %q", len(l.bad), l.bad[:min(5, len(l.bad))])
	}
	l.bad = nil
}

// readable reads all that was acknowledged since the mark through the endpoints
// of each zone.
func (l *load) readable(t testing.TB, r *region, from int) {
	t.Helper()
	l.mu.Lock()
	part := newLedger(l.ledger.bucket)
	l.ledger.mu.Lock()
	for _, k := range l.keys[from:] {
		part.acked[k] = l.ledger.acked[k]
	}
	l.ledger.mu.Unlock()
	l.mu.Unlock()
	for _, zone := range []string{"a", "b"} {
		part.verify(t, r.zoneClients(t, zone)...)
	}
}

// acked are the keys of all objects that were acknowledged, the latest first.
func (l *load) acked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.keys)
	slices.Reverse(out)
	return out
}

// mark is how many objects were acknowledged so far.
func (l *load) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.keys)
}

func (r *region) zoneClients(t testing.TB, zone string) (out []*s3.Client) {
	for _, e := range r.info(t).Endpoints[zone] {
		out = append(out, r.client(t, e))
	}
	return out
}
