package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Peers calls the Router of another node. An error is a failure of the transport;
// unless it wraps ErrNotSent, the peer may have done what was asked. payload is
// not changed and not kept; the answer belongs to the caller.
type Peers interface {
	Call(ctx context.Context, to ReplicaID, method uint8, payload []byte) ([]byte, error)
}

// RouterConfig of a Router. Zero durations mean the default.
type RouterConfig struct {
	Host   *Host     // nil on a node without replicas
	Self   ReplicaID // this node's number
	Voters func(GroupID) []ReplicaID
	Alive  func(ReplicaID) bool // a hint that only orders the tries; nil means all
	// Reachable is false of a replica that has not answered for a while: it is not
	// tried, nor waited for, and a group of whose voters no majority is left is given up
	// at once, unless the own replica hears a leader. Nil means that nothing is known.
	Reachable func(ReplicaID) bool
	Peers     Peers
	// TryTimeout ends one try, so that a peer that hangs costs no more than this.
	TryTimeout time.Duration // 1.5 s
	// HedgeAfter is when a query that was not answered is tried elsewhere as well.
	HedgeAfter time.Duration // 400 ms
	// WatchEvery is how often is looked whether a try under way is still worth its wait.
	WatchEvery time.Duration // 100 ms
	Backoff    time.Duration // 20 ms at first, doubling up to
	MaxBackoff time.Duration // 250 ms
	Logger     *slog.Logger
}

// Validate reports every fault at once.
func (c *RouterConfig) Validate() error {
	var errs []error
	if c.Voters == nil {
		errs = append(errs, errors.New("missing Voters"))
	}
	if c.Peers == nil {
		errs = append(errs, errors.New("missing Peers"))
	}
	if c.Host != nil && c.Host.cfg.Replica != c.Self {
		errs = append(errs, errors.New("not the host's replica: Self"))
	}
	return errors.Join(errs...)
}

// Router reaches any group from any node. All methods may run concurrently.
type Router struct {
	cfg RouterConfig

	mu     sync.Mutex
	hints  map[GroupID]ReplicaID // who led when last heard of
	second int                   // what queries have earned for second tries
}

