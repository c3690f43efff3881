//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fault is one row of the table: what it needs of the machine, how it begins, and
// what ends it. begin may take the turn's whole length itself and return no undo.
type fault struct {
	name              string
	shortest, longest time.Duration
	needs             func(r *region) error
	begin             func(t *turn) (undo func() error, err error)
}

// turn is one step of the plan as it is run.
type turn struct {
	*region
	crowd  *crowd
	ctx    context.Context
	rng    *rand.Rand
	length time.Duration
	target string // for the log
}

// faults is the table, in an order that never changes for the sake of old seeds:
// new rows go to the end.
func faults() []fault {
	const s = time.Second
	return []fault{
		{"kill-node", s, 8 * s, nil, killNode},
		{"kill-zone", 2 * s, 10 * s, nil, killZone},
		{"kill-witness", 2 * s, 8 * s, nil, killWitness},
		{"kill-all", s, 2 * s, nil, killAll},
		{"pause-node", s, 10 * s, nil, pauseNode},
		{"pause-leader", s, 10 * s, nil, pauseLeader},
		{"flap-node", 6 * s, 12 * s, nil, flapNode},
		{"rolling-restart", s, s, nil, rollingRestart},
		{"cut-node", 2 * s, 8 * s, nil, cutNode},
		{"cut-node-one-way", 2 * s, 8 * s, nil, cutNodeOneWay},
		{"cut-zone", 4 * s, 12 * s, nil, cutZone},
		{"cut-zone-one-way", 4 * s, 12 * s, nil, cutZoneOneWay},
		{"cut-zones-only", 4 * s, 12 * s, nil, cutZonesOnly},
		{"cut-witness", 2 * s, 8 * s, nil, cutWitness},
		{"reset-zones", s, 4 * s, nil, resetZones},
		{"lose-packets", 4 * s, 10 * s, nil, losePackets},
		{"delay-zones", 4 * s, 10 * s, nil, delayZones},
		{"corrupt-disk", s, 3 * s, nil, corruptDisk},
		{"fill-disk", 4 * s, 8 * s, needSmallDisks, fillDisk},
		{"drain-disk", 4 * s, 10 * s, nil, drainDisk},
		{"drain-node", 4 * s, 10 * s, nil, drainNode},
		{"wipe-disk", s, 6 * s, nil, wipeDisk},
		{"add-node", 3 * s, 8 * s, nil, addNode},
		{"drain-under-cut", 6 * s, 12 * s, nil, drainUnderCut},
		{"add-under-cut", 6 * s, 12 * s, nil, addUnderCut},
		{"rot-and-wipe", s, 3 * s, nil, rotAndWipe},
	}
}

func kindred(table []fault) (out []Kindred) {
	for _, f := range table {
		out = append(out, Kindred{Name: f.name, Shortest: f.shortest, Longest: f.longest})
	}
	return out
}

// begun notes the target and passes undo on.
func (t *turn) begun(undo func() error, err error, target string, args ...any) (func() error, error) {
	t.target = fmt.Sprintf(target, args...)
	return undo, err
}

// anyNode is a storage node.
func (t *turn) anyNode() *node { return pick(t.rng, t.zone("")) }

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

func (t *turn) anyZone() (zone, other string) {
	if t.rng.IntN(2) == 0 {
		return "a", "b"
	}
	return "b", "a"
}

// kill pulls the plug of nodes at once; the undo starts them again.
func kill(nodes ...*node) (func() error, error) {
	return each(nodes, (*node).start), each(nodes, (*node).kill)()
}

func each(nodes []*node, do func(*node) error) func() error {
	return func() error {
		var errs []error
		for _, n := range nodes {
			errs = append(errs, do(n))
		}
		return errors.Join(errs...)
	}
}

func names(nodes []*node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.id)
	}
	return strings.Join(out, " ")
}

func killNode(t *turn) (func() error, error) {
	n := t.anyNode()
	undo, err := kill(n)
	return t.begun(undo, err, "%s", n.id)
}

func killZone(t *turn) (func() error, error) {
	zone, _ := t.anyZone()
	undo, err := kill(t.zone(zone)...)
	return t.begun(undo, err, "%s", zone)
}

func killWitness(t *turn) (func() error, error) {
	undo, err := kill(t.zone("w")...)
	return t.begun(undo, err, "w1")
}

func killAll(t *turn) (func() error, error) {
	undo, err := kill(t.nodes...)
	return t.begun(undo, err, "all")
}

func pause(nodes ...*node) (func() error, error) {
	return each(nodes, (*node).resume), each(nodes, (*node).pause)()
}

func pauseNode(t *turn) (func() error, error) {
	n := t.anyNode()
	undo, err := pause(n)
	return t.begun(undo, err, "%s", n.id)
}

// pauseLeader stops whoever leads a group when its turn comes.
func pauseLeader(t *turn) (func() error, error) {
	group := t.rng.IntN(5)
	n, err := t.leader(t.ctx, group)
	if err != nil {
		return nil, err
	}
	undo, err := pause(n)
	return t.begun(undo, err, "%s, leader of group %d", n.id, group)
}

