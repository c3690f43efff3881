package replica

import "sync"

// inbox is everything that waits for the loop. Each part has a bound of its own,
// so that a flood of messages cannot keep a proposal or a tick out.
type inbox struct {
	wake chan struct{} // holds one token

	maxBytes, maxProposalBytes int

	mu sync.Mutex
	batch
	msgBytes  int
	propBytes map[GroupID]int
}

// batch is what one turn works on.
type batch struct {
	ticks int
	msgs  []groupMessage
	props []*proposal
	reads []*readWaiter
	calls []func()
}

const (
	maxWaitingReads = 1 << 16
	maxTicks        = electionTicks // after a stall, no more than this is caught up
)

func (in *inbox) init(cfg *Config) {
	in.wake = make(chan struct{}, 1)
	in.maxBytes, in.maxProposalBytes = cfg.InboxBytes, cfg.ProposalBytes
	in.propBytes = map[GroupID]int{}
}

// ring wakes the loop.
func (in *inbox) ring() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

func (in *inbox) tick() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ticks = min(in.ticks+1, maxTicks)
}

// addMessages takes as many as fit and returns how many did not.
func (in *inbox) addMessages(msgs []groupMessage) (dropped int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, m := range msgs {
		if in.msgBytes+m.bytes > in.maxBytes && in.msgBytes > 0 {
			dropped = len(msgs) - i
			break
		}
		in.msgs = append(in.msgs, m)
		in.msgBytes += m.bytes + 64
	}
	in.ring()
	return dropped
}

func (in *inbox) addProposal(p *proposal) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if have := in.propBytes[p.group]; have > 0 && have+len(p.data) > in.maxProposalBytes {
		return false
	}
	in.propBytes[p.group] += len(p.data) + 64
	in.props = append(in.props, p)
	in.ring()
	return true
}

func (in *inbox) addRead(r *readWaiter) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.reads) >= maxWaitingReads {
		return false
	}
	in.reads = append(in.reads, r)
	in.ring()
	return true
}

// call runs f on the loop. Callers are few: each waits for its call, or is one
// of the bounded number of snapshots under way.
func (in *inbox) call(f func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.calls = append(in.calls, f)
	in.ring()
}

// takeTicks leaves all else where it is.
func (in *inbox) takeTicks() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := in.ticks
	in.ticks = 0
	return n
}

// takeCallers leaves messages and calls where they are.
func (in *inbox) takeCallers() ([]*proposal, []*readWaiter) {
	in.mu.Lock()
	defer in.mu.Unlock()
	props, reads := in.props, in.reads
	in.props, in.reads = nil, nil
	clear(in.propBytes)
	return props, reads
}

// take empties the inbox.
func (in *inbox) take() batch {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.batch
	in.batch = batch{}
	in.msgBytes = 0
	clear(in.propBytes)
	return b
}
