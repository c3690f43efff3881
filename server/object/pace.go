package object

import (
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// The pace of a body is taken from so much time of waiting for it; of one of which
	// nothing is known yet, or that holds a chunk's room while others wait, from stallFirst.
	stallEvery = time.Second
	stallFirst = stallEvery / 4
	// One that brings less than leastBytes in stallEvery dawdles.
	leastBytes = 64 << 10
	// One is prompt if its pace brings what the chunk lacks in this time. One that has
	// been given a chunk's room, and would need longer than tolerable, should leave it.
	promptly  = 2 * time.Second
	tolerable = 2 * promptly
	// One that holds more than there is a share for is ended after overFor, if others wait
	// for room then: a pause of the network is not held against it, nor anything while
	// there is room for all; and of those no more are ended at a time than others wait.
	overFor = 3 * time.Second / 2
)

// Of the budget, bodies of which the chunk is not there yet hold five eighths: those that
// have just come one, those of a moderate pace three, those that dawdle or wait for their
// turn one. What is left is for those that are prompt, and for what only has to be sent.
const (
	arrivingEighths = 1
	moderateEighths = 3
	slowEighths     = 1
	// claimPatience is how many times Config.BudgetWait one of a moderate pace waits for
	// its turn: those before it need long.
	claimPatience = 3
)

// intakes is what of the budget bodies hold by their pace.
type intakes struct {
	arriving *semaphore.Weighted
	moderate *semaphore.Weighted

	mu        sync.Mutex
	slow      int64
	slowLimit int64
	ending    int // bodies that are being ended for the sake of others
}

func newIntakes(budget int64) *intakes {
	return &intakes{arriving: semaphore.NewWeighted(budget * arrivingEighths / 8),
		moderate: semaphore.NewWeighted(budget * moderateEighths / 8), slowLimit: budget * slowEighths / 8}
}

// hold takes n more bytes of the share of slow bodies if there is so much left; a
// negative n gives back.
func (i *intakes) hold(n int64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n > 0 && i.slow+n > i.slowLimit {
		return false
	}
	i.slow += n
	return true
}

// endOne counts one more that is being ended, if fewer are than wait.
func (i *intakes) endOne(waiters int64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if int64(i.ending) >= waiters {
		return false
	}
	i.ending++
	return true
}

// endedOne counts it out.
func (i *intakes) endedOne() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ending--
}

// progress is how many bytes came in how much time of waiting for them.
type progress struct {
	came int
	took time.Duration
}

func (p progress) dawdles() bool { return !p.keeps(leastBytes) }

// keeps tells whether it is so many bytes in stallEvery.
func (p progress) keeps(bytes int) bool {
	return float64(p.came)*stallEvery.Seconds() >= float64(bytes)*p.took.Seconds()
}

// brings tells whether that pace promises what the chunk lacks, its end at least, within d.
// It needs mu.
func (in *intake) brings(p progress, d time.Duration) bool {
	return float64(max(1, in.length-in.got))*p.took.Seconds() <= float64(p.came)*d.Seconds()
}

// readBytes are read at a time: the pace of one that fills whatever it is given, as
// encryption does, would else be seen shard by shard.
const readBytes = 64 << 10

// read takes bytes of the chunk from the body, and the time that they took.
func (in *intake) read(p []byte) (int, error) {
	in.mu.Lock()
	in.reading, in.since = true, time.Now()
	in.mu.Unlock()
	n, err := in.body.Read(p[:min(len(p), readBytes)])
	in.mu.Lock()
	defer in.mu.Unlock()
	in.tick()
	in.reading = false
	in.got += n
	in.timed.came += n
	in.recent.came += n
	return n, err
}

// tick counts the time of the read that is under way. It needs mu.
func (in *intake) tick() {
	now := time.Now()
	d := now.Sub(in.since)
	in.timed.took += d
	in.recent.took += d
	in.since = now
}

// look finds out how fast the body comes, and ends it if it holds what others wait for.
// While it waits for us its pace is not known.
func (in *intake) look() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.watch == nil {
		return // all is there
	}
	in.watch.Reset(stallFirst)
	if !in.reading {
		in.recent = progress{}
		return
	}
	in.tick()
	waiters := in.s.waiters.Load()
	long := in.recent.took >= stallEvery*3/4
	soon := in.recent.took >= stallFirst*3/4 && (in.how == unknown || in.how == prompt && waiters > 0)
	if long || soon {
		in.judge(in.recent, long)
		if long || in.how != unknown {
			in.recent = progress{}
		}
	}
	if in.interrupt != nil && !in.ended && !in.over.IsZero() && in.since.Sub(in.over) >= overFor && in.s.intakes.endOne(waiters) {
		in.ended, in.refused = true, in.how == prompt || in.how == moderate
		in.interrupt()
	}
}

// judge acts on what came of late, in a long time or a short one. It needs mu.
func (in *intake) judge(p progress, long bool) {
	switch dawdles := p.dawdles() && long; {
	case in.how == unknown:
		if in.slow == 0 && !in.brings(p, promptly) && !in.holdSample() && dawdles {
			in.overstay()
		}
	case dawdles:
		if in.how != dawdling {
			in.how = dawdling
			in.disclaim()
			in.giveUnlent()
		}
		in.share()
	case in.how == moderate, in.how == prompt && in.brings(p, promptly):
		in.over = time.Time{}
	case in.brings(p, promptly):
		in.settle(prompt)
	case !p.dawdles() && in.s.intakes.moderate.TryAcquire(in.claim):
		in.claimed = true
		in.giveUnlent()
		in.settle(moderate)
	case in.how == dawdling || !in.brings(p, tolerable):
		in.giveUnlent()
		in.overstay()
	}
}

// settle is of one for whose pace there is room. It needs mu.
func (in *intake) settle(how manner) {
	in.how, in.over = how, time.Time{}
	in.hold(-in.slow)
	in.arrived()
}

// share counts what one that dawdles holds. It needs mu.
func (in *intake) share() {
	if more := int64(len(in.shards)*in.shard+len(in.sample)) - in.slow; more > 0 && !in.hold(more) {
		in.overstay()
		return
	}
	in.over = time.Time{}
	in.arrived()
}

// overstay is of one that holds more than there is a share for. It needs mu.
func (in *intake) overstay() {
	if in.over.IsZero() {
		in.over = time.Now()
	}
}

// giveUnlent gives the room back in which no shard lies. It needs mu.
func (in *intake) giveUnlent() {
	in.s.release(int64((in.room - len(in.shards)) * in.shard))
	in.room = len(in.shards)
}

// hold is intakes.hold for this body. It needs mu.
func (in *intake) hold(n int64) bool {
	if !in.s.intakes.hold(n) {
		return false
	}
	in.slow += n
	return true
}

// arrived ends the time in which it counts as one that has just come. It needs mu.
func (in *intake) arrived() {
	if in.arriving > 0 {
		in.s.intakes.arriving.Release(in.arriving)
		in.arriving = 0
	}
}

// disclaim gives a claim back. It needs mu.
func (in *intake) disclaim() {
	if in.claimed {
		in.s.intakes.moderate.Release(in.claim)
		in.claimed = false
	}
}
