//go:build e2e

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"time"

	"bivalve/server"
)

// orderWithin is how long an order may take until a node has carried it out: the
// root group may be without a leader for some of it. movedWithin is how long what
// follows from one may take.
const (
	orderWithin = 30 * time.Second
	movedWithin = 2 * time.Minute
)

// drainDisk moves everything off a disk, or begins to, and then takes it back: so
// slots move in both directions while clients work.
func drainDisk(t *turn) (func() error, error) {
	kind, name, target, err := t.someDisk()
	if err != nil {
		return nil, err
	}
	undo, err := t.drain(kind, name)
	return t.begun(undo, err, "%s", target)
}

// drainNode does so with all disks of a node.
func drainNode(t *turn) (func() error, error) {
	n := t.anyNode()
	undo, err := t.drain("node", n.id)
	return t.begun(undo, err, "%s", n.id)
}

// drainUnderCut does either while a part of the region cannot be reached, and takes it
// back before that can be reached again, or after.
func drainUnderCut(t *turn) (func() error, error) {
	kind, name, target, err := t.someDisk()
	if n := t.anyNode(); t.rng.IntN(2) == 0 {
		kind, name, target = "node", n.id, n.id
	}
	if err != nil {
		return nil, err
	}
	heal, err := t.cut()
	if err != nil {
		return nil, err
	}
	where := t.target
	back, err := t.drain(kind, name)
	undo := func() error { return errors.Join(heal(), back()) }
	if t.rng.IntN(2) == 0 {
		where += " to the end"
		undo = func() error { return errors.Join(back(), heal()) }
	}
	return t.begun(undo, err, "%s, %s cut", target, where)
}

// someDisk is a disk, and what an order calls it.
func (t *turn) someDisk() (kind, name, target string, err error) {
	n := t.anyNode()
	which := t.rng.IntN(len(n.disks))
	s, err := t.status(t.ctx)
	if err != nil {
		return "", "", "", err
	}
	for _, r := range s.Nodes {
		if string(r.ID) == n.id && r.Local != nil && len(r.Local.Disks) > which {
			return "disk", r.Local.Disks[which].ID.String(), fmt.Sprintf("d%d of %s", which+1, n.id), nil
		}
	}
	return "", "", "", fmt.Errorf("%w: %s does not tell of its disks", errNotNow, n.id)
}

func (t *turn) drain(kind, name string) (undo func() error, err error) {
	undo = func() error { return t.order(orderWithin, kind, "activate", name) }
	return undo, t.order(orderWithin, kind, "drain", name)
}

// cut makes one of the cuts that leave a majority.
func (t *turn) cut() (heal func() error, err error) {
	return pick(t.rng, []func(*turn) (func() error, error){cutNode, cutZone, cutZonesOnly, cutNodeOneWay})(t)
}

// addNode has a fresh node join, take its share over and serve clients; then it is
// drained and removed.
func addNode(t *turn) (func() error, error) {
	n, leave, err := t.guest()
	if err != nil {
		return nil, err
	}
	return t.begun(leave, nil, "%s", n.id)
}

// addUnderCut does so while a part of the region cannot be reached.
func addUnderCut(t *turn) (func() error, error) {
	n, leave, err := t.guest()
	if err != nil {
		return nil, err
	}
	heal, err := t.cut()
	return t.begun(func() error { return errors.Join(heal(), leave()) }, err, "%s, %s cut", n.id, t.target)
}

// guest is a node that joins, with clients of its own. What is returned has it leave.
func (t *turn) guest() (n *node, leave func() error, err error) {
	zone, _ := t.anyZone()
	if n, err = t.join(t.ctx, zone); err != nil {
		return nil, nil, fmt.Errorf("a node joins zone %s: %w", zone, err)
	}
	if err := t.order(orderWithin, "layout", "apply"); err != nil {
		return nil, nil, err
	}
	const guestIDs = 10_000
	stop := t.crowd.workAt(t.rng.Uint64(), guestIDs*t.joined, crowdSize{registers: 1, ledgers: 1, every: 150 * time.Millisecond}, []*node{n})
	return n, func() error {
		stop()
		return t.leave(n)
	}, nil
}