// leader waits until a group has one.
func (r *region) leader(ctx context.Context, group int) (n *node, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = until(ctx, 200*time.Millisecond, func() error {
		s, err := r.status(ctx)
		if err != nil {
			return err
		}
		for _, g := range s.Groups {
			if int(g.Group) == group && g.Leader != "" {
				n = r.node(string(g.Leader))
				return nil
			}
		}
		return fmt.Errorf("group %d has no leader", group)
	})
	return n, err
}

// flapNode kills and starts a node again and again.
func flapNode(t *turn) (func() error, error) {
	n := t.anyNode()
	t.target = n.id
	end := time.Now().Add(t.length)
	for time.Now().Before(end) && t.ctx.Err() == nil {
		if err := n.kill(); err != nil {
			return n.start, err
		}
		sleep(t.ctx, time.Duration(500+t.rng.IntN(1000))*time.Millisecond)
		if err := n.start(); err != nil {
			return n.start, err
		}
		sleep(t.ctx, time.Duration(1000+t.rng.IntN(3000))*time.Millisecond)
	}
	return nil, nil
}

// sleep returns early when the round is over.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// rollingRestart drains one node after the other and waits until it is ready again,
// as an operator who upgrades does.
func rollingRestart(t *turn) (func() error, error) {
	order := slices.Clone(t.nodes)
	t.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	t.target = names(order)
	for _, n := range order {
		if t.ctx.Err() != nil {
			break
		}
		if err := errors.Join(n.drain(), n.start()); err != nil {
			return n.start, err
		}
		ctx, cancel := context.WithTimeout(t.ctx, 30*time.Second)
		err := until(ctx, 100*time.Millisecond, func() error { return n.ready(ctx) })
		cancel()
		if err != nil && t.ctx.Err() == nil {
			return nil, fmt.Errorf("%s is not ready after its restart: %w", n.id, err)
		}
	}
	return nil, nil
}

// everywhere is all addresses of the region.
const everywhere = "10.231.0.0/16"

func cutNode(t *turn) (func() error, error) {
	n := t.anyNode()
	undo, err := t.net.rule(bothWays(n.host.addr, everywhere, "drop"))
	return t.begun(undo, err, "%s", n.id)
}

func cutNodeOneWay(t *turn) (func() error, error) {
	n := t.anyNode()
	if t.rng.IntN(2) == 0 {
		undo, err := t.net.rule(oneWay(n.host.addr, everywhere, "drop"))
		return t.begun(undo, err, "%s is not heard", n.id)
	}
	undo, err := t.net.rule(oneWay(everywhere, n.host.addr, "drop"))
	return t.begun(undo, err, "%s hears nobody", n.id)
}

// cutZone leaves a zone, clients and all, to itself.
func cutZone(t *turn) (func() error, error) {
	zone, other := t.anyZone()
	undo, err := t.net.rule(bothWays(subnet(zone), subnet(other), "drop"), bothWays(subnet(zone), subnet("w"), "drop"))
	return t.begun(undo, err, "%s", zone)
}

func cutZoneOneWay(t *turn) (func() error, error) {
	zone, other := t.anyZone()
	undo, err := t.net.rule(oneWay(subnet(zone), subnet(other), "drop"), oneWay(subnet(zone), subnet("w"), "drop"))
	return t.begun(undo, err, "%s is not heard", zone)
}

// cutZonesOnly cuts the zones from each other; the witness sees both.
func cutZonesOnly(t *turn) (func() error, error) {
	undo, err := t.net.rule(bothWays(subnet("a"), subnet("b"), "drop"))
	return t.begun(undo, err, "a from b")
}

func cutWitness(t *turn) (func() error, error) {
	undo, err := t.net.rule(bothWays(subnet("w"), everywhere, "drop"))
	return t.begun(undo, err, "w")
}

// resetZones refuses everything between the zones, so that what is under way
// breaks instead of hanging.
func resetZones(t *turn) (func() error, error) {
	reset := "meta l4proto tcp reject with tcp reset"
	undo, err := t.net.rule(bothWays(subnet("a"), subnet("b"), reset))
	return t.begun(undo, err, "a and b")
}

func losePackets(t *turn) (func() error, error) {
	percent := 2 + t.rng.IntN(29)
	if t.rng.IntN(2) == 0 {
		undo, err := t.net.rule(bothWays(subnet("a"), subnet("b"), lossy(percent)))
		return t.begun(undo, err, "%d%% between the zones", percent)
	}
	n := t.anyNode()
	undo, err := t.net.rule(bothWays(n.host.addr, everywhere, lossy(percent)))
	return t.begun(undo, err, "%d%% at %s", percent, n.id)
}

func delayZones(t *turn) (func() error, error) {
	by := time.Duration(5+t.rng.IntN(70)) * time.Millisecond
	jitter := time.Duration(t.rng.Int64N(int64(by) * 2 / 3))
	undo, err := t.net.slow(subnet("a"), subnet("b"), by, jitter, t.rng)
	return t.begun(undo, err, "%s ± %s each way", by, jitter.Round(time.Millisecond))
}