// NewRouter makes a Router. It has nothing to close.
func NewRouter(cfg RouterConfig) (*Router, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	def(&cfg.TryTimeout, 1500*time.Millisecond)
	def(&cfg.HedgeAfter, 400*time.Millisecond)
	def(&cfg.WatchEvery, 100*time.Millisecond)
	def(&cfg.Backoff, 20*time.Millisecond)
	def(&cfg.MaxBackoff, 250*time.Millisecond)
	if cfg.Alive == nil {
		cfg.Alive = func(ReplicaID) bool { return true }
	}
	if cfg.Reachable == nil {
		cfg.Reachable = func(ReplicaID) bool { return true }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Router{cfg: cfg, hints: map[GroupID]ReplicaID{}, second: secondMost}, nil
}

// Propose commits data to g through whoever leads it, and tries until it knows
// or ctx ends. Every try carries the same bytes: the state machine recognises the
// request id in them, so a try that follows a lost answer returns that answer.
//
// ErrUnknown: a try may have been accepted and no later one gave an answer.
// ErrUnavailable, ErrTooLarge: certainly nothing was proposed.
func (r *Router) Propose(ctx context.Context, g GroupID, data []byte) ([]byte, error) {
	if len(data) > maxCommand {
		return nil, fmt.Errorf("group %d: %d bytes: %w", g, len(data), ErrTooLarge)
	}
	unknown := false
	var cause error
	for plan := r.plan(g, true); ; {
		to, ok := plan.next(ctx)
		if !ok {
			break
		}
		out := r.try(ctx, to, methodPropose, g, data)
		if r.outOfReach(out, to) {
			out = r.try(ctx, to, methodForward, g, data)
		}
		switch out.kind {
		case outcomeOK:
			r.learn(g, to)
			return out.data, nil
		case outcomeNotLeader:
			plan.hint(out.leader)
			if out.leader != 0 {
				r.learn(g, out.leader)
			}
		case outcomeUnknown:
			unknown = true
			r.forget(g, to)
		case outcomeDropped:
			plan.endRound()
		default:
			r.forget(g, to)
		}
		cause = out.err()
	}
	verdict := ErrUnavailable
	if unknown {
		verdict = ErrUnknown
	}
	// The last try's error is told in words only: its kind is not the verdict.
	return nil, fmt.Errorf("group %d: %w: %w (last try: %v)", g, verdict, gaveUp(ctx), cause)
}

// outOfReach tells whether a replica of another node named a leader that this node does not
// reach, though others do: the line between the two may be cut, and no other. Then whoever
// named it is asked to pass the proposal on.
func (r *Router) outOfReach(out response, by ReplicaID) bool {
	return out.kind == outcomeNotLeader && out.leader != 0 && by.Host() != r.cfg.Self &&
		out.leader.Host() != r.cfg.Self && !r.cfg.Reachable(out.leader)
}

// forward proposes for a node that does not reach the leader. It goes one step and no
// further, so that nodes which are wrong about each other pass nothing around in circles.
func (r *Router) forward(ctx context.Context, g GroupID, data []byte) response {
	leader := r.leader(g)
	if leader == 0 || leader.Host() == r.cfg.Self {
		return r.serve(ctx, methodPropose, g, data)
	}
	out := r.try(ctx, leader, methodPropose, g, data)
	if out.kind == outcomeUnreachable { // which says something of this node's own calls only
		out.kind = outcomeUnavailable
	}
	return out
}

// gaveUp is why there were no more tries.
func gaveUp(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errNoMajority
}

// Hopeless tells whether nothing can be had of g at present: too few of its voters
// can be reached for any leader, and none is heard here. A learner's word counts for
// nothing: it takes longer than a voter to forget a leader that it does not hear.
func (r *Router) Hopeless(g GroupID) bool {
	voters, reached, voting := r.cfg.Voters(g), 0, false
	for _, v := range voters {
		own := v.Host() == r.cfg.Self
		voting = voting || own
		if own || r.cfg.Reachable(v) {
			reached++
		}
	}
	if voting && r.cfg.Host != nil && r.cfg.Host.HearsLeader(g) {
		return false
	}
	return len(voters) > 0 && reached <= len(voters)/2
}

// try asks one replica, which may be our own. It ends when nothing can come of it any
// more: a peer that answers nobody would take all of its time.
func (r *Router) try(ctx context.Context, to ReplicaID, method uint8, g GroupID, data []byte) response {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.TryTimeout)
	defer cancel()
	w := &watch{every: r.cfg.WatchEvery, end: cancel, lost: func() bool {
		return to.Host() != r.cfg.Self && !r.cfg.Reachable(to) || r.Hopeless(g)
	}}
	w.start()
	defer w.stop()
	if to.Host() == r.cfg.Self && r.cfg.Host != nil {
		return r.serve(ctx, method, g, data)
	}
	b, err := r.cfg.Peers.Call(ctx, to, method, encodeRequest(g, data))
	if err != nil {
		kind := outcomeUnknown
		if errors.Is(err, ErrNotSent) {
			kind = outcomeUnreachable
		}
		return response{kind: kind, data: []byte(fmt.Sprintf("replica %d: %v", uint64(to), err))}
	}
	out, err := decodeResponse(b)
	if err != nil {
		return response{kind: outcomeUnknown, data: []byte(fmt.Sprintf("replica %d: %v", uint64(to), err))}
	}
	return out
}

