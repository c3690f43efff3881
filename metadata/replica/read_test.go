package replica

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// slept is a context whose owner is held up for a while when it is about to wait.
type slept struct {
	context.Context
	once *sync.Once
	do   func()
}

func (s slept) Done() <-chan struct{} {
	s.once.Do(s.do)
	return s.Context.Done()
}

// gated applies nothing until gate is closed.
type gated struct {
	StateMachine
	gate chan struct{}
}

func (g gated) ApplyBatch(entries []Entry, conf []byte) ([][]byte, error) {
	<-g.gate
	return g.StateMachine.ApplyBatch(entries, conf)
}

// A read has got through its barrier when the state is lost, for want of room, and
// opened again from an older file: it is not answered from that.
func TestBarrierIsOfOneState(t *testing.T) {
	defer goleak.VerifyNone(t)
	gate, opened := make(chan struct{}), 0
	r := newRegion(t, 1, 1, func(c *Config) {
		c.FlushEvery = time.Hour // the file is as old as the group
		open := c.NewStateMachine
		c.NewStateMachine = func(g GroupID) (StateMachine, error) {
			sm, err := open(g)
			if opened++; opened > 1 && err == nil {
				sm = gated{sm, gate}
			}
			return sm, err
		}
	})
	r.leader(0)
	h := r.node(1).host
	put(t, r.node(1).router, 0, "w1", "k", "new")
	lost := func() {
		if err := h.ReadIndex(testContext(t), 0); err != nil { // so the other is through as well
			t.Error(err)
		}
		before := h.group(0)
		err := h.onLoop(func() error { h.lose(before, RoleNoSpace, ErrNoSpace); return nil })
		if err != nil {
			t.Error(err)
		}
		eventually(t, "the group to be back", func() bool { return h.group(0) != nil })
	}
	got, err := h.Query(slept{testContext(t), &sync.Once{}, lost}, 0, []byte("k"))
	if err == nil && string(got) != "new" || err != nil && !errors.Is(err, ErrUnavailable) {
		t.Errorf("read %q, %v", got, err)
	}
	close(gate)
	if got := get(t, r.node(1).router, 0, "k"); got != "new" {
		t.Errorf("later it reads %q", got)
	}
	r.close()
}
