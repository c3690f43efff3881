package chaos

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Ledger is what clients were told of keys that are written once and deleted at
// most once. Times count from the start of the round.
type Ledger struct {
	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	sum       string
	put, gone act
	fixed     *bool // there or not, as the first look after the end found it
}

// act is one request: asked at from, answered at to.
type act struct {
	asked    bool
	outcome  Outcome // Done, Nothing or Unknown
	from, to time.Duration
	answered bool
}

func (a act) doneBy(t time.Duration) bool {
	return a.asked && a.answered && a.outcome == Done && a.to <= t
}

// cannotHave tells whether it has certainly not happened before t.
func (a act) cannotHave(t time.Duration) bool {
	return !a.asked || a.from >= t || a.answered && a.outcome == Nothing
}

// NewLedger is empty.
func NewLedger() *Ledger { return &Ledger{entries: map[string]*entry{}} }

// Putting notes that a body of this sum is about to be put under a fresh key.
func (l *Ledger) Putting(key, sum string, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries[key] != nil {
		panic("chaos: key " + key + " is put twice")
	}
	l.entries[key] = &entry{sum: sum, put: act{asked: true, from: at}}
}

// Put notes what came of it.
func (l *Ledger) Put(key string, o Outcome, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	e.put.outcome, e.put.to, e.put.answered = o, at, true
}

// Removing notes that the key is about to be deleted.
func (l *Ledger) Removing(key string, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[key].gone = act{asked: true, from: at}
}

// Removed notes what came of it.
func (l *Ledger) Removed(key string, o Outcome, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	e.gone.outcome, e.gone.to, e.gone.answered = o, at, true
}

// presence is what a look between two moments may show of a key.
type presence int

const (
	either presence = iota
	present
	absent
)

func (e *entry) during(from, to time.Duration) presence {
	switch {
	case e == nil, e.put.cannotHave(to), e.gone.doneBy(from):
		return absent
	case e.put.doneBy(from) && e.gone.cannotHave(to):
		return present
	}
	return either
}

// Judge says what is wrong with a read that lasted from one moment to another and
// found an object of this sum, or none.
func (l *Ledger) Judge(key string, found bool, sum string, from, to time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	switch p := e.during(from, to); {
	case found && p == absent:
		return fmt.Errorf("%s is there, and must not be: %s", key, e)
	case !found && p == present:
		return fmt.Errorf("%s is not there, and was acknowledged: %s", key, e)
	case found && sum != e.sum:
		return fmt.Errorf("%s has wrong bytes: %s", key, e)
	}
	return nil
}

// Settle is Judge after the last request: what it finds must stay.
func (l *Ledger) Settle(key string, found bool, sum string, at time.Duration) error {
	if err := l.Judge(key, found, sum, at, at); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	if e.fixed != nil && *e.fixed != found {
		return fmt.Errorf("%s flipped after everything was over: there %t, then %t: %s", key, *e.fixed, found, e)
	}
	e.fixed = &found
	return nil
}

// String is for reports.
func (e *entry) String() string {
	if e == nil {
		return "never put"
	}
	return fmt.Sprintf("put %s, deleted %s", e.put, e.gone)
}

func (a act) String() string {
	switch {
	case !a.asked:
		return "never"
	case !a.answered:
		return fmt.Sprintf("at %.3f, no answer yet", a.from.Seconds())
	}
	return fmt.Sprintf("at %.3f to %.3f (%s)", a.from.Seconds(), a.to.Seconds(), a.outcome)
}

// Count is how many keys were put and how many deleted, as acknowledged, and how
// many requests have an unknown outcome.
func (l *Ledger) Count() (put, removed, unknown int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		for i, a := range []act{e.put, e.gone} {
			switch {
			case a.asked && a.outcome == Unknown:
				unknown++
			case a.asked && a.answered && a.outcome == Done && i == 0:
				put++
			case a.asked && a.answered && a.outcome == Done:
				removed++
			}
		}
	}
	return put, removed, unknown
}

// Keys are all keys that were ever put, acknowledged or not, in order.
func (l *Ledger) Keys() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for k := range l.entries {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
