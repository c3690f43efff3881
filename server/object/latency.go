package object

import (
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
)

// windowSize is how many recent reads of a disk its p95 is taken from.
const windowSize = 64

// latencies remembers how fast each disk has lately answered reads, and how many
// hedges may be sent: one for every 20 chunks, so that an overloaded region is not
// loaded further by its own second requests.
type latencies struct {
	mu     sync.Mutex
	disks  map[cluster.DiskID]*window
	tokens float64
}

type window struct {
	recent [windowSize]time.Duration
	n      int
	p95    time.Duration
}

const (
	hedgeShare = 0.05
	hedgeBurst = 20
)

func (l *latencies) observe(d cluster.DiskID, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.disks == nil {
		l.disks = map[cluster.DiskID]*window{}
	}
	w := l.disks[d]
	if w == nil {
		w = &window{}
		l.disks[d] = w
	}
	w.recent[w.n%windowSize] = took
	if w.n++; w.n%16 == 0 {
		sorted := slices.Clone(w.recent[:min(w.n, windowSize)])
		slices.Sort(sorted)
		w.p95 = sorted[len(sorted)*95/100]
	}
}

// hedgeAfter is when the slowest of the disks is overdue.
func (l *latencies) hedgeAfter(floor time.Duration, disks []cluster.DiskID) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range disks {
		if w := l.disks[d]; w != nil {
			floor = max(floor, w.p95)
		}
	}
	return floor
}

// chunk earns a share of a hedge; hedge spends one if there is one.
func (l *latencies) chunk() {
	l.mu.Lock()
	l.tokens = min(l.tokens+hedgeShare, hedgeBurst)
	l.mu.Unlock()
}

func (l *latencies) hedge() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