// HandleCall serves Peers.Call of another node's Router. Its error is only about
// a request that makes no sense; all else is in the answer.
func (r *Router) HandleCall(ctx context.Context, from ReplicaID, method uint8, payload []byte) ([]byte, error) {
	g, data, err := decodeRequest(payload)
	if err == nil && method != methodPropose && method != methodQuery && method != methodForward {
		err = fmt.Errorf("method %d: %w", method, ErrFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("call from replica %d: %w", uint64(from), err)
	}
	if method == methodForward {
		return encodeResponse(r.forward(ctx, g, data)), nil
	}
	return encodeResponse(r.serve(ctx, method, g, data)), nil
}

func (r *Router) serve(ctx context.Context, method uint8, g GroupID, data []byte) response {
	if r.cfg.Host == nil {
		return responseOf(nil, ErrNoGroup)
	}
	if method == methodQuery {
		return responseOf(r.cfg.Host.Query(ctx, g, data))
	}
	return responseOf(r.cfg.Host.Propose(ctx, g, data))
}

func (r *Router) learn(g GroupID, leader ReplicaID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hints[g] = leader
}

// forget drops the hint to a replica that did not answer as a leader would.
func (r *Router) forget(g GroupID, to ReplicaID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hints[g] == to {
		delete(r.hints, g)
	}
}

func (r *Router) leader(g GroupID) ReplicaID {
	if r.cfg.Host != nil {
		if l := r.cfg.Host.Leader(g); l != 0 {
			return l
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hints[g]
}

// plan is the order of the tries of one call: rounds over all candidates with a
// pause between them.
type plan struct {
	r       *Router
	g       GroupID
	write   bool
	todo    []ReplicaID
	tried   map[ReplicaID]bool // nodes, in this round
	backoff time.Duration
}

func (r *Router) plan(g GroupID, write bool) *plan {
	p := &plan{r: r, g: g, write: write, backoff: r.cfg.Backoff}
	p.round()
	return p
}

// round lines the candidates up: for a write whoever leads, for a read our own
// replica; then those that gossip calls alive, then the rest.
func (p *plan) round() {
	p.tried = map[ReplicaID]bool{}
	p.todo = p.todo[:0]
	local := p.r.cfg.Host != nil && p.r.cfg.Host.group(p.g) != nil
	if local && !p.write {
		p.todo = append(p.todo, p.r.cfg.Self)
	}
	if l := p.r.leader(p.g); l != 0 && p.r.cfg.Alive(l) && p.r.cfg.Reachable(l) {
		p.todo = append(p.todo, l)
	}
	if local && p.write {
		p.todo = append(p.todo, p.r.cfg.Self)
	}
	voters := p.r.cfg.Voters(p.g)
	for _, alive := range []bool{true, false} {
		for _, v := range voters {
			if p.r.cfg.Alive(v) == alive && p.r.cfg.Reachable(v) {
				p.todo = append(p.todo, v)
			}
		}
	}
}

// next is the replica to ask now. It waits where a round ends, and reports false
// once ctx is done or the group is hopeless.
func (p *plan) next(ctx context.Context) (ReplicaID, bool) {
	for {
		if ctx.Err() != nil || p.r.Hopeless(p.g) {
			return 0, false
		}
		if to, ok := p.another(); ok {
			return to, true
		}
		if !p.pause(ctx) {
			return 0, false
		}
		p.round()
	}
}

// pause waits half the backoff and a random part of the other half, so that many
// callers that lost the same leader do not come back as one.
func (p *plan) pause(ctx context.Context) bool {
	t := time.NewTimer(p.backoff/2 + rand.N(p.backoff/2+1))
	defer t.Stop()
	p.backoff = min(2*p.backoff, p.r.cfg.MaxBackoff)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hint puts a leader that we were told of first. A hint to one that was asked in
// this round waits for the next: two replicas may each believe in the other.
func (p *plan) hint(leader ReplicaID) {
	if leader != 0 && !p.tried[leader.Host()] && p.r.cfg.Reachable(leader) {
		p.todo = append([]ReplicaID{leader}, p.todo...)
	}
}

// endRound: the leader had no room, and nobody else could do better. After the
// pause it is asked first again.
func (p *plan) endRound() { p.todo = nil }
