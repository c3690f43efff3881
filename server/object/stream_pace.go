package object

import (
	"time"

	"bivalve/erasure"
)

const (
	// A client that takes less than keepsBytes in stallEvery is slow, and while others
	// wait for room one that takes less than pressedBytes. It is until it takes backBytes,
	// or pressedBytes while others wait.
	keepsBytes   = 1 << 20
	backBytes    = 2 << 20
	pressedBytes = 4 << 20
	// slowPiece is read at a time for a slow client; leastPiece for one that dawdles, and
	// twice as much after each that it takes at a pace of slowPiece in stallEvery.
	slowPiece  = 256 << 10
	leastPiece = erasure.BlockBytes
	// One that takes nothing for so long of what is in its hands is cut off if others wait
	// for room: soon enough that they are served before they give up.
	stallCut = 5 * time.Second
	// stepBytes are handed over at a time to a client that has taken provenBytes since the
	// last look; firstStep bytes of a copy to one of which it is doubtful that it keeps pace,
	// and while others wait for room: then it pins none, and even a little that it takes is seen.
	stepBytes   = 256 << 10
	firstStep   = 64 << 10
	provenBytes = 256 << 10
	// readersShare: slow clients may hold so many sixteenths of the budget. What they leave
	// beside all other shares is room for one chunk of the widest code in the least budget.
	readersShare = 3
)

// took counts what the client has taken in its last turn. It needs mu.
func (r *stream) took(n int) {
	r.recent.came += n
	if r.slow {
		if r.cur == nil && (progress{n, r.lasted}).keeps(slowPiece) {
			r.piece = min(2*r.piece, slowPiece)
		}
		back := backBytes
		if r.s.waiters.Load() > 0 {
			back = pressedBytes
		}
		r.slow = r.recent.came < back*3/4 || !r.recent.keeps(back)
	}
	r.readAhead()
}

// keepsPace tells whether the client has shown of late that it does. It needs mu.
func (r *stream) keepsPace() bool {
	return !r.slow && r.recent.came >= provenBytes && r.recent.keeps(keepsBytes)
}

// turn says whose turn it is now. It needs mu.
func (r *stream) turn(out bool) {
	r.tick()
	now := time.Now()
	if r.out {
		r.lasted = now.Sub(r.began)
	}
	r.out, r.since, r.began = out, now, now
}

// tick counts the time of the client's turn. It needs mu.
func (r *stream) tick() {
	if !r.out {
		return
	}
	now := time.Now()
	r.recent.took += now.Sub(r.since)
	r.since = now
}

// look finds out whether the client is slow. Its pace is what it takes in the time that
// is its own, of a second or, while others wait for room, a quarter; one that is known to
// be slow always has a second to show another.
func (r *stream) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.watch.Reset(stallFirst)
	r.tick()
	whole, least := stallEvery, keepsBytes
	if r.s.waiters.Load() > 0 {
		if r.pinned && r.cut != nil && time.Since(r.began) >= stallCut {
			r.cut()
		}
		if !r.slow {
			whole, least = stallFirst, pressedBytes
		}
	}
	if r.recent.took < whole*3/4 {
		return
	}
	if r.out && !r.recent.keeps(least) {
		r.yield()
	}
	r.recent = progress{}
}

// yield gives back what a slow client has not in its hands; one that was slow before and
// does not dawdle keeps its piece. It needs mu.
func (r *stream) yield() {
	dawdles := r.recent.dawdles()
	if r.slow && !dawdles {
		return
	}
	r.slow, r.piece = true, slowPiece
	if dawdles {
		r.piece = leastPiece
	}
	r.drop()
	if r.cur != nil {
		r.giveBack()
	}
}

// giveBack gives what is behind the part in the client's hands back; it is read again.
// Nothing is ahead. It needs mu.
func (r *stream) giveBack() {
	keep := 0
	if r.pinned {
		keep = 1
	}
	if len(r.cur.parts) > keep {
		r.at = r.behind[keep].moved(-len(r.cur.parts[keep].view))
		r.s.freeParts(r.cur, keep, len(r.cur.parts))
		r.behind = r.behind[:keep]
	}
	r.emptied()
}
