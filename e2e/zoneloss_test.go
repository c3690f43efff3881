//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// outage is what losing a zone cost: the longest time without an answer.
type outage struct{ reads, writes time.Duration }

// TestZoneLoss kills every server of a zone in the midst of work through the
// other: an `aws s3 sync`, a multipart upload, and clients that keep a ledger.
func TestZoneLoss(t *testing.T) {
	cli := program(t, "aws")
	rounds := 1
	if s := os.Getenv("BIVALVE_E2E_ROUNDS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	costs := map[string][]outage{}
	for i := range rounds {
		for _, zone := range []string{"a", "b"} {
			t.Run(fmt.Sprintf("%s-%d", zone, i+1), func(t *testing.T) {
				l := &loss{t: t, zone: zone, other: map[string]string{"a": "b", "b": "a"}[zone], cli: cli, seed: uint64(i)}
				costs[zone] = append(costs[zone], l.run())
			})
		}
	}
	rows := []string{"", "| lost | runs | min | median | p90 | max |", "|---|---|---|---|---|---|"}
	for _, zone := range []string{"a", "b"} {
		var reads, writes []time.Duration
		for _, c := range costs[zone] {
			reads, writes = append(reads, c.reads), append(writes, c.writes)
		}
		if len(reads) > 0 {
			rows = append(rows, distribution("zone "+zone+", reads", reads), distribution("zone "+zone+", writes", writes))
		}
	}
	t.Log(strings.Join(rows, "\n"))
}

// loss is one round, on a region of its own: a zone that missed writes is not
// whole again until it is resynced, so a second loss would prove nothing.
type loss struct {
	t           *testing.T
	zone, other string // the one that is killed, the one that is used
	cli         string
	seed        uint64
	r           *region
	ledger      *ledger
}

func (l *loss) run() outage {
	t := l.t
	r := startDemo(t, options{})
	l.r = r
	const bucket = "loss"
	r.makeBucket(t, bucket)
	l.ledger = newLedger(bucket)
	survivor := r.client(t, r.endpoint(t, l.other))

	// What is there before.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	known := map[string][]byte{}
	for i, size := range []int{100, 300 << 10, 5 << 20} {
		key := fmt.Sprintf("known/%d", i)
		known[key] = noiseBytes(uint64(1000+i), size)
		if err := put(ctx, survivor, bucket, key, bytes.NewReader(known[key])); err != nil {
			t.Fatal(err)
		}
		l.ledger.ack(key, sumBytes(known[key]))
	}

	jobs, jobsCtx := errgroup.WithContext(ctx)
	tree := filepath.Join(goRoot(t), "runtime")
	jobs.Go(func() error {
		out, err := r.command(t, l.cli, "--endpoint-url", r.endpoint(t, l.other), "s3", "sync", "--only-show-errors", tree, "s3://"+bucket+"/tree")
		if err != nil {
			return fmt.Errorf("aws s3 sync: %w\n%s", err, out)
		}
		return nil
	})
	// The upload's second half is not read before the zone is dead, so that the
	// loss falls into its midst.
	killed := make(chan struct{})
	const size = 96 << 20
	whole := noiseBytes(l.seed, size)
	half := &gate{r: bytes.NewReader(whole), left: size / 2, open: killed, reached: make(chan struct{})}
	jobs.Go(func() error {
		up := manager.NewUploader(survivor, func(u *manager.Uploader) { u.PartSize = 8 << 20; u.Concurrency = 3 })
		_, err := up.Upload(jobsCtx, &s3.PutObjectInput{Bucket: ptr(bucket), Key: ptr("multipart"), Body: half})
		if err != nil {
			return fmt.Errorf("multipart upload: %w", err)
		}
		l.ledger.ack("multipart", sumBytes(whole))
		return nil
	})

	bg, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	reads, writes := l.probes(bucket, known)
	for _, p := range append(append([]*probe{}, reads...), writes...) {
		wg.Go(func() { p.run(bg) })
	}
	for i, endpoint := range r.endpoints(t) { // of both zones: those of the dead one fail
		wg.Go(func() { l.write(bg, i, endpoint) })
	}

	// In the midst: parts are stored, the sync is under way, probes are answered.
	select {
	case <-half.reached:
	case <-jobsCtx.Done():
		t.Fatal(jobs.Wait())
	}
	eventually(t, time.Minute, "the sync is under way", func() error {
		if n := len(listAll(t, survivor, bucket, "tree/")); n < 50 {
			return fmt.Errorf("%d files are there", n)
		}
		return nil
	})
	answered(t, append(append([]*probe{}, reads...), writes...), time.Time{}, 3)
	before := len(listAll(t, survivor, bucket, "tree/"))
	when := time.Now()
	r.stopZone(t, l.zone)
	close(killed)
	answered(t, reads, when, 20)
	answered(t, writes, when, 20)
	if err := jobs.Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "status says that the zone is down", func() error {
		if !r.zoneDown(t, l.zone) {
			return fmt.Errorf("zone %s is up", l.zone)
		}
		return nil
	})
	stop()
	wg.Wait()
	cost := outage{longest(reads, when), longest(writes, when)}
	if cost.reads > 30*time.Second || cost.writes > 30*time.Second {
		t.Errorf("without reads for %s, without writes for %s", cost.reads, cost.writes)
	}

	t.Logf("without reads for %.2f s (before the loss %.2f s at most), without writes for %.2f s (%.2f s)", cost.reads.Seconds(),
		usual(reads, when).Seconds(), cost.writes.Seconds(), usual(writes, when).Seconds())
	acked, refused := l.ledger.count()
	l.ledger.verify(t, l.clients(l.other)...)
	files := l.sameTree(tree, survivor)
	t.Logf("zone %s died when sync had stored %d of %d files; %d acknowledged writes (%d refused) read back with it dark",
		l.zone, before, files, acked, refused)
	l.comesBack(tree)
	return cost
}

