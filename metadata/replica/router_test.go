package replica

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// answers is a Peers that gives canned answers, the last one for ever.
type answers struct {
	by    map[ReplicaID][]any // response or error
	calls []ReplicaID
	sent  [][]byte
}

func (a *answers) Call(ctx context.Context, to ReplicaID, _ uint8, payload []byte) ([]byte, error) {
	a.calls = append(a.calls, to)
	a.sent = append(a.sent, payload)
	list := a.by[to]
	if len(list) == 0 {
		return nil, fmt.Errorf("nobody there: %w", ErrNotSent)
	}
	if len(list) > 1 {
		a.by[to] = list[1:]
	}
	if err, ok := list[0].(error); ok {
		return nil, err
	}
	return encodeResponse(list[0].(response)), nil
}

func TestRouterPropose(t *testing.T) {
	ok := response{kind: outcomeOK, data: []byte("done")}
	lost := errors.New("connection reset")
	for _, c := range []struct {
		name string
		by   map[ReplicaID][]any
		want error
	}{
		{"leader at once", map[ReplicaID][]any{1: {ok}}, nil},
		{"hint", map[ReplicaID][]any{1: {response{kind: outcomeNotLeader, leader: 3}}, 3: {ok}}, nil},
		{"hints in a circle", map[ReplicaID][]any{
			1: {response{kind: outcomeNotLeader, leader: 2}, ok}, 2: {response{kind: outcomeNotLeader, leader: 1}}}, nil},
		{"dropped, then room", map[ReplicaID][]any{1: {response{kind: outcomeDropped}, ok}}, nil},
		{"unknown, then the answer", map[ReplicaID][]any{1: {response{kind: outcomeUnknown}, ok}}, nil},
		{"lost answer, then elsewhere", map[ReplicaID][]any{1: {lost}, 2: {ok}}, nil},
		{"an answer that makes no sense, then one", map[ReplicaID][]any{1: {response{kind: 99}, ok}}, nil},
		{"nobody", nil, ErrUnavailable},
		{"nobody leads", map[ReplicaID][]any{
			1: {response{kind: outcomeNotLeader}}, 2: {response{kind: outcomeNoGroup}}}, ErrUnavailable},
		{"always dropped", map[ReplicaID][]any{1: {response{kind: outcomeDropped}}}, ErrUnavailable},
		{"one lost answer", map[ReplicaID][]any{
			1: {lost, response{kind: outcomeNotLeader}}, 2: {response{kind: outcomeNotLeader}}}, ErrUnknown},
		{"unknown, then dropped", map[ReplicaID][]any{
			1: {response{kind: outcomeUnknown}, response{kind: outcomeDropped}}}, ErrUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &answers{by: c.by}
			r := newTestRouter(t, a)
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
			defer cancel()
			out, err := r.Propose(ctx, 4, []byte("command"))
			if !errors.Is(err, c.want) || err == nil && string(out) != "done" {
				t.Fatalf("%q %v after calls %v", out, err, a.calls)
			}
			for _, other := range []error{ErrUnknown, ErrDropped, ErrUnavailable} {
				if other != c.want && errors.Is(err, other) {
					t.Fatalf("%v also passes for %v", err, other)
				}
			}
			for _, b := range a.sent {
				if string(b) != string(encodeRequest(4, []byte("command"))) {
					t.Fatal("a try changed the bytes")
				}
			}
		})
	}
}

func newTestRouter(t *testing.T, p Peers) *Router {
	t.Helper()
	r, err := NewRouter(RouterConfig{
		Self: 9, Peers: p, Voters: func(GroupID) []ReplicaID { return []ReplicaID{1, 2, 3} },
		Backoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRouterQuery(t *testing.T) {
	ok := response{kind: outcomeOK, data: []byte("value")}
	for _, c := range []struct {
		name string
		by   map[ReplicaID][]any
		want error
	}{
		{"first", map[ReplicaID][]any{1: {ok}}, nil},
		{"next, when one is lost", map[ReplicaID][]any{1: {errors.New("reset")}, 2: {ok}}, nil},
		{"not confirmed, then confirmed", map[ReplicaID][]any{1: {response{kind: outcomeUnavailable}, ok}}, nil},
		{"refused by the state machine", map[ReplicaID][]any{1: {response{kind: outcomeQueryError}}}, ErrQuery},
		{"nobody", map[ReplicaID][]any{1: {errors.New("reset")}}, ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTestRouter(t, &answers{by: c.by})
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
			defer cancel()
			out, err := r.Query(ctx, 4, []byte("k"))
			if !errors.Is(err, c.want) || err == nil && string(out) != "value" {
				t.Fatalf("%q %v", out, err)
			}
			if errors.Is(err, ErrUnknown) {
				t.Fatalf("a read has no unknown outcome: %v", err)
			}
		})
	}
}

func TestRouterRemembersTheLeader(t *testing.T) {
	a := &answers{by: map[ReplicaID][]any{
		1: {response{kind: outcomeNotLeader, leader: 3}}, 2: {response{kind: outcomeNotLeader, leader: 3}},
		3: {response{kind: outcomeOK}},
	}}
	r := newTestRouter(t, a)
	for range 3 {
		if _, err := r.Propose(testContext(t), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(a.calls) != "[1 3 3 3]" {
		t.Fatalf("calls %v", a.calls)
	}
}

func TestOutcomesSurviveTheWire(t *testing.T) {
	for _, err := range []error{
		&NotLeaderError{Leader: 7}, ErrDropped, ErrUnknown, ErrNoGroup, ErrUnavailable, ErrQuery,
		errors.Join(ErrUnknown, ErrHalt), wrapContext(ErrUnknown, context.Background()),
	} {
		back, derr := decodeResponse(encodeResponse(responseOf(nil, err)))
		if derr != nil {
			t.Fatal(derr)
		}
		var nl *NotLeaderError
		if errors.As(err, &nl) {
			var got *NotLeaderError
			if !errors.As(back.err(), &got) || got.Leader != nl.Leader {
				t.Errorf("%v became %v", err, back.err())
			}
			continue
		}
		if !errors.Is(err, back.err().(*remoteError).kind) {
			t.Errorf("%v became %v", err, back.err())
		}
	}
	if _, err := newTestRouter(t, &answers{}).HandleCall(context.Background(), 1, 77, encodeRequest(1, nil)); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}
