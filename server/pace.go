package server

import (
	"slices"
	"time"
)

// standing is how something compares with its peers in one look.
type standing int

const (
	standsUnknown standing = iota // it was not used, or there is nobody to compare with
	standsSlow
	standsBetween // too fast for slow, too slow for fast
	standsFast
)

const (
	judgeEvery = 5 * time.Second
	// What takes slowTimes as long as the median of its peers, and longer than the
	// floor, is slow in that look; what takes fastTimes as long at most is fast.
	slowTimes = 5
	fastTimes = 3
	slowFloor = 50 * time.Millisecond

	slowInARow = 3 // looks until it counts as slow,
	fastInARow = 4 // and as fast again.
	// Who is slow again within relapse of having been let off must be fast for twice
	// as many looks each time, maxRelapses times at most.
	relapse     = 10 * time.Minute
	maxRelapses = 4
)

// compare one with at least so many others; zero is one that was not used.
func compare(mine time.Duration, others []time.Duration, least int) standing {
	others = slices.DeleteFunc(slices.Clone(others), func(d time.Duration) bool { return d == 0 })
	switch usual := median(others); {
	case mine == 0:
		return standsUnknown
	case mine < slowFloor:
		return standsFast
	case len(others) < least:
		return standsUnknown
	case mine > slowTimes*usual:
		return standsSlow
	case mine > fastTimes*usual:
		return standsBetween
	}
	return standsFast
}

// worse of two standings of one thing.
func (s standing) worse(o standing) standing {
	switch {
	case s == standsUnknown:
		return o
	case o == standsUnknown:
		return s
	}
	return min(s, o)
}

// median of durations, the lower one of an even number; zero of none.
func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[(len(d)-1)/2]
}

// pace is the judgement of one thing over many looks. The zero value is not slow.
type pace struct {
	slow     bool
	row      int       // looks in a row that say otherwise
	freed    time.Time // when it was last let off
	relapses int
}

// look takes in one look and tells whether the judgement has changed. A look that
// knows nothing says nothing.
func (p *pace) look(s standing, now time.Time) (changed bool) {
	switch {
	case s == standsUnknown:
		return false
	case s == standsBetween, p.slow == (s == standsSlow):
		p.row = 0
		return false
	}
	need := slowInARow
	if p.slow {
		need = fastInARow << p.relapses
	}
	if p.row++; p.row < need {
		return false
	}
	p.slow, p.row = !p.slow, 0
	switch {
	case !p.slow:
		p.freed = now
	case !p.freed.IsZero() && now.Sub(p.freed) < relapse:
		p.relapses = min(p.relapses+1, maxRelapses)
	default:
		p.relapses = 0
	}
	return true
}
