package replica

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// secondCost is how many queries earn one second try, so that replicas that are
	// slow for all their work are not given more of it; secondMost can be saved up.
	secondCost = 20
	secondMost = 20 * secondCost
)

// Query is a linearizable read: of the local replica if there is one, else of
// any member that answers. One that does not answer soon gets another beside it.
// ErrQuery is the state machine's own error; ErrUnavailable says that nobody could
// answer in time.
func (r *Router) Query(ctx context.Context, g GroupID, q []byte) ([]byte, error) {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	// A try that is not needed any more ends by itself. Nobody waits for it: the own
	// replica may be in the middle of a sync, which nothing cuts short.
	defer cancel()
	r.earnSecond()
	var cause error
	plan := r.plan(g, false)
	answers := make(chan response, 2)
	flying := 0
	ask := func(to ReplicaID) {
		flying++
		go func() { answers <- r.try(ctx, to, methodQuery, g, q) }() // there is room for both
	}
	for {
		if flying == 0 {
			to, ok := plan.next(ctx)
			if !ok {
				return nil, fmt.Errorf("group %d: %w: %w (last try: %v)", g, ErrUnavailable, gaveUp(outer), cause)
			}
			ask(to)
		}
		late := time.NewTimer(r.cfg.HedgeAfter)
		select {
		case out := <-answers:
			flying--
			switch out.kind {
			case outcomeOK:
				late.Stop()
				return out.data, nil
			case outcomeQueryError:
				late.Stop()
				return nil, out.err()
			}
			cause = out.err()
		case <-late.C:
			if flying < cap(answers) && plan.more() && !r.Hopeless(g) && r.spendSecond() {
				to, _ := plan.another()
				ask(to)
			}
		}
		late.Stop()
	}
}

// another is the next of this round, without a wait; false if there is none.
func (p *plan) another() (ReplicaID, bool) {
	for len(p.todo) > 0 {
		to := p.todo[0]
		p.todo = p.todo[1:]
		if !p.tried[to.Host()] {
			p.tried[to.Host()] = true
			return to, true
		}
	}
	return 0, false
}

// more tells whether there is another in this round.
func (p *plan) more() bool {
	return slices.ContainsFunc(p.todo, func(to ReplicaID) bool { return !p.tried[to.Host()] })
}

func (r *Router) earnSecond() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.second = min(r.second+1, secondMost)
}

func (r *Router) spendSecond() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.second < secondCost {
		return false
	}
	r.second -= secondCost
	return true
}
