package replica

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// silentPeers never answer.
type silentPeers struct{}

func (silentPeers) Call(ctx context.Context, _ ReplicaID, _ uint8, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// A try that is under way ends when its replica is missed, and all of them when nothing
// is left to try: a read says so, a write that may have got there is unknown, and one
// that has certainly not got there is not.
func TestRouterLetsGo(t *testing.T) {
	for _, c := range []struct {
		name  string
		peers Peers
		write bool
		want  error
	}{
		{"a read", silentPeers{}, false, ErrUnavailable},
		{"a write that may have got there", silentPeers{}, true, ErrUnknown},
		{"a write that has not", unsentPeers{}, true, ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var cut atomic.Bool
				r, err := NewRouter(RouterConfig{
					Self: 9, Peers: c.peers,
					Voters:    func(GroupID) []ReplicaID { return []ReplicaID{1, 2, 3, 4, 5} },
					Reachable: func(id ReplicaID) bool { return id < 3 || !cut.Load() },
				})
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(1300*time.Millisecond, func() { cut.Store(true) })
				for begin := range 15 { // at any time until it is known
					go func() {
						began := time.Now()
						time.Sleep(time.Duration(begin) * 100 * time.Millisecond)
						ask := r.Query
						if c.write {
							ask = r.Propose
						}
						_, err := ask(t.Context(), 1, nil)
						other := map[error]error{ErrUnknown: ErrUnavailable, ErrUnavailable: ErrUnknown}[c.want]
						if took := time.Since(began); took > 1600*time.Millisecond {
							t.Errorf("begun after %d ms, answered after %s: %v", begin*100, took, err)
						}
						if begin < 13 && (!errors.Is(err, c.want) || errors.Is(err, other)) {
							t.Errorf("begun after %d ms: %v", begin*100, err)
						}
					}()
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestRouterLeavesWhoIsMissed: a write that waits for a replica that does not answer
// any more goes on with the next, long before its try would end.
func TestRouterLeavesWhoIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var missed atomic.Bool
		r, err := NewRouter(RouterConfig{
			Self: 9, Peers: oneSilent{}, TryTimeout: time.Minute,
			Voters:    func(GroupID) []ReplicaID { return []ReplicaID{1, 2, 3} },
			Reachable: func(id ReplicaID) bool { return id != 1 || !missed.Load() },
		})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { missed.Store(true) })
		began := time.Now()
		out, err := r.Propose(t.Context(), 1, nil)
		if took := time.Since(began); err != nil || string(out) != "done" || took > 1300*time.Millisecond {
			t.Errorf("%q %v after %s", out, err, took)
		}
	})
}

// TestRouterWaitsThroughADoubt: what is missed for a moment only is waited for.
func TestRouterWaitsThroughADoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var missed atomic.Bool
		r, err := NewRouter(RouterConfig{
			Self: 9, Peers: slowPeers{time.Second},
			Voters:    func(GroupID) []ReplicaID { return []ReplicaID{1, 2, 3} },
			Reachable: func(ReplicaID) bool { return !missed.Load() },
		})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(450*time.Millisecond, func() { missed.Store(true) })
		time.AfterFunc(550*time.Millisecond, func() { missed.Store(false) })
		for name, ask := range map[string]func(context.Context, GroupID, []byte) ([]byte, error){"query": r.Query, "propose": r.Propose} {
			go func() {
				if out, err := ask(t.Context(), 1, nil); err != nil || string(out) != "done" {
					t.Errorf("%s: %q %v", name, out, err)
				}
			}()
		}
		time.Sleep(time.Minute)
	})
}

// slowPeers answer after a while.
type slowPeers struct{ after time.Duration }

func (p slowPeers) Call(ctx context.Context, _ ReplicaID, _ uint8, _ []byte) ([]byte, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(p.after):
		return encodeResponse(response{kind: outcomeOK, data: []byte("done")}), nil
	}
}

// unsentPeers are never got to.
type unsentPeers struct{}

func (unsentPeers) Call(ctx context.Context, _ ReplicaID, _ uint8, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
}

// oneSilent are peers of which the first never answers.
type oneSilent struct{}

func (oneSilent) Call(ctx context.Context, to ReplicaID, _ uint8, _ []byte) ([]byte, error) {
	if to == 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return encodeResponse(response{kind: outcomeOK, data: []byte("done")}), nil
}

