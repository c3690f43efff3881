package object

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/transport"
	"bivalve/erasure"
)

const (
	// relayHedgeMin and Max bound when a relay that does not answer is overdue; four
	// times its recent p95 in between. Then the shards are sent directly as well: at
	// once if a hedge may be spent, else after relayGiveUp.
	relayHedgeMin = 750 * time.Millisecond // beyond stragglerFloor, which the relay may use up
	relayHedgeMax = time.Second
	relayGiveUp   = 3 * time.Second

	// How long a relay is left alone after it was of no use, by what it said.
	restOverloaded = time.Second
	restFailed     = 2 * time.Second
	restUnknown    = time.Minute // it has no such call
)

// Relays hands chunks to nodes of the other zone. Slices passed in are not touched
// after the call returns.
type Relays interface {
	// Relay returns one result per wanted shard, by ascending index, or why the
	// call as a whole failed.
	Relay(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, c *cluster.Chunk) ([]error, error)
}

// relayBook is what is known of the relays: how fast they were, and which are left
// alone for now. The zero value is ready.
type relayBook struct {
	pace paces[cluster.NodeID]

	mu   sync.Mutex
	rest map[cluster.NodeID]time.Time
}

// failed leaves a relay alone for a while.
func (b *relayBook) failed(id cluster.NodeID, err error, now time.Time) {
	wait := restFailed
	switch {
	case errors.Is(err, transport.ErrNoHandler):
		wait = restUnknown
	case errors.Is(err, cluster.ErrOverloaded):
		wait = restOverloaded
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rest == nil {
		b.rest = map[cluster.NodeID]time.Time{}
	}
	if until := now.Add(wait); until.After(b.rest[id]) {
		b.rest[id] = until
	}
}

func (b *relayBook) resting(id cluster.NodeID, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.rest[id])
}

// overdueAfter is how long to wait for a relay.
func (b *relayBook) overdueAfter(id cluster.NodeID, now time.Time) time.Duration {
	if p95 := b.pace.p95(id, now); p95 > 0 {
		return min(max(relayHedgeMin, 4*p95), relayHedgeMax)
	}
	return relayHedgeMax
}

// relayed is a relay call of a chunk; the chunk waits for one at a time.
type relayed struct {
	to   cluster.NodeID
	set  erasure.ShardSet
	sent time.Time
}

// viaRelay hands those of the shards that lie in the other zone to a relay there,
// if that moves fewer bytes than to send them one by one, and returns the others.
func (c *chunkWrite) viaRelay(ctx context.Context, want erasure.ShardSet) (direct erasure.ShardSet) {
	s := c.s
	far := 0
	if c.place.zones()[0] == s.cfg.Zone {
		far = 1
	}
	set := want & c.w.geo.Zone(far) &^ c.noRelay
	if s.cfg.Relays == nil || c.relay != nil || c.place.zones()[1-far] != s.cfg.Zone || set.Len() <= c.w.geo.K {
		return want
	}
	to, ok := c.pickRelay(set)
	if !ok {
		return want
	}
	chunk := &cluster.Chunk{PG: c.place.pg, Blob: cluster.BlobID(c.w.blob.ID), Number: c.chunk,
		Profile: shardProfile(c.w.blob.Profile), Want: uint64(set)}
	held := make([]int, c.w.geo.K)
	for i := range held {
		held[i] = i
		chunk.Data, chunk.Sums = append(chunk.Data, c.shards[i].Payload), append(chunk.Sums, c.shards[i].Sums)
	}
	list := members(set)
	disks := make([]cluster.DiskID, len(list))
	for j, i := range list {
		disks[j] = c.place.disk(i).ID // the relay refuses every other layout
		c.calls[i]++
	}
	via := &relayed{to: to, set: set, sent: time.Now()}
	c.relay = via
	c.relayDue.Reset(s.relays.overdueAfter(to, via.sent))
	c.buf.hold(held)
	epoch := c.place.layout.Epoch
	go func() { // as in direct
		errs, err := s.cfg.Relays.Relay(ctx, to, epoch, chunk)
		now := time.Now()
		if err == nil && len(errs) != len(list) {
			err = cluster.ErrInvalid
		}
		if err != nil {
			errs = spread(err, len(list))
			if ctx.Err() == nil {
				s.relays.failed(to, err, now)
			}
		} else {
			s.relays.pace.observe(to, now, now.Sub(via.sent))
		}
		c.buf.drop(held)
		c.answers <- answer{shards: list, errs: errs, pg: chunk.PG, disks: disks, via: via, failed: err}
	}()
	return want &^ set
}

