package reach

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
)

// Config of a Prober. Zero durations mean the default in brackets.
type Config struct {
	Self cluster.NodeID
	// Peers are whom to ask, at most MaxPeers of them; looked at in each round.
	Peers func() []cluster.NodeID
	// Ask makes one call. It may be called concurrently, once at a time for a peer.
	Ask     func(ctx context.Context, id cluster.NodeID) (Answer, error)
	Every   time.Duration // between two questions to a peer [300 ms]
	Timeout time.Duration // of one [1 s]
	// Missing is how long a peer has not answered when it counts as missing: it is
	// longer than Timeout, so that one slow answer is not enough [1.3 s].
	Missing time.Duration
	Now     func() time.Time // this node's clock [time.Now]
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Self == "" || c.Peers == nil || c.Ask == nil {
		errs = append(errs, errors.New("reach: Self, Peers and Ask are needed"))
	}
	if c.Every < 0 || c.Timeout < 0 || c.Missing < 0 {
		errs = append(errs, errors.New("reach: negative duration"))
	}
	return errors.Join(errs...)
}

// peer is what is known of one. A peer that was never asked to an end is not
// missing: others may know better.
type peer struct {
	asking bool
	asked  bool      // at least one question has ended
	failed bool      // the last one did
	good   time.Time // when the last question began that was answered, on the monotonic clock
	view   Answer
	offset time.Duration // its clock minus ours
	took   []answered    // the latest answers, the oldest first
}

// answered is one answer.
type answered struct {
	at   time.Time
	took time.Duration
}

const (
	// keptAnswers of a peer are enough for six seconds of them.
	keptAnswers = 20
	// paceAnswers there must be to tell a peer's pace.
	paceAnswers = 4
)

// Prober asks the peers. Safe for concurrent use.
type Prober struct {
	cfg   Config
	start time.Time

	mu      sync.Mutex
	peers   map[cluster.NodeID]*peer
	changed chan struct{} // closed and replaced when somebody became missing or came back
}

// New checks its configuration; Run asks.
func New(cfg Config) (*Prober, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Every = cmp.Or(cfg.Every, 300*time.Millisecond)
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Second)
	cfg.Missing = cmp.Or(cfg.Missing, 1300*time.Millisecond)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Prober{cfg: cfg, start: time.Now(), peers: map[cluster.NodeID]*peer{}, changed: make(chan struct{})}, nil
}

// Run asks until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	t := time.NewTicker(p.cfg.Every)
	defer t.Stop()
	was := map[cluster.NodeID]bool{}
	for {
		for _, id := range p.due() {
			wg.Go(func() { p.ask(ctx, id) })
		}
		p.notify(was)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// due are the peers that no question is under way to. Those that are no peers any
// more are forgotten.
func (p *Prober) due() []cluster.NodeID {
	ids := p.cfg.Peers()
	ids = ids[:min(len(ids), MaxPeers)]
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []cluster.NodeID
	for id, q := range p.peers {
		if !slices.Contains(ids, id) && !q.asking {
			delete(p.peers, id)
		}
	}
	for _, id := range ids {
		if id == p.cfg.Self {
			continue
		}
		q := p.peers[id]
		if q == nil {
			q = &peer{good: time.Now()}
			p.peers[id] = q
		}
		if !q.asking {
			q.asking = true
			out = append(out, id)
		}
	}
	return out
}

func (p *Prober) ask(ctx context.Context, id cluster.NodeID) {
	actx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	began, before := time.Now(), p.cfg.Now()
	a, err := p.cfg.Ask(actx, id)
	middle := before.Add(time.Since(began) / 2)
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.peers[id]
	q.asking = false
	if ctx.Err() != nil {
		return // it was us who gave up
	}
	q.asked, q.failed = true, err != nil
	if err == nil {
		q.good, q.view = began, a
		q.took = append(q.took, answered{time.Now(), time.Since(began)})
		q.took = q.took[max(0, len(q.took)-keptAnswers):]
		q.offset = time.Unix(0, a.Clock).Sub(middle)
	}
}

// notify tells who waits that somebody is missing now, or no more.
func (p *Prober) notify(was map[cluster.NodeID]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	any := false
	for id, q := range p.peers {
		if m := p.missing(q); m != was[id] {
			was[id], any = m, true
		}
	}
	if any {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// missing needs mu.
func (p *Prober) missing(q *peer) bool {
	return q.asked && q.failed && time.Since(q.good) >= p.cfg.Missing
}

// Changed is closed when somebody becomes missing or answers again.
func (p *Prober) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Missing tells that the node was asked and has not answered for a while.
func (p *Prober) Missing(id cluster.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.peers[id]
	return q != nil && p.missing(q)
}

// Refuses tells that the node answers and takes no part with this one's zone.
func (p *Prober) Refuses(id cluster.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.peers[id]
	return q != nil && !p.missing(q) && q.view.Refused
}

// Views are the last answers of those who are not missing.
func (p *Prober) Views() map[cluster.NodeID]Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[cluster.NodeID]Answer{}
	for id, q := range p.peers {
		if q.asked && !p.missing(q) {
			out[id] = q.view
		}
	}
	return out
}

// Answer is what this node says when it is asked. Whether it refuses the asker is
// the caller's to add.
func (p *Prober) Answer() Answer {
	a := Answer{Clock: p.cfg.Now().UnixNano()}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, q := range p.peers {
		if !q.asked {
			continue
		}
		a.Asks = append(a.Asks, id)
		if p.missing(q) {
			a.Missing = append(a.Missing, id)
		}
	}
	slices.Sort(a.Asks)
	slices.Sort(a.Missing)
	return a
}

// CutOff tells whether most of those who ask a node, this one and the given ones
// that answer it, miss it. Who asks nobody has no say.
func (p *Prober) CutOff(id cluster.NodeID, others []cluster.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	asks, misses := 0, 0
	if q := p.peers[id]; q != nil && q.asked {
		asks++
		if p.missing(q) {
			misses++
		}
	}
	for _, o := range others {
		q := p.peers[o]
		if o == id || q == nil || !q.asked || p.missing(q) || !slices.Contains(q.view.Asks, id) {
			continue
		}
		asks++
		if slices.Contains(q.view.Missing, id) {
			misses++
		}
	}
	return asks > 0 && 2*misses > asks
}

// Paces tells how long nine in ten answers of each peer took at most, of those that
// came lately; nothing of a peer that gave few. What a peer did not answer does not
// count: Missing tells that.
func (p *Prober) Paces(lately time.Duration) map[cluster.NodeID]time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[cluster.NodeID]time.Duration{}
	for id, q := range p.peers {
		var took []time.Duration
		for _, a := range q.took {
			if time.Since(a.at) < lately {
				took = append(took, a.took)
			}
		}
		if len(took) >= paceAnswers {
			slices.Sort(took)
			out[id] = took[(len(took)*9-1)/10]
		}
	}
	return out
}

// Skew is how far this node's clock is before the others': the median of what
// those that answer say. It needs at least two others to be sure who is wrong, and
// is zero without them.
func (p *Prober) Skew() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var offsets []time.Duration
	for _, q := range p.peers {
		if q.asked && !q.failed {
			offsets = append(offsets, q.offset)
		}
	}
	if len(offsets) < 2 {
		return 0
	}
	slices.Sort(offsets)
	// With an even number the one nearer to our own: the doubt is ours.
	lo, hi := offsets[(len(offsets)-1)/2], offsets[len(offsets)/2]
	if lo.Abs() < hi.Abs() {
		return -lo
	}
	return -hi
}
