package object

import (
	"slices"
	"sync"
	"time"
)

const (
	// windowSize is how many recent calls a pace is taken from,
	windowSize = 64
	// windowAge how old the oldest of them may be,
	windowAge = time.Minute
	// and windowLeast how many there must be.
	windowLeast = 8
)

// paces remembers how fast each of a set of peers has lately answered. The zero
// value is ready.
type paces[K comparable] struct {
	mu sync.Mutex
	of map[K]*window
}

type window struct {
	recent [windowSize]sample
	n      int
	p95    time.Duration // 0: not known
	judged time.Time     // when p95 was taken

	open  []time.Time   // calls under way, since when
	heard time.Time     // when it last answered any
	vain  time.Duration // how long a call was waited for since, and then left
	left  time.Time     // when that was
}

type sample struct {
	at   time.Time
	took time.Duration
}

// window of a peer, made if there is none. The caller holds mu.
func (p *paces[K]) window(k K) *window {
	if p.of == nil {
		p.of = map[K]*window{}
	}
	w := p.of[k]
	if w == nil {
		w = &window{}
		p.of[k] = w
	}
	return w
}

// begin notes a call; end is called once, by its end or when nobody waits for it any
// more. What a peer does not answer is known of it before it answers.
func (p *paces[K]) begin(k K, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.window(k)
	w.open = append(w.open, now)
}

// end of a call that began at that time.
func (p *paces[K]) end(k K, began, now time.Time, how ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.window(k)
	if i := slices.IndexFunc(w.open, began.Equal); i >= 0 {
		w.open = slices.Delete(w.open, i, i+1)
	}
	switch how {
	case endLeft:
		if d := now.Sub(w.since(began)); d >= w.vain || now.Sub(w.left) > silenceLasts {
			w.vain, w.left = d, now
		}
		return
	case endDone:
		w.add(now, now.Sub(began))
	}
	w.heard, w.vain = now, 0
}

// ending of a call.
type ending int

const (
	endDone   ending = iota // it did what it should, and so tells the pace
	endFailed               // an answer, but none that tells the pace
	endLeft                 // nobody waited any longer
)

// since when a call that began then has waited without any other being answered.
func (w *window) since(began time.Time) time.Time {
	if w.heard.After(began) {
		return w.heard
	}
	return began
}

// silenceLasts is how long a peer that was left without an answer is taken to be
// silent still. Then the next call finds out.
const silenceLasts = time.Second

// silence is for how long a peer has answered nothing although it was asked.
func (p *paces[K]) silence(k K, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of[k]
	if w == nil {
		return 0
	}
	var d time.Duration
	if now.Sub(w.left) <= silenceLasts {
		d = w.vain
	}
	for _, began := range w.open {
		d = max(d, now.Sub(w.since(began)))
	}
	return d
}

// latest is how long the call took that was answered last, or how long the oldest one
// under way has waited since if that is longer; 0 if nothing is known.
func (p *paces[K]) latest(k K, now time.Time) (d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of[k]
	if w == nil {
		return 0
	}
	if s := w.recent[(w.n+windowSize-1)%windowSize]; w.n > 0 && now.Sub(s.at) < windowAge {
		d = s.took
	}
	for _, began := range w.open {
		d = max(d, now.Sub(w.since(began)))
	}
	return d
}

// observe notes how long a call took.
func (p *paces[K]) observe(k K, now time.Time, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window(k).add(now, took)
}

func (w *window) add(now time.Time, took time.Duration) {
	w.recent[w.n%windowSize] = sample{now, took}
	w.n++
	if w.n%windowLeast == 0 {
		w.judge(now)
	}
}

// judge takes the p95 of what is recent; 0 when that is too little.
func (w *window) judge(now time.Time) {
	var took []time.Duration
	for _, s := range w.recent[:min(w.n, windowSize)] {
		if now.Sub(s.at) < windowAge {
			took = append(took, s.took)
		}
	}
	w.p95, w.judged = 0, now
	if len(took) >= windowLeast {
		slices.Sort(took)
		w.p95 = took[(len(took)-1)*95/100]
	}
}

// p95 of one; 0 if it has not been used enough lately.
func (p *paces[K]) p95(k K, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.p95Locked(k, now)
}

func (p *paces[K]) p95Locked(k K, now time.Time) time.Duration {
	w := p.of[k]
	if w == nil {
		return 0
	}
	if now.Sub(w.judged) > windowAge/12 {
		w.judge(now)
	}
	return w.p95
}

// typical is the median of the p95s of several; 0 when fewer than half of them are
// known. One that is slow does not count for much in it.
func (p *paces[K]) typical(ks []K, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var known []time.Duration
	for _, k := range ks {
		if d := p.p95Locked(k, now); d > 0 {
			known = append(known, d)
		}
	}
	if len(known) == 0 || 2*len(known) < len(ks) {
		return 0
	}
	slices.Sort(known)
	return known[(len(known)-1)/2]
}