// A group of which no majority can be reached is given up at once; one with a
// majority is waited for, and who does not answer is not asked.
func TestRouterGivesUpWithoutAMajority(t *testing.T) {
	for _, c := range []struct {
		name     string
		reach    map[ReplicaID]bool
		self     ReplicaID
		hopeless bool
	}{
		{"all", map[ReplicaID]bool{1: true, 2: true, 3: true, 4: true, 5: true}, 9, false},
		{"three of five", map[ReplicaID]bool{1: true, 2: true, 5: true}, 9, false},
		{"two and ourselves", map[ReplicaID]bool{1: true, 2: true}, 5, false},
		{"two of five", map[ReplicaID]bool{3: true, 4: true}, 9, true},
		{"ourselves and one", map[ReplicaID]bool{3: true}, 4, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewRouter(RouterConfig{
				Self: c.self, Peers: silentPeers{}, TryTimeout: 5 * time.Millisecond, Backoff: time.Millisecond,
				Voters:    func(GroupID) []ReplicaID { return []ReplicaID{1, 2, 3, 4, 5} },
				Reachable: func(id ReplicaID) bool { return c.reach[id] },
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Hopeless(1); got != c.hopeless {
				t.Fatalf("hopeless: %v", got)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
			if c.hopeless {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
			}
			defer cancel()
			_, err = r.Query(ctx, 1, nil)
			if !errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) == c.hopeless {
				t.Errorf("query: %v", err)
			}
			_, err = r.Propose(ctx, 1, nil)
			if c.hopeless && (!errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown)) {
				t.Errorf("propose: %v", err)
			}
			for id := ReplicaID(1); id <= 5; id++ {
				for plan := (r.plan(1, true)); len(plan.todo) > 0; plan.todo = plan.todo[1:] {
					if plan.todo[0] == id && !c.reach[id] && id != c.self {
						t.Fatalf("asks replica %d, which does not answer", id)
					}
				}
			}
		})
	}
}

// forwarding is a peer that follows, and passes on what it is asked to.
type forwarding struct {
	leader    ReplicaID
	passedOn  *Router
	forwarded atomic.Int32
}

func (p *forwarding) Call(ctx context.Context, to ReplicaID, method uint8, payload []byte) ([]byte, error) {
	switch {
	case to == p.leader:
		<-ctx.Done()
		return nil, ctx.Err()
	case method != methodForward:
		return encodeResponse(response{kind: outcomeNotLeader, leader: p.leader}), nil
	}
	p.forwarded.Add(1)
	return p.passedOn.HandleCall(ctx, 9, method, payload)
}

// TestRouterPassesByACutLine: a leader that others reach and this node does not is proposed
// to through one of these, who goes one step and no further.
func TestRouterPassesByACutLine(t *testing.T) {
	three := func(GroupID) []ReplicaID { return []ReplicaID{1, 2, 3} }
	for _, c := range []struct {
		name string
		next Peers // of the node that is asked to pass it on
		want error
	}{
		{"the leader answers it", &answers{by: map[ReplicaID][]any{1: {response{kind: outcomeNotLeader, leader: 3}}, 3: {response{kind: outcomeOK, data: []byte("done")}}}}, nil},
		{"it is not reached either", &answers{}, ErrUnavailable},
		{"the answer is lost", &answers{by: map[ReplicaID][]any{3: {errors.New("connection reset")}}}, ErrUnknown},
		{"nor does it lead", &answers{by: map[ReplicaID][]any{3: {response{kind: outcomeNotLeader, leader: 2}}}}, ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				next, err := NewRouter(RouterConfig{Self: 8, Peers: c.next, Voters: three})
				if err != nil {
					t.Fatal(err)
				}
				next.learn(1, 3)
				p := &forwarding{leader: 3, passedOn: next}
				r, err := NewRouter(RouterConfig{Self: 9, Peers: p, Voters: three, Reachable: func(id ReplicaID) bool { return id != 3 }})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				out, err := r.Propose(ctx, 1, []byte("command"))
				if !errors.Is(err, c.want) || err == nil && string(out) != "done" {
					t.Fatalf("%q, %v", out, err)
				}
				if other := map[error]error{ErrUnknown: ErrUnavailable, ErrUnavailable: ErrUnknown}[c.want]; other != nil && errors.Is(err, other) {
					t.Fatalf("%v also passes for %v", err, other)
				}
				if p.forwarded.Load() == 0 {
					t.Fatal("nobody was asked to pass it on")
				}
			})
		})
	}
}
