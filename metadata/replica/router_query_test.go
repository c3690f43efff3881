package replica

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// mutePeers is a Peers of which some never answer.
type mutePeers struct {
	silent map[ReplicaID]bool

	mu    sync.Mutex
	calls []ReplicaID
}

func (p *mutePeers) Call(ctx context.Context, to ReplicaID, _ uint8, _ []byte) ([]byte, error) {
	p.mu.Lock()
	p.calls = append(p.calls, to)
	p.mu.Unlock()
	if p.silent[to] {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return encodeResponse(response{kind: outcomeOK, data: []byte("read")}), nil
}

// TestRouterQueryTriesASecond: a query does not wait for a replica that does not
// answer, unless too many have done so lately.
func TestRouterQueryTriesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := &mutePeers{silent: map[ReplicaID]bool{1: true}}
		r, err := NewRouter(RouterConfig{Self: 9, Peers: peers, Voters: func(GroupID) []ReplicaID { return []ReplicaID{1, 2, 3} }})
		if err != nil {
			t.Fatal(err)
		}
		query := func() time.Duration {
			t.Helper()
			began := time.Now()
			if got, err := r.Query(t.Context(), 1, nil); err != nil || string(got) != "read" {
				t.Fatalf("%q, %v", got, err)
			}
			return time.Since(began)
		}
		second := 0
		for range 100 {
			switch took := query(); took {
			case r.cfg.HedgeAfter:
				second++
			case r.cfg.TryTimeout:
			default:
				t.Fatalf("took %v", took)
			}
		}
		if most := (secondMost + 100) / secondCost; second < secondMost/secondCost || second > most {
			t.Errorf("%d of 100 queries were tried a second time, %d may be", second, most)
		}
		peers.silent = nil
		peers.calls = nil
		if took := query(); took != 0 || len(peers.calls) != 1 {
			t.Errorf("took %v, %d calls", took, len(peers.calls))
		}
		// All are silent: the query ends with its context, and leaves nothing behind.
		peers.silent = map[ReplicaID]bool{1: true, 2: true, 3: true}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := r.Query(ctx, 1, nil); err == nil {
			t.Error("an answer came from nowhere")
		}
	})
}