func members(set erasure.ShardSet) []int {
	var out []int
	for i := range erasure.MaxShards {
		if set.Has(erasure.ShardIndex(i)) {
			out = append(out, i)
		}
	}
	return out
}

// pickRelay takes a node that holds wanted shards itself and is not slow, else any of the zone;
// which of them the chunk decides, so that all of them share the work.
func (c *chunkWrite) pickRelay(set erasure.ShardSet) (cluster.NodeID, bool) {
	now := time.Now()
	var owners []cluster.NodeID
	zone := c.place.zones()[c.place.half(members(set)[0])]
	consider := func(list []cluster.NodeID, d cluster.Disk) []cluster.NodeID {
		if slices.Contains(list, d.Node) || c.s.relays.resting(d.Node, now) || !c.s.cfg.Region.NodeUp(d.Node) {
			return list
		}
		return append(list, d.Node)
	}
	for _, i := range members(set) {
		if d := c.place.disk(i); !c.s.cfg.Region.DiskSlow(d) {
			owners = consider(owners, d)
		}
	}
	if len(owners) == 0 {
		for _, d := range disksOf(c.place.layout, zone) {
			owners = consider(owners, d)
		}
	}
	if len(owners) == 0 {
		return "", false
	}
	blob := c.w.blob.ID
	return owners[(int(blob[15])+int(blob[14])<<8+int(c.chunk))%len(owners)], true
}

// relayOverdue stops waiting for a relay, if that may be done now, and sends
// directly what is on its way through it. Should it answer all the same, that counts.
func (c *chunkWrite) relayOverdue(ctx context.Context) error {
	if c.relay == nil {
		return nil
	}
	via := c.relay
	if waited := time.Since(via.sent); waited < relayGiveUp && c.s.cfg.Region.NodeUp(via.to) && !c.s.hedges.relay.take() {
		c.relayDue.Reset(min(relayHedgeMax, relayGiveUp-waited))
		return nil
	}
	c.s.metrics.relayFallbacks.WithLabelValues("late").Inc()
	c.s.relays.failed(via.to, cluster.ErrOverloaded, time.Now())
	c.forgetRelay()
	return c.sendDirect(ctx, via.set&^c.done)
}

// relayGone is relayOverdue for a relay that gossip has given up.
func (c *chunkWrite) relayGone(ctx context.Context) error {
	if c.relay == nil || c.s.cfg.Region.NodeUp(c.relay.to) {
		return nil
	}
	return c.relayOverdue(ctx)
}

// forgetRelay ends the wait for the relay.
func (c *chunkWrite) forgetRelay() {
	for _, i := range members(c.relay.set) {
		c.calls[i]--
	}
	c.noRelay |= c.relay.set
	c.relayDue.Stop()
	c.relay = nil
}

// tookRelay is what follows the answer of the relay that is waited for: shards that
// did not reach their node by this way go by the other at once.
func (c *chunkWrite) tookRelay(ctx context.Context, a answer) error {
	if a.via == nil || a.via != c.relay {
		return nil
	}
	c.forgetRelay()
	var again erasure.ShardSet
	for j, i := range a.shards {
		if a.failed != nil || passing(a.errs[j]) {
			again = again.With(erasure.ShardIndex(i))
		}
	}
	if again &^= c.done; again == 0 {
		return nil
	}
	c.s.metrics.relayFallbacks.WithLabelValues("failed").Inc()
	return c.sendDirect(ctx, again)
}