// probes: readers of small and large objects and writers of the same, through all
// nodes of the zone that stays. Their keys spread over the metadata partitions.
func (l *loss) probes(bucket string, known map[string][]byte) (reads, writes []*probe) {
	for i, endpoint := range l.r.info(l.t).Endpoints[l.other] {
		c := l.r.impatient(l.t, endpoint)
		for key, want := range known {
			if len(want) > 1<<20 {
				continue
			}
			reads = append(reads, &probe{name: "read " + key, ask: func(ctx context.Context, _ int) error {
				body, err := fetch(ctx, c, bucket, key)
				if err == nil && !bytes.Equal(body, want) {
					l.t.Errorf("%s read back wrong", key)
				}
				return err
			}})
		}
		for j, size := range []int{1 << 10, 100 << 10} {
			name := fmt.Sprintf("probe/%d-%d", i, j)
			writes = append(writes, &probe{name: "write " + name, ask: func(ctx context.Context, n int) error {
				return l.ledger.put(ctx, c, fmt.Sprintf("%s/%d", name, n), uint64(n), size)
			}})
		}
	}
	return reads, writes
}

// write keeps storing objects of all sizes through one endpoint.
func (l *loss) write(ctx context.Context, i int, endpoint string) {
	c := l.r.impatient(l.t, endpoint)
	sizes := []int{0, 1000, 16 << 10, 16<<10 + 1, 200 << 10, 5<<20 + 3}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		// What is under way at the end is awaited: its outcome would be unknown.
		_ = l.ledger.put(context.WithoutCancel(ctx), c, fmt.Sprintf("ledger/%d/%d", i, n), uint64(n), sizes[n%len(sizes)])
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (l *loss) clients(zones ...string) []*s3.Client {
	var out []*s3.Client
	for _, z := range zones {
		for _, e := range l.r.info(l.t).Endpoints[z] {
			out = append(out, l.r.client(l.t, e))
		}
	}
	return out
}

// sameTree compares what sync stored with what it was given.
func (l *loss) sameTree(tree string, c *s3.Client) int {
	want, got := sumTree(l.t, tree), map[string]string{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(8)
	for key := range listAll(l.t, c, l.ledger.bucket, "tree/") {
		g.Go(func() error {
			body, err := fetch(context.Background(), c, l.ledger.bucket, key)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[strings.TrimPrefix(key, "tree/")] = sumBytes(body)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		l.t.Fatal(err)
	}
	sameSums(l.t, want, got)
	return len(want)
}

// comesBack plugs the zone in again: it must serve, through its own endpoints,
// all that was acknowledged before and meanwhile, and take new writes.
func (l *loss) comesBack(tree string) {
	t, r := l.t, l.r
	r.startZone(t, l.zone)
	r.allUp(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	l.ledger.verify(t, l.clients(l.zone)...)
	for i, c := range l.clients("a", "b") {
		for j, size := range []int{500, 1 << 20} {
			if err := l.ledger.put(ctx, c, fmt.Sprintf("after/%d-%d", i, j), uint64(i), size); err != nil {
				t.Errorf("a write after the zone came back: %v", err)
			}
		}
	}
	l.ledger.verify(t, l.clients("a", "b")...)
	l.sameTree(tree, l.clients(l.zone)[0])
}

// gate is a reader that stops half way until it is opened.
type gate struct {
	r       io.Reader
	left    int
	open    <-chan struct{}
	reached chan struct{}
	once    sync.Once
}

func (g *gate) Read(p []byte) (int, error) {
	if g.left <= 0 {
		g.once.Do(func() { close(g.reached) })
		<-g.open
		return g.r.Read(p)
	}
	n, err := g.r.Read(p[:min(len(p), g.left)])
	g.left -= n
	return n, err
}

func ptr[T any](v T) *T { return &v }
