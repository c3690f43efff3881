package loadgen

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// errorPause keeps a client of a dead server from eating the machine.
const errorPause = 10 * time.Millisecond

// run is the state of one Run.
type run struct {
	cfg     Config
	payload []byte
	clients []*client
	workers []*worker
	made    bool // the bucket is ours to remove
	issued  atomic.Uint64
	nextDel atomic.Int64 // of the working set, when the operation is Delete
}

// Run prepares, measures and cleans up. A ctx that ends while it measures ends
// the measuring after the requests in flight, not the run: what was measured is
// reported. Failed requests are counted in the report and are no error of Run.
func Run(ctx context.Context, cfg Config) (rep *Report, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Prefix == "" {
		cfg.Prefix = newPrefix()
	}
	r := &run{cfg: cfg, payload: newPayload(cfg.Size)}
	tr := &http.Transport{
		MaxIdleConnsPerHost: cfg.Clients, DisableCompression: true,
		// Bodies go in and out in larger pieces than these; they hold headers.
		WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10,
	}
	defer tr.CloseIdleConnections()
	if err := r.makeClients(tr); err != nil {
		return nil, err
	}
	defer func() {
		if !cfg.Keep {
			err = errors.Join(err, r.cleanUp(ctx))
		}
	}()
	if err := r.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	return r.measure(ctx)
}

func (r *run) makeClients(tr *http.Transport) error {
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	for i := range r.cfg.Clients {
		u, err := url.Parse(r.cfg.Endpoints[i%len(r.cfg.Endpoints)])
		if err != nil {
			return err
		}
		r.clients = append(r.clients, &client{
			http: &http.Client{Transport: tr}, signer: signer, region: r.cfg.Region, endpoint: u,
			keys:    aws.Credentials{AccessKeyID: r.cfg.AccessKey, SecretAccessKey: r.cfg.SecretKey},
			timeout: r.cfg.Timeout, clock: r.cfg.Clock, buf: make([]byte, readBuffer),
		})
		r.workers = append(r.workers, &worker{run: r, client: r.clients[i], id: i, rnd: rand.New(rand.NewPCG(1, uint64(i)))})
	}
	return nil
}

// measure is the part on the clock.
func (r *run) measure(ctx context.Context) (*Report, error) {
	watch, err := watchProcesses(r.cfg.Servers)
	if err != nil {
		return nil, err
	}
	start := r.cfg.Clock.Now()
	deadline := start.Add(r.cfg.Duration)
	r.each(func(w *worker) { w.loop(ctx, deadline) })
	elapsed := r.cfg.Clock.Now().Sub(start)
	use, err := watch.end()
	if err != nil {
		return nil, err
	}
	return r.report(elapsed, use), nil
}

// each runs f for every worker at once and waits.
func (r *run) each(f func(*worker)) {
	var wg sync.WaitGroup
	for _, w := range r.workers {
		wg.Go(func() { f(w) })
	}
	wg.Wait()
}

// worker is one client and what it counted.
type worker struct {
	run     *run
	client  *client
	id      int
	rnd     *rand.Rand
	puts    uint64 // objects it tried to add: newKey(id, 0..puts-1)
	deleted uint64 // of these, from the first on
	stats   map[Op]*stats
}

// loop sends requests until the deadline. A request that began before it is
// waited for and counted.
func (w *worker) loop(ctx context.Context, deadline time.Time) {
	clock := w.run.cfg.Clock
	w.stats = map[Op]*stats{}
	begin := clock.Now()
	for begin.Before(deadline) && ctx.Err() == nil {
		if limit := w.run.cfg.MaxOps; limit > 0 && w.run.issued.Add(1) > limit {
			return
		}
		op, req, ok := w.next()
		if !ok {
			return
		}
		// Not cut short by an interrupt: what it does must be done before cleanUp.
		err := w.client.do(context.WithoutCancel(ctx), req)
		end := clock.Now()
		w.count(op, end.Sub(begin), err)
		if err != nil && !pause(ctx, errorPause) {
			return
		}
		begin = end
		if err != nil {
			begin = clock.Now()
		}
	}
}

func (w *worker) count(op Op, d time.Duration, err error) {
	s := w.stats[op]
	if s == nil {
		s = &stats{}
		w.stats[op] = s
	}
	if err != nil {
		s.fail(kindOf(err))
		return
	}
	s.latency.add(d)
	if op == Put || op == Get {
		s.bytes += w.run.cfg.Size
	}
}

// pause waits; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
