package replica

import (
	"errors"
	"fmt"
	"math"

	"github.com/anishathalye/porcupine"
)

// simClient does one operation after another on a few registers, and tells the
// history what it saw, no more and no less.
type simClient struct {
	s    *sim
	id   int
	n    int
	op   *simOp
	rest int // virtual time before the next operation
}

type simOp struct {
	group  GroupID
	key    string
	write  bool
	id     string
	value  string
	called int
	node   *simNode
	life   int
	p      *proposal
	r      *readWaiter
	maybe  bool // an earlier try may have happened
	tries  int
	until  int
}

// call and answer of one operation, for porcupine.
type (
	simInput struct {
		key, value string
		write      bool
	}
	simOutput struct {
		value   string
		unknown bool
	}
)

type history struct {
	clock int64
	ops   []porcupine.Operation
	acked map[GroupID]map[string]string // request id -> key
}

var swapModel = porcupine.Model{
	Partition: func(h []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range h {
			k := op.Input.(simInput).key
			by[k] = append(by[k], op)
		}
		var out [][]porcupine.Operation
		for _, k := range sortedKeys(by) {
			out = append(out, by[k])
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out := input.(simInput), output.(simOutput)
		ok := out.unknown || out.value == state.(string)
		if in.write {
			return ok, in.value
		}
		return ok, state
	},
}

func (h *history) tick() int64 { h.clock++; return h.clock }

func (h *history) add(client int, op *simOp, out simOutput) {
	ret := h.tick()
	if out.unknown {
		ret = math.MaxInt64 // may take effect at any time, or never
	}
	h.ops = append(h.ops, porcupine.Operation{
		ClientId: client,
		Input:    simInput{key: fmt.Sprint(op.group, "/", op.key), value: op.value, write: op.write},
		Call:     int64(op.called), Output: out, Return: ret,
	})
	if op.write && !out.unknown {
		if h.acked[op.group] == nil {
			h.acked[op.group] = map[string]string{}
		}
		h.acked[op.group][op.id] = op.key
	}
}

// step starts, polls or ends the client's operation.
func (c *simClient) step(h *history, active bool) {
	s := c.s
	if c.op == nil {
		if !active || s.now < c.rest {
			return
		}
		c.n++
		c.op = &simOp{
			group: GroupID(s.rnd.IntN(s.groups)), key: fmt.Sprint("k", s.rnd.IntN(3)),
			write: s.rnd.IntN(2) == 0, id: fmt.Sprintf("c%d-%d", c.id, c.n),
			called: int(h.tick()), until: s.now + 4000,
		}
		c.op.value = c.op.id
		if !c.op.write {
			c.op.value = ""
		}
		c.send()
		return
	}
	c.poll(h)
}

// send tries the operation at some node.
func (c *simClient) send() {
	s, op := c.s, c.op
	op.p, op.r, op.node = nil, nil, nil
	n := s.nodes[pick(s.rnd, s.ids)]
	if l := s.leader(op.group); l != nil && op.write && s.rnd.IntN(4) > 0 {
		n = l
	}
	if n.host == nil || n.host.group(op.group) == nil {
		return
	}
	op.node, op.life = n, n.life
	op.tries++
	if op.write {
		seq := n.host.seq.Add(1)
		op.p = &proposal{group: op.group, seq: seq, done: make(chan outcome, 1),
			data: encodeEntry(n.id, seq, command(op.id, op.key, op.value))}
		if !n.host.in.addProposal(op.p) {
			op.p, op.node = nil, nil
		}
		return
	}
	op.r = &readWaiter{group: op.group, done: make(chan error, 1)}
	if s.noRead || !readBarrier {
		op.r.finish(nil)
	} else if !n.host.in.addRead(op.r) {
		op.r, op.node = nil, nil
	}
}

func (c *simClient) poll(h *history) {
	s, op := c.s, c.op
	if op.node != nil && (op.node.host == nil || op.node.life != op.life) {
		c.failed(h, ErrUnknown) // the connection broke
		return
	}
	switch {
	case op.p != nil:
		select {
		case out := <-op.p.done:
			if out.err == nil {
				c.end(h, simOutput{value: string(out.result)})
			} else {
				c.failed(h, out.err)
			}
			return
		default:
		}
		if s.now >= op.until {
			c.failed(h, op.p.abandon(ErrDropped, ErrUnknown).err)
		}
	case op.r != nil:
		select {
		case err := <-op.r.done:
			if err != nil {
				c.failed(h, ErrDropped)
				return
			}
			out, err := op.node.host.QueryLocal(op.group, []byte(op.key))
			if errors.Is(err, ErrUnavailable) {
				c.failed(h, ErrDropped) // the state was found damaged
				return
			}
			s.check(err)
			c.end(h, simOutput{value: string(out)})
			return
		default:
		}
		if s.now >= op.until {
			op.r.gone.Store(true)
			c.failed(h, ErrDropped)
		}
	default:
		c.failed(h, ErrDropped)
	}
}

// failed decides what the client does after an error: the same request again, or
// give up and say what is known.
func (c *simClient) failed(h *history, err error) {
	s, op := c.s, c.op
	if op.write && errors.Is(err, ErrUnknown) {
		op.maybe = true
	}
	if s.now < op.until && s.rnd.IntN(60) > 0 {
		op.p, op.r, op.node = nil, nil, nil
		if s.rnd.IntN(6) == 0 {
			c.send()
		}
		return
	}
	if op.maybe {
		c.end(h, simOutput{unknown: true})
		return
	}
	// It certainly did not happen: an honest history does not mention it, and if
	// that was a lie, some read will show a value that nobody wrote.
	c.op = nil
}

func (c *simClient) end(h *history, out simOutput) {
	h.add(c.id, c.op, out)
	c.op = nil
	c.rest = c.s.now + c.s.rnd.IntN(60)
}