// join makes a node that the region was not made with, and waits until it is ready.
func (r *region) join(ctx context.Context, zone string) (*node, error) {
	r.joined++
	const numbers = 100 // of nodes that join
	id, number := fmt.Sprint(zone, numbers+r.joined), numbers+r.joined
	h, err := r.net.plug(id, zone, number)
	if err != nil {
		return nil, err
	}
	n := newNode(id, zone, r.folder(id), binary, h)
	args := []string{"node", "add", "--id", id, "--zone", zone, "--host", h.addr, "--ca", r.folder("ca"), "--like", r.folder("a1"), "--out", n.dir}
	for _, d := range diskNames(2) {
		args = append(args, "--disk", d)
		n.disks = append(n.disks, r.folder(id, d))
	}
	if err := r.order(orderWithin, args...); err != nil {
		return nil, err
	}
	r.nodes = append(r.nodes, n)
	if err := n.start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, orderWithin)
	defer cancel()
	return n, until(ctx, 100*time.Millisecond, func() error { return n.ready(ctx) })
}

// leave drains a node, removes it from the region and ends its process.
func (r *region) leave(n *node) error {
	if err := r.order(movedWithin, "node", "drain", n.id, "--wait"); err != nil {
		return err
	}
	if err := r.order(movedWithin, "node", "remove", n.id); err != nil { // once its replicas are gone
		return err
	}
	for i, o := range r.nodes {
		if o == n {
			r.nodes, r.former = append(r.nodes[:i:i], r.nodes[i+1:]...), append(r.former, n)
		}
	}
	return n.drain()
}

// order has nodes that run carry out an order of `bivalve admin`, until one of them
// has: each can be given again.
func (r *region) order(within time.Duration, args ...string) error {
	_, err := r.orderSays(within, args...)
	return err
}

// orderSays returns what the order that was carried out printed.
func (r *region) orderSays(within time.Duration, args ...string) (said string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	err = until(ctx, 500*time.Millisecond, func() error {
		errs := []error{errNotRunning}
		for _, n := range r.nodes {
			if n.pid() == 0 || ctx.Err() != nil {
				continue
			}
			cmd := exec.CommandContext(ctx, n.binary, append(append([]string{"admin"}, args...), "--admin", "http://"+adminAddr)...)
			out, err := n.host.output(cmd)
			if err == nil {
				said = string(out)
				return nil
			}
			errs = append(errs, fmt.Errorf("by %s: %w", n.id, err))
		}
		return errors.Join(errs...)
	})
	return said, err
}

// quiet waits until nothing is amiss: every disk in service, every object whole, and
// nothing moving.
func (r *region) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, orderWithin)
	defer cancel()
	return until(ctx, 250*time.Millisecond, func() error {
		s, err := r.status(ctx)
		if err != nil {
			return err
		}
		if err := wellness(s); err != nil {
			return err
		}
		if s.Protected.Unknown || s.Protected.UnderProtected > 0 {
			return fmt.Errorf("%d objects lack shards, unknown %t", s.Protected.UnderProtected, s.Protected.Unknown)
		}
		return r.still(ctx)
	})
}

// still says what is moving by the layout.
func (r *region) still(ctx context.Context) error {
	errs := []error{errNotRunning}
	for _, n := range r.zone("") {
		var l server.LayoutReport
		raw, err := n.ask(ctx, http.MethodGet, "/v1/layout")
		if err == nil {
			err = json.Unmarshal(raw, &l)
		}
		switch {
		case err == nil && l.Moving.Slots > 0:
			return fmt.Errorf("%d slots are moving", l.Moving.Slots)
		case err == nil:
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
