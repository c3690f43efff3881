package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/incarnation"
)

// Telling the others of a life: see package incarnation. A node takes part in its
// groups once at least one other has heard of this life and has heard of no later
// one; alone it could not reach a majority anyway. Those that were away are told
// when they are back, and their answer still counts.

const (
	lifeTimeout  = 3 * time.Second // of one question
	lifePause    = 500 * time.Millisecond
	maxLifePause = 10 * time.Second
)

// openLife begins this life.
func (n *Node) openLife() (err error) {
	n.life, n.lifeDamaged, err = incarnation.Open(n.dataPath("INCARNATION"))
	if n.lifeDamaged != nil {
		n.logger.Warn("the number of this life is lost; the others are asked", "err", n.lifeDamaged)
	}
	return err
}

// handleLife answers another node's question.
func (n *Node) handleLife(from cluster.NodeID, body []byte) ([]byte, error) {
	if len(body) != 16 {
		return nil, fmt.Errorf("%w: a life of %d bytes", cluster.ErrInvalid, len(body))
	}
	before, err := n.life.Heard(string(from), incarnation.Life{
		Number: binary.BigEndian.Uint64(body), Nonce: binary.BigEndian.Uint64(body[8:])})
	return binary.BigEndian.AppendUint64(nil, before), err
}

// tellLife tells every other node. proven is called once this node may vote, or
// is held because it must not.
func (n *Node) tellLife(ctx context.Context, proven func()) error {
	if why := n.life.SetBack(); why != nil {
		return n.holdAll(why, proven)
	}
	todo := n.others()
	if len(todo) == 0 {
		proven()
	}
	for pause := lifePause; len(todo) > 0; pause = min(2*pause, maxLifePause) {
		answers := n.askLife(ctx, todo)
		var left []cluster.NodeID
		for _, id := range todo {
			before, ok := answers[id]
			switch {
			case !ok:
				left = append(left, id)
			case n.lifeDamaged != nil:
				if err := n.life.Outlive(before); err != nil {
					return err
				}
			default:
				if why := n.life.Judge(string(id), before); why != nil {
					return n.holdAll(why, proven)
				}
			}
		}
		if n.lifeDamaged != nil && len(left) < len(todo) {
			n.lifeDamaged = nil // known again; all must hear of it, and may object
			todo = n.others()
			continue
		}
		if len(left) < len(todo) {
			proven()
		}
		if todo = left; len(todo) == 0 {
			break
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
	return nil
}

func (n *Node) holdAll(why error, proven func()) error {
	n.logger.Error("this node's metadata must not be used", "err", why)
	err := n.host.HoldAll(why)
	proven()
	return err
}

func (n *Node) others() []cluster.NodeID {
	var out []cluster.NodeID
	for _, m := range n.peers() {
		if m.ID != n.self.ID {
			out = append(out, m.ID)
		}
	}
	return out
}

// askLife asks nodes at once for what they heard before. One that answers with an
// error knows nothing; one that could not be reached is not in the answer.
func (n *Node) askLife(ctx context.Context, ids []cluster.NodeID) map[cluster.NodeID]uint64 {
	ctx, cancel := context.WithTimeout(ctx, lifeTimeout)
	defer cancel()
	self := n.life.Self()
	body := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, self.Number), self.Nonce)
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[cluster.NodeID]uint64{}
	for _, id := range ids {
		wg.Go(func() {
			raw, err := n.client.CallMetaAgain(ctx, id, methodLife, body)
			if errors.Is(err, cluster.ErrUnreachable) || ctx.Err() != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = 0
			if err == nil && len(raw) == 8 {
				out[id] = binary.BigEndian.Uint64(raw)
			} else {
				n.logger.Debug("a node knows nothing of lives", "peer", id, "err", err)
			}
		})
	}
	wg.Wait()
	return out
}

// runMetadata runs the groups once this node may vote.
func (n *Node) runMetadata(ctx context.Context) error {
	var once sync.Once
	proven := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := n.tellLife(ctx, func() { once.Do(func() { close(proven) }) }); err != nil {
			failed <- err
			cancel()
		}
	})
	select {
	case <-proven:
	case <-ctx.Done():
	}
	n.holdRecovered(ctx, n.others(), time.Second)
	err := n.host.Run(ctx)
	select {
	case ferr := <-failed:
		err = errors.Join(ferr, err)
	default:
	}
	return err
}
