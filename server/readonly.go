package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"
	"bivalve/server/admin"

	"github.com/fxamacker/cbor/v2"
)

// The read-only mode: while no majority of a group's voters can be reached, an operator
// may have reads answered from the most advanced replica that is left. They may miss
// what was acknowledged last, so it is asked for, never done by itself, told in every
// answer, and it ends by itself where a majority is back.

// readOnlyMark keeps the mode over restarts.
const readOnlyMark = "READ_ONLY"

// readOnlyHeader stands in every answer of a node that reads that way.
const readOnlyHeader = "X-Bivalve-Read-Only"

// ReadOnlyReport says which nodes have the mode on or off now.
type ReadOnlyReport struct {
	On     bool                      `json:"on"`
	Told   []cluster.NodeID          `json:"told"`
	Silent map[cluster.NodeID]string `json:"silent,omitempty"` // and why
}

// setReadOnly switches this node.
func (n *Node) setReadOnly(on bool) error {
	path := n.dataPath(readOnlyMark)
	if on {
		if err := os.WriteFile(path, []byte("Reads are answered without a majority, while there is none. `bivalve admin read-only off` ends it.\n"), 0o600); err != nil {
			return err
		}
	} else if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := syncDir(n.cfg.Data); err != nil {
		return err
	}
	if n.readOnly.Swap(on) != on {
		n.logger.Warn("read-only mode", "on", on)
	}
	return nil
}

// loadReadOnly reads the mode at the start.
func (n *Node) loadReadOnly() error {
	_, err := os.Stat(n.dataPath(readOnlyMark))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	n.readOnly.Store(err == nil)
	return err
}

// SetReadOnly switches this node and all others that it reaches.
func (n *Node) SetReadOnly(ctx context.Context, on bool) (*ReadOnlyReport, error) {
	if err := n.setReadOnly(on); err != nil {
		return nil, err
	}
	out := &ReadOnlyReport{On: on, Told: []cluster.NodeID{n.self.ID}, Silent: map[cluster.NodeID]string{}}
	body, err := cbor.Marshal(on)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range n.others() {
		wg.Go(func() {
			_, err := n.client.CallMetaAgain(ctx, id, methodReadOnly, body)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.Silent[id] = err.Error()
			} else {
				out.Told = append(out.Told, id)
			}
		})
	}
	wg.Wait()
	slices.Sort(out.Told)
	return out, nil
}

func (n *Node) readOnlyOrder(ctx context.Context, r *http.Request) (any, error) {
	switch r.URL.Query().Get("on") {
	case "true":
		return n.SetReadOnly(ctx, true)
	case "false":
		return n.SetReadOnly(ctx, false)
	}
	return nil, fmt.Errorf("%w: on must be true or false", admin.ErrBad)
}

func (n *Node) handleReadOnly(body []byte) error {
	var on bool
	if err := cbor.Unmarshal(body, &on); err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	return n.setReadOnly(on)
}

// weakGroups are the groups as the catalog reaches them: by the router, but for reads
// in the read-only mode.
type weakGroups struct{ n *Node }

func (w weakGroups) Propose(ctx context.Context, g replica.GroupID, data []byte) ([]byte, error) {
	return w.n.router.Propose(ctx, g, data)
}

func (w weakGroups) Query(ctx context.Context, g replica.GroupID, q []byte) ([]byte, error) {
	if !w.n.weak(g) {
		return w.n.router.Query(ctx, g, q)
	}
	out, err := w.n.queryWeak(ctx, g, q)
	if err != nil && !w.n.weak(g) { // a majority is back
		return w.n.router.Query(ctx, g, q)
	}
	return out, err
}

// weak tells whether reads of a group are answered without a majority.
func (n *Node) weak(g replica.GroupID) bool { return n.readOnly.Load() && n.router.Hopeless(g) }

