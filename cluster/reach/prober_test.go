package reach

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world answers for all peers.
type world struct {
	mu    sync.Mutex
	cut   map[cluster.NodeID]bool
	views map[cluster.NodeID]Answer
	skew  map[cluster.NodeID]time.Duration
}

func (w *world) ask(ctx context.Context, id cluster.NodeID) (Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[id] {
		return Answer{}, errors.New("cut")
	}
	a := w.views[id]
	a.Clock = time.Now().Add(w.skew[id]).UnixNano()
	return a, nil
}

func (w *world) set(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }

func start(t *testing.T, w *world, ids ...cluster.NodeID) *Prober {
	t.Helper()
	p, err := New(Config{Self: "a1", Peers: func() []cluster.NodeID { return ids }, Ask: w.ask,
		Every: time.Millisecond, Timeout: 5 * time.Millisecond, Missing: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func until(t *testing.T, p *Prober, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestProberMissesAndFindsAgain(t *testing.T) {
	w := &world{cut: map[cluster.NodeID]bool{}, views: map[cluster.NodeID]Answer{"w": {Refused: true}}, skew: map[cluster.NodeID]time.Duration{}}
	p := start(t, w, "a1", "b1", "w")
	until(t, p, "the witness refuses", func() bool { return p.Refuses("w") })
	if p.Missing("b1") || p.Missing("nobody") || p.Refuses("b1") {
		t.Error("a peer that answers is missing")
	}
	changed := p.Changed()
	w.set(func() { w.cut["b1"] = true })
	until(t, p, "b1 is missing", func() bool { return p.Missing("b1") })
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Error("nobody was told")
	}
	if a := p.Answer(); len(a.Asks) != 2 || len(a.Missing) != 1 || a.Missing[0] != "b1" {
		t.Errorf("answer %+v", a)
	}
	w.set(func() { w.cut["b1"] = false })
	until(t, p, "b1 is back", func() bool { return !p.Missing("b1") })
}

func TestCutOffByMajority(t *testing.T) {
	sees := func(missing ...cluster.NodeID) Answer {
		return Answer{Asks: []cluster.NodeID{"b1", "b2"}, Missing: missing}
	}
	for _, c := range []struct {
		name   string
		own    bool // a1 itself misses b1
		a2, a3 Answer
		want   bool
	}{
		{"only we miss it", true, sees(), sees(), false},
		{"all miss it", true, sees("b1", "b2"), sees("b1"), true},
		{"two of three miss it", false, sees("b1"), sees("b1"), true},
		{"another is missed", false, sees("b2"), sees("b2"), false},
		{"nobody else asks it", true, Answer{}, Answer{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{cut: map[cluster.NodeID]bool{"b1": c.own}, skew: map[cluster.NodeID]time.Duration{},
				views: map[cluster.NodeID]Answer{"a2": c.a2, "a3": c.a3}}
			p := start(t, w, "a2", "a3", "b1")
			until(t, p, "all were asked", func() bool { return len(p.Answer().Asks) == 3 && p.Missing("b1") == c.own })
			if got := p.CutOff("b1", []cluster.NodeID{"a2", "a3", "b1"}); got != c.want {
				t.Errorf("cut off: %v", got)
			}
		})
	}
}

func TestSkewIsTheMedian(t *testing.T) {
	w := &world{views: map[cluster.NodeID]Answer{}, cut: map[cluster.NodeID]bool{},
		skew: map[cluster.NodeID]time.Duration{"b": time.Hour, "c": time.Hour, "d": -24 * time.Hour}}
	p := start(t, w, "b", "c", "d")
	until(t, p, "the skew is seen", func() bool { s := p.Skew() + time.Hour; return s.Abs() < time.Minute })
	// One peer alone cannot say which of the two is wrong.
	if one := start(t, w, "b"); one.Skew() != 0 {
		t.Errorf("skew %v against one peer", one.Skew())
	}
}

// TestPaces: nine in ten answers of late tell a peer's pace; what is not answered does
// not.
func TestPaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(Config{Self: "a1", Peers: func() []cluster.NodeID { return []cluster.NodeID{"b1", "b2", "b3"} },
			Ask: func(ctx context.Context, id cluster.NodeID) (Answer, error) {
				switch id {
				case "b2":
					time.Sleep(250 * time.Millisecond)
				case "b3":
					<-ctx.Done()
					return Answer{}, ctx.Err()
				}
				return Answer{}, nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(500 * time.Millisecond)
		if got := p.Paces(5 * time.Second); len(got) != 0 {
			t.Errorf("too early: %v", got)
		}
		time.Sleep(5 * time.Second)
		got := p.Paces(5 * time.Second)
		if _, any := got["b3"]; any || len(got) != 2 || got["b1"] != 0 || got["b2"] != 250*time.Millisecond {
			t.Errorf("%v", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if got := p.Paces(5 * time.Second); len(got) != 0 {
			t.Errorf("long ago: %v", got)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	b, err := Answer{Clock: 1, Asks: []cluster.NodeID{"a"}, Missing: []cluster.NodeID{"a"}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ParseAnswer(b); err == nil && len(a.Missing) > MaxPeers {
			t.Fatal("too many")
		}
	})
}
