package upkeep

import (
	"context"
	"sync"
	"time"

	"bivalve/cluster"
)

// What one call of a disk's Scrub takes: about a quarter of a second's worth, for
// a disk that is closed waits for the call.
const (
	scrubPage      = 250 * time.Millisecond
	scrubPageMost  = 256
	scrubRestMost  = 100 * time.Millisecond
	scrubYieldMost = 10
	scrubSaveEvery = 10 * time.Second
	scrubRetry     = time.Minute // after a disk that could not be read
)

// walker takes one disk through its passes.
type walker struct {
	s     *Scrubber
	disk  ScrubDisk
	again chan struct{} // cap 1: a pass was asked for

	mu    sync.Mutex
	state scrubState
	err   error // why the last page could not be read
	ended bool  // run is over: what becomes of state now is lost

	saving sync.Mutex // held around a write of the file; mu is taken within it
	// Only for the goroutine of run.
	saved time.Time
	best  float64 // bytes in a second
}

func newWalker(s *Scrubber, d ScrubDisk) *walker {
	w := &walker{s: s, disk: d, again: make(chan struct{}, 1)}
	var err error
	if w.state, err = loadScrub(s.cfg.Dir, d.ID()); err != nil {
		s.cfg.Logger.Warn("the scrub begins anew", "disk", d.ID().String(), "err", err)
	}
	return w
}

func (w *walker) run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			w.mu.Lock()
			w.ended = true
			w.mu.Unlock()
			w.save()
			return
		case <-w.again:
		case <-t.C:
		}
		t.Reset(w.step(ctx))
	}
}

// startNow begins a pass at the full rate, and tells its number: it outlives a restart, and
// the loss of the disk. It is false when the disk has just been lost.
func (w *walker) startNow() (pass uint64, ok bool) {
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return 0, false
	}
	if !w.state.Now {
		w.state.begin(w.s.cfg.Now(), true)
	}
	pass = w.state.Pass
	w.mu.Unlock()
	w.save()
	select {
	case w.again <- struct{}{}:
	default: // it is told already
	}
	return pass, true
}

func (w *walker) progress() ScrubProgress {
	bytes, groups := w.disk.Usage().LiveBytes, w.s.cfg.Groups()
	w.mu.Lock()
	defer w.mu.Unlock()
	st := &w.state
	p := ScrubProgress{Pass: st.Pass, Started: st.Started, Now: st.Now, Fraction: st.fraction(groups, bytes), ScrubCount: st.ScrubCount, Last: st.Last}
	if w.err != nil {
		p.Error = w.err.Error()
	}
	return p
}

// step verifies one page, or begins or ends a pass, and tells how long to wait.
func (w *walker) step(ctx context.Context) time.Duration {
	cfg := &w.s.cfg
	groups := cfg.Groups()
	if groups == 0 {
		return cfg.Every
	}
	w.mu.Lock()
	if now := cfg.Now(); now.Before(w.state.Started) {
		w.state.Started = now // the clock was ahead then; nothing waits for that time to come
	}
	if st := &w.state; st.Pass == 0 || st.Done {
		if early := st.Started.Add(w.s.spread()).Sub(cfg.Now()); st.Pass > 0 && early > 0 {
			w.mu.Unlock()
			return early
		}
		st.begin(cfg.Now(), false)
	}
	st := w.state
	w.mu.Unlock()
	rate, limit, left := w.speed(&st, groups)
	began := cfg.Now()
	page, err := w.disk.Scrub(ctx, st.PG, st.After, limit, makeWay(cfg.Now))
	w.s.bytes.Add(float64(page.Bytes))
	w.s.damaged.Add(float64(page.Damaged))
	if ctx.Err() != nil {
		return 0
	}
	w.mu.Lock()
	news := err != nil && w.err == nil
	w.err = err
	if err == nil && w.state.Pass == st.Pass { // else a new pass began meanwhile
		w.advance(page.Last, ScrubCount{page.Shards, page.Bytes, page.Damaged}, groups)
	}
	done := w.state.Done
	w.mu.Unlock()
	if news {
		cfg.Logger.Warn("the scrub of a disk does not go on", "disk", w.disk.ID().String(), "err", err)
	}
	if err != nil {
		return scrubRetry
	}
	if done || cfg.Now().Sub(w.saved) >= scrubSaveEvery {
		w.saved = cfg.Now()
		w.save()
	}
	took := cfg.Now().Sub(began)
	return max(min(left, spell(page.Bytes, rate)-took), w.yield(page.Bytes, took))
}

// yield is how long to leave a busy disk alone: one that gave less than half of what
// it gives at its best of late, as many times longer than the page took.
func (w *walker) yield(bytes int64, took time.Duration) time.Duration {
	return restAfter(&w.best, bytes, took)
}

// advance moves the pass on; mu is held.
func (w *walker) advance(last *cluster.ShardKey, n ScrubCount, groups int) {
	st := &w.state
	st.Shards, st.Bytes, st.Damaged = st.Shards+n.Shards, st.Bytes+n.Bytes, st.Damaged+n.Damaged
	st.After, st.PGBytes = last, st.PGBytes+n.Bytes
	if last != nil {
		return
	}
	if st.PGBytes = 0; int(st.PG)+1 < groups {
		st.PG++
		return
	}
	st.finish(w.s.cfg.Now())
	w.s.cfg.Logger.Info("a disk was scrubbed", "disk", w.disk.ID().String(), "shards", st.Shards, "bytes", st.Bytes,
		"damaged", st.Damaged, "took", st.Last.Finished.Sub(st.Started).Round(time.Second).String())
}

// speed is the rate at which what is left fits into the time that is left, below
// the ceiling; and how many shards make a page at that rate.
func (w *walker) speed(st *scrubState, groups int) (rate float64, limit int, left time.Duration) {
	cfg := &w.s.cfg
	u := w.disk.Usage()
	rate, left = float64(cfg.Rate), st.Started.Add(w.s.spread()).Sub(cfg.Now())
	if st.Now || left <= 0 {
		left = time.Hour // no matter: a page is over long before
	} else {
		rate = min(rate, max(1, float64(u.LiveBytes)*(1-st.fraction(groups, u.LiveBytes))/left.Seconds()))
	}
	each := float64(max(1, u.LiveBytes)) / float64(max(1, u.Shards))
	return rate, int(min(scrubPageMost, max(1, rate*scrubPage.Seconds()/each))), left
}

// makeWay rests before each read but the first for as long as the last one took.
func makeWay(now func() time.Time) func(context.Context, int64) error {
	var began time.Time // of the last read
	return func(ctx context.Context, _ int64) error {
		if !began.IsZero() && !sleep(ctx, min(scrubRestMost, now().Sub(began))) {
			return ctx.Err()
		}
		began = now()
		return ctx.Err()
	}
}

func (w *walker) save() {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.mu.Lock()
	st := w.state
	w.mu.Unlock()
	if err := saveScrub(w.s.cfg.Dir, w.disk.ID(), st); err != nil {
		w.s.cfg.Logger.Warn("how far the scrub is could not be written", "disk", w.disk.ID().String(), "err", err)
	}
}
