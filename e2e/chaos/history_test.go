package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// told is one line of a history: who asked what, from when to when.
type told struct {
	client    int
	call, end time.Duration
	ask       Ask
	saw       Saw
}

func put(client int, call, end time.Duration, content string) told {
	return told{client, call, end, Ask{Kind: Write, Verb: "PUT", Content: content}, Saw{}}
}

func get(client int, call, end time.Duration, content string) told {
	return told{client, call, end, Ask{Kind: Read, Verb: "GET"}, Saw{Content: content}}
}

func del(client int, call, end time.Duration) told {
	return told{client, call, end, Ask{Kind: Remove, Verb: "DELETE"}, Saw{}}
}

func (o told) absent() told              { o.ask.Absent = true; return o }
func (o told) match(content string) told { o.ask.Match = content; return o }
func (o told) unmet() told               { o.saw.Unmet = true; return o }
func (o told) unknown() told             { o.saw.Unknown = true; return o }

// TestHistories judges small histories. Those that break a promise are what a
// store would show that had the fault they are named for.
func TestHistories(t *testing.T) {
	for name, c := range map[string]struct {
		ops []told
		ok  bool
	}{
		"nothing, then what was put":           {[]told{get(1, 0, 1, ""), put(1, 2, 3, "x"), get(2, 4, 5, "x")}, true},
		"a read beside a write may see either": {[]told{put(1, 0, 1, "x"), put(1, 2, 9, "y"), get(2, 3, 4, "x"), get(2, 5, 6, "y")}, true},
		"a stale read":                         {[]told{put(1, 0, 1, "x"), put(1, 2, 3, "y"), get(2, 4, 5, "x")}, false},
		"new, then old":                        {[]told{put(1, 0, 1, "x"), put(1, 2, 9, "y"), get(2, 3, 4, "y"), get(3, 5, 6, "x")}, false},
		"a lost write":                         {[]told{put(1, 0, 1, "x"), get(2, 2, 3, "")}, false},
		"resurrected":                          {[]told{put(1, 0, 1, "x"), del(1, 2, 3), get(2, 4, 5, ""), get(2, 6, 7, "x")}, false},
		"deleted":                              {[]told{put(1, 0, 1, "x"), del(1, 2, 3), get(2, 4, 5, "")}, true},
		"two that both made the key":           {[]told{put(1, 0, 5, "x").absent(), put(2, 0, 5, "y").absent()}, false},
		"one of two made the key":              {[]told{put(1, 0, 5, "x").absent(), put(2, 0, 5, "y").absent().unmet(), get(3, 6, 7, "x")}, true},
		"two swaps of one content":             {[]told{put(1, 0, 1, "x"), put(2, 2, 9, "y").match("x"), put(3, 2, 9, "z").match("x")}, false},
		"a swap that was wrongly told":         {[]told{put(1, 0, 1, "x"), put(2, 2, 3, "y").match("x").unmet()}, false},
		"a swap that fails rightly":            {[]told{put(1, 0, 1, "x"), put(2, 2, 3, "y").match("w").unmet(), get(1, 4, 5, "x")}, true},
		"unknown, done late":                   {[]told{put(1, 0, 1, "x"), put(2, 2, 3, "y").unknown(), get(1, 4, 5, "x"), get(1, 6, 7, "y")}, true},
		"unknown, never done":                  {[]told{put(1, 0, 1, "x"), put(2, 2, 3, "y").unknown(), get(1, 4, 5, "x")}, true},
		"unknown, done before it was asked":    {[]told{put(1, 0, 1, "x"), get(1, 2, 3, "y"), put(2, 4, 5, "y").unknown()}, false},
		"unknown, done and undone":             {[]told{put(1, 0, 1, "x"), put(2, 2, 3, "y").unknown(), get(1, 4, 5, "y"), get(1, 6, 7, "x")}, false},
		"an unknown condition":                 {[]told{put(1, 0, 1, "x"), put(2, 2, 3, "y").match("w").unknown(), get(1, 4, 5, "y")}, false},
		"a source that had changed":            {[]told{put(1, 0, 1, "x"), {2, 2, 3, Ask{Kind: Differ, Verb: "COPY from", Match: "x"}, Saw{}}}, false},
		"a source that was another":            {[]told{put(1, 0, 1, "x"), {2, 2, 3, Ask{Kind: Differ, Verb: "COPY from", Match: "w"}, Saw{}}}, true},
	} {
		h := NewHistory()
		for _, o := range c.ops {
			o.ask.Key, o.ask.Via = "k", "a1"
			h.Add(o.client, o.ask, o.saw, o.call, o.end)
		}
		v := h.Check(10 * time.Second)
		if got := len(v.Broken) == 0; got != c.ok || len(v.Tangled) > 0 {
			t.Errorf("%s: ok %t, want %t\n%s", name, got, c.ok, h.Text("k"))
		}
	}
}

// TestBrokenStore plays histories of a correct register, and of one that now and
// then answers a read from the past: every one of the latter must be found out,
// and none of the former.
func TestBrokenStore(t *testing.T) {
	for _, stale := range []bool{false, true} {
		for seed := range uint64(20) {
			h := play(seed, stale)
			if got := h.checkKey("k", 10*time.Second); got == porcupine.Unknown || (got == porcupine.Ok) == stale {
				t.Errorf("seed %d, stale reads %t: judged %s\n%s", seed, stale, got, h.Text("k"))
			}
		}
	}
}

// play runs clients one after the other against a register with concurrency made
// up by stretching their intervals.
func play(seed uint64, stale bool) *History {
	rng := rand.New(rand.NewPCG(seed, 1))
	h := NewHistory()
	now, before := "", ""
	for i := range 120 {
		at := time.Duration(10 * i)
		call, end := at-time.Duration(rng.IntN(15)), at+time.Duration(rng.IntN(15))
		ask, saw := Ask{Key: "k", Via: "a1"}, Saw{}
		switch rng.IntN(4) {
		case 0:
			ask.Kind, ask.Content = Write, fmt.Sprint("v", i)
			if saw.Unknown = rng.IntN(6) == 0; !saw.Unknown || rng.IntN(2) == 0 {
				before, now = now, ask.Content
			}
		case 1:
			ask.Kind, ask.Content, ask.Match = Write, fmt.Sprint("v", i), before
			if saw.Unmet = ask.Match != "" && before != now; !saw.Unmet {
				before, now = now, ask.Content
			}
		case 2:
			ask.Kind, saw.Content = Read, now
		default:
			ask.Kind, saw.Content = Read, now
			if stale && i > 60 {
				saw.Content, call, end = before, at, at
			}
		}
		h.Add(i%5, ask, saw, call, end)
	}
	return h
}

// TestText: what a report shows of a history.
func TestText(t *testing.T) {
	h := NewHistory()
	h.Add(7, Ask{Kind: Write, Verb: "PUT", Key: "k", Via: "a1", Content: "x", Absent: true}, Saw{Unknown: true}, time.Second, 2*time.Second)
	if got := h.Text("k"); !strings.Contains(got, "client 7   PUT via a1 x if there is none -> unknown") {
		t.Error(got)
	}
}
