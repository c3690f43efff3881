package chaos

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kind is what an operation does to its key.
type Kind int

// The kinds.
const (
	Read   Kind = iota // GET, HEAD, LIST, the source of a COPY
	Write              // PUT, COPY, CompleteMultipartUpload
	Remove             // DELETE
	Differ             // a read that says only that the content is not Match
)

// Ask is one operation on one key. Contents are names, "" stands for no object.
type Ask struct {
	Kind    Kind
	Verb    string // as the log shows it
	Key     string
	Via     string // the node that was asked
	Content string // what a Write writes
	Absent  bool   // it asks that there be no object
	Match   string // it asks that this be there; "" = it does not ask
}

// Saw is what it was answered.
type Saw struct {
	Unknown bool   // it may have happened, then or later
	Unmet   bool   // its condition did not hold
	Content string // what a Read found
}

// model is one key; its state is the content that is there.
var model = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, ask, saw := state.(string), input.(Ask), output.(Saw)
		holds := !(ask.Absent && now != "") && !(ask.Match != "" && ask.Match != now)
		switch {
		case ask.Kind == Read:
			return saw.Content == now, now
		case ask.Kind == Differ:
			return ask.Match != now, now
		case saw.Unmet:
			return !holds, now
		case !holds: // an unknown one did nothing; a known one cannot have been here
			return saw.Unknown, now
		case ask.Kind == Remove:
			return true, ""
		}
		return true, ask.Content
	},
	DescribeOperation: func(input, output any) string { return describe(input.(Ask), output.(Saw)) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%q", state) },
}

func describe(a Ask, s Saw) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s via %s", a.Verb, a.Via)
	if a.Kind == Write {
		fmt.Fprintf(&b, " %s", a.Content)
	}
	if a.Absent {
		b.WriteString(" if there is none")
	}
	if a.Match != "" {
		fmt.Fprintf(&b, " if it is %s", a.Match)
	}
	switch {
	case s.Unknown:
		b.WriteString(" -> unknown")
	case s.Unmet || a.Kind == Differ:
		b.WriteString(" -> condition not met")
	case a.Kind == Read && s.Content == "":
		b.WriteString(" -> no object")
	case a.Kind == Read:
		fmt.Fprintf(&b, " -> %s", s.Content)
	default:
		b.WriteString(" -> done")
	}
	return b.String()
}

// History is what all clients asked and were answered, by key.
type History struct {
	mu    sync.Mutex
	byKey map[string][]porcupine.Operation
	total int
	open  int
}

// NewHistory is empty.
func NewHistory() *History { return &History{byKey: map[string][]porcupine.Operation{}} }

// Add enters one operation; times count from the start of the round. One of
// unknown outcome may take effect at any time from its call on.
func (h *History) Add(client int, a Ask, s Saw, call, end time.Duration) {
	op := porcupine.Operation{ClientId: client, Input: a, Output: s, Call: int64(call), Return: int64(end)}
	if s.Unknown {
		op.Return = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byKey[a.Key] = append(h.byKey[a.Key], op)
	h.total++
	if s.Unknown {
		h.open++
	}
}

// Keys are all keys that were asked for, in order.
func (h *History) Keys() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for k := range h.byKey {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Size is how many operations there are, and how many of unknown outcome.
func (h *History) Size() (total, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total, h.open
}

// Verdict is what became of the check of all keys.
type Verdict struct {
	Keys    int
	Tangled []string // keys that could not be judged in time
	Broken  []string // keys that fit no order of events
}

// Check judges every key, each for at most limit.
func (h *History) Check(limit time.Duration) Verdict {
	var v Verdict
	for _, key := range h.Keys() {
		v.Keys++
		switch h.checkKey(key, limit) {
		case porcupine.Illegal:
			v.Broken = append(v.Broken, key)
		case porcupine.Unknown:
			v.Tangled = append(v.Tangled, key)
		}
	}
	return v
}

func (h *History) checkKey(key string, limit time.Duration) porcupine.CheckResult {
	h.mu.Lock()
	ops := slices.Clone(h.byKey[key])
	h.mu.Unlock()
	return porcupine.CheckOperationsTimeout(model, ops, limit)
}

// Text is the history of one key, in the order of the calls.
func (h *History) Text(key string) string {
	h.mu.Lock()
	ops := slices.Clone(h.byKey[key])
	h.mu.Unlock()
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s:\n", key)
	for _, op := range ops {
		end := "          -"
		if op.Return != math.MaxInt64 {
			end = fmt.Sprintf("%11.6f", time.Duration(op.Return).Seconds())
		}
		fmt.Fprintf(&b, "  %11.6f %s  client %-3d %s\n", time.Duration(op.Call).Seconds(), end, op.ClientId, describe(op.Input.(Ask), op.Output.(Saw)))
	}
	return b.String()
}
