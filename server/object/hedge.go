package object

import (
	"sync"
	"time"

	"bivalve/cluster"
)

// hedges limits second requests: one for every 20 chunks, so that an overloaded
// region is not loaded further by them.
type hedges struct {
	mu     sync.Mutex
	tokens float64
}

const (
	hedgeShare = 0.05
	hedgeBurst = 20
)

// chunk earns a share of a hedge; take spends one if there is one.
func (h *hedges) chunk() {
	h.mu.Lock()
	h.tokens = min(h.tokens+hedgeShare, hedgeBurst)
	h.mu.Unlock()
}

func (h *hedges) take() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens < 1 {
		return false
	}
	h.tokens--
	return true
}

// hedgeBudgets are what there is to spend on each kind of hedge, so that none takes
// from another: reads in the own zone, which any busy disk causes, would leave nothing
// for those in the other, which only a zone in trouble needs.
type hedgeBudgets struct{ near, far, relay hedges }

// fill them, before anybody spends.
func (b *hedgeBudgets) fill() {
	for _, h := range []*hedges{&b.near, &b.far, &b.relay} {
		h.tokens = hedgeBurst
	}
}

// lagging tells whether a disk is agreed to be slow, or its reads stand out against
// those of the others, or it does not answer: a reader then asks others first.
func (s *Store) lagging(d cluster.Disk, others []cluster.DiskID, now time.Time) bool {
	usual := s.reads.typical(others, now)
	mine := s.reads.p95(d.ID, now)
	return s.cfg.Region.DiskSlow(d) || mine > s.cfg.HedgeFloor && mine > lagTimes*usual || s.quiet(d.ID, usual, now)
}

// quiet tells whether a disk has answered no read for long.
func (s *Store) quiet(d cluster.DiskID, usual time.Duration, now time.Time) bool {
	return s.reads.silence(d, now) > max(quietFloors*s.cfg.HedgeFloor, lagTimes*usual)
}

const (
	// lagTimes is how much slower than its peers a disk must be to be asked last.
	lagTimes = 4
	// quietFloors of Config.HedgeFloor is how long a disk is silent at least before it
	// counts as quiet.
	quietFloors = 8
)