// weakAsk asks where a replica stands, or queries it.
type weakAsk struct {
	Group replica.GroupID `cbor:"1,keyasint"`
	Query []byte          `cbor:"2,keyasint,omitempty"` // none: only where it stands
}

type weakSaid struct {
	Epoch   uint32 `cbor:"1,keyasint,omitempty"`
	Applied uint64 `cbor:"2,keyasint,omitempty"`
	Answer  []byte `cbor:"3,keyasint,omitempty"`
}

// sayWeak answers if this node finds, too, that there is no majority.
func (n *Node) sayWeak(ask weakAsk) (said weakSaid, err error) {
	if !n.weak(ask.Group) {
		return said, fmt.Errorf("%w: node %s is not in read-only mode, or has a majority", replica.ErrUnavailable, n.self.ID)
	}
	s, ok := n.replicaOf(ask.Group)
	if !ok || s.Applied == 0 {
		return said, fmt.Errorf("%w: node %s has no replica of metadata group %d", replica.ErrUnavailable, n.self.ID, ask.Group)
	}
	said.Epoch, said.Applied = s.Epoch, s.Applied
	if len(ask.Query) > 0 {
		said.Answer, err = n.host.QueryLocal(ask.Group, ask.Query)
	}
	return said, err
}

func (n *Node) handleWeak(body []byte) ([]byte, error) {
	var ask weakAsk
	if err := cbor.Unmarshal(body, &ask); err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	said, err := n.sayWeak(ask)
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(said)
}

func (n *Node) askWeak(ctx context.Context, id cluster.NodeID, ask weakAsk) (said weakSaid, err error) {
	if id == n.self.ID {
		return n.sayWeak(ask)
	}
	body, err := cbor.Marshal(ask)
	if err != nil {
		return said, err
	}
	raw, err := n.client.CallMetaAgain(ctx, id, methodWeak, body)
	if err == nil {
		err = cbor.Unmarshal(raw, &said)
	}
	return said, err
}

// queryWeak asks the replica that has applied most. What is applied is committed, so
// nothing is shown that may yet be undone; what only the lost had may be missing.
func (n *Node) queryWeak(ctx context.Context, g replica.GroupID, q []byte) ([]byte, error) {
	type stand struct {
		id cluster.NodeID
		weakSaid
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var have []stand
	seen := map[cluster.NodeID]bool{}
	actx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, r := range slices.Concat(n.votersOf(g), n.learnersOf(g)) {
		m, ok := n.byReplica(r)
		if !ok || seen[m.ID] || m.ID != n.self.ID && n.reach.Missing(m.ID) {
			continue
		}
		seen[m.ID] = true
		wg.Go(func() {
			if said, err := n.askWeak(actx, m.ID, weakAsk{Group: g}); err == nil {
				mu.Lock()
				defer mu.Unlock()
				have = append(have, stand{m.ID, said})
			}
		})
	}
	wg.Wait()
	slices.SortFunc(have, func(a, b stand) int {
		own := func(s stand) int { return map[bool]int{true: 1}[s.id == n.self.ID] }
		return cmp.Or(cmp.Compare(b.Epoch, a.Epoch), cmp.Compare(b.Applied, a.Applied), cmp.Compare(own(b), own(a)), cmp.Compare(a.id, b.id))
	})
	var errs []error
	for _, s := range have {
		if s.Epoch != have[0].Epoch || s.Applied < have[0].Applied {
			break // an older state would go back in time
		}
		said, err := n.askWeak(ctx, s.id, weakAsk{Group: g, Query: q})
		if err == nil {
			return said.Answer, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("%w: metadata group %d has no replica within reach: %w", replica.ErrUnavailable, g, errors.Join(errs...))
}

// toldDoor says in every answer that reads may be old.
func (n *Node) toldDoor(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.readOnly.Load() && n.stranded() != nil {
			w.Header().Set(readOnlyHeader, "most advanced replica; the latest writes may be missing")
		}
		h.ServeHTTP(w, r)
	})
}
