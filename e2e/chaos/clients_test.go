//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// crowd are the clients of a round, of both zones, and what they have seen.
type crowd struct {
	r        *region
	start    time.Time
	contents *Contents
	history  *History
	ledger   *Ledger

	mu       sync.Mutex
	wrong    []string           // what broke a promise
	last     map[string]string  // a content that was once seen under a key
	told     map[string]*tally  // by zone
	acked    []string           // keys of the ledger that may be read or deleted
	walks    int                // listings that were finished
	badNodes map[string]outages // by zone: the longest time without a done write and read
	ended    bool               // the clients have stopped: who reads now does not tell of outages
}

// tally counts answers of a zone's clients by outcome and kind.
type tally struct {
	reads, writes map[Outcome]int
}

type outages struct{ lastRead, lastWrite, longestRead, longestWrite time.Duration }

const (
	registerBucket = "chaos-registers"
	ledgerBucket   = "chaos-ledger"
)

func newCrowd(r *region) *crowd {
	c := &crowd{r: r, start: time.Now(), contents: NewContents(), history: NewHistory(), ledger: NewLedger(), last: map[string]string{},
		told: map[string]*tally{}, badNodes: map[string]outages{}}
	for _, zone := range []string{"a", "b"} {
		c.told[zone] = &tally{reads: map[Outcome]int{}, writes: map[Outcome]int{}}
	}
	return c
}

func (c *crowd) now() time.Duration { return time.Since(c.start) }

// broken notes that a promise was broken.
func (c *crowd) broken(format string, args ...any) {
	text := fmt.Sprintf("%9.3f ", c.now().Seconds()) + fmt.Sprintf(format, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, text)
}

// count keeps an answer, and says whether it is one that may come under faults.
func (c *crowd) count(zone string, write bool, what string, a answer) bool {
	c.mu.Lock()
	t, o := c.told[zone], c.badNodes[zone]
	if at := c.now(); !c.ended && a.Outcome != Nothing && a.Outcome != Unknown {
		if write {
			o.longestWrite, o.lastWrite = max(o.longestWrite, at-o.lastWrite), at
		} else {
			o.longestRead, o.lastRead = max(o.longestRead, at-o.lastRead), at
		}
	}
	c.badNodes[zone] = o
	if write {
		t.writes[a.Outcome]++
	} else {
		t.reads[a.Outcome]++
	}
	c.mu.Unlock()
	if a.Outcome == Absurd {
		c.broken("%s: an answer that has no place here: %s %s", what, a, a.body)
	}
	return a.Outcome != Absurd
}

// end says that the clients have stopped.
func (c *crowd) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

// report is what clients were answered.
func (c *crowd) report() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, zone := range slices.Sorted(maps.Keys(c.told)) {
		t, o := c.told[zone], c.badNodes[zone]
		fmt.Fprintf(&b, "clients in %s: reads %v, writes %v; without a read for %.1f s, without a write for %.1f s at most\n", zone,
			t.reads, t.writes, o.longestRead.Seconds(), o.longestWrite.Seconds())
	}
	total, unknown := c.history.Size()
	put, removed, open := c.ledger.Count()
	fmt.Fprintf(&b, "histories: %d operations on %d keys, %d of unknown outcome\n", total, len(c.history.Keys()), unknown)
	fmt.Fprintf(&b, "ledger: %d puts and %d deletes acknowledged, %d of unknown outcome; %d listings walked", put, removed, open, c.walks)
	return b.String()
}

// crowdSize is how many clients there are of each sort in each zone, and how often
// each one asks.
type crowdSize struct {
	registers, ledgers, walkers int
	every                       time.Duration
}

var usualCrowd = crowdSize{registers: 4, ledgers: 3, walkers: 1, every: 150 * time.Millisecond}

// work runs the clients until stop is called, which waits for what is under way.
// Every client has a source of its own, from the seed.
func (c *crowd) work(seed uint64, size crowdSize) (stop func()) {
	return c.workAt(seed, 0, size, c.r.zone("a"), c.r.zone("b"))
}

// workAt has clients whose ids come after last ask nodes that are of one zone each.
func (c *crowd) workAt(seed uint64, last int, size crowdSize, at ...[]*node) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	id := last
	spawn := func(every time.Duration, turn func(w *worker, n int)) {
		for _, nodes := range at {
			zone := nodes[0].zone
			id++
			w := &worker{crowd: c, id: id, zone: zone, client: c.r.client(zone), nodes: nodes, rng: rand.New(rand.NewPCG(seed, uint64(id)))}
			wg.Go(func() {
				tick := time.NewTicker(every)
				defer tick.Stop()
				for n := 0; ctx.Err() == nil; n++ {
					turn(w, n)
					select {
					case <-ctx.Done():
					case <-tick.C:
					}
				}
			})
		}
	}
	for range size.registers {
		spawn(size.every, (*worker).register)
	}
	for range size.ledgers {
		spawn(2*size.every, (*worker).keep)
	}
	for range size.walkers {
		spawn(10*size.every, (*worker).walk)
	}
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// worker is one client at work. It asks the nodes of its zone.
type worker struct {
	*crowd
	id     int
	zone   string
	client *client
	nodes  []*node
	rng    *rand.Rand
}
