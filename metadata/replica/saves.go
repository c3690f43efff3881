package replica

import (
	"slices"
	"sync"
	"time"
)

// keptSaves bounds how many synced saves of the log a pace is taken from.
const keptSaves = 512

// saveTimes remembers how long the last synced saves of the log took.
type saveTimes struct {
	mu    sync.Mutex
	began time.Time // of the one under way; zero if none is
	took  []saveTime
	next  int
}

type saveTime struct {
	at   time.Time
	took time.Duration
}

func (s *saveTimes) begin() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
	return s.began
}

// end of a save; without a sync it says nothing of the disk.
func (s *saveTimes) end(sync bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	t := saveTime{now, now.Sub(s.began)}
	s.began = time.Time{}
	switch {
	case !sync:
	case len(s.took) < keptSaves:
		s.took = append(s.took, t)
	default:
		s.took[s.next] = t
		s.next = (s.next + 1) % keptSaves
	}
}

// SaveP99 is what 99 in 100 synced writes to the raft log took at most of late, the
// one under way included if it has taken longer; zero if there were none.
func (h *Host) SaveP99(lately time.Duration) time.Duration {
	s := &h.saves
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var took []time.Duration
	for _, t := range s.took {
		if now.Sub(t.at) < lately {
			took = append(took, t.took)
		}
	}
	var p99 time.Duration
	if len(took) > 0 {
		slices.Sort(took)
		p99 = took[(len(took)*99-1)/100]
	}
	if !s.began.IsZero() {
		p99 = max(p99, now.Sub(s.began))
	}
	return p99
}
