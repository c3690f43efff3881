package object

import (
	"context"
	"errors"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

// retryEvery is how often shards that failed are tried again while a chunk is
// not durable yet, whatever other shards are under way; a change in the region
// wakes it at once.
const retryEvery = 250 * time.Millisecond

// chunkWrite is one chunk on its way to its disks.
type chunkWrite struct {
	fanout
	w     *blobWriter
	chunk uint32

	made    erasure.ShardSet // encoded, with their checksums
	done    erasure.ShardSet // durable
	full    erasure.ShardSet // refused by a full disk
	refused erasure.ShardSet // by a node that knows another layout
	late    erasure.ShardSet // overdue by the word of a relay
	noRelay erasure.ShardSet // were with a relay once: from then on they go directly
	at      []cluster.DiskID // by shard: where it is durable
	sent    time.Time        // the first time

	relay    *relayed // whose answer is waited for
	relayDue *time.Timer
	causes   QuorumError
}

// writeChunk encodes a chunk and stores its shards. It returns when the chunk is
// durable by the quorum rule and its last shards were given a grace; calls to disks
// that lag behind or hang are left running.
func (w *blobWriter) writeChunk(ctx context.Context, chunk uint32, buf *chunkBuffer) error {
	c := &chunkWrite{fanout: newFanout(w.s, make([]cluster.Shard, len(buf.shards)), buf), w: w, chunk: chunk}
	c.at = make([]cluster.DiskID, len(buf.shards))
	w.s.hedges.relay.chunk()
	for i := range c.shards {
		c.shards[i] = cluster.Shard{Profile: shardProfile(w.blob.Profile), Payload: buf.shards[i]}
		if i < w.geo.K {
			c.shards[i].Sums = erasure.Sums(nil, buf.shards[i])
			c.made = c.made.With(erasure.ShardIndex(i))
		}
	}
	c.relayDue = time.NewTimer(relayGiveUp)
	c.relayDue.Stop() // until there is a relay
	defer c.relayDue.Stop()
	c.settle(w.s.cfg.Region.Layout())
	// The calls are detached from the client on purpose: one that is cut off half
	// way may still be carried out, behind the back of the discard that follows.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if err := c.run(ctx, calls); err != nil {
		c.linger()
		cancel()
		c.gatherLast()
		w.stood(chunk, c.place.attempt)
		return err
	}
	leave(&c.fanout, cancel)
	missing := c.missing()
	n := metadata.ChunkNote{Chunk: chunk, Attempt: c.place.attempt, Missing: uint64(missing)}
	if missing != 0 {
		zones := c.place.zones()
		n.PG, n.Zones = uint16(c.place.pg), []string{string(zones[0]), string(zones[1])}
	}
	w.noted(n)
	w.s.metrics.chunkWritten(missing != 0)
	return nil
}

// missing are the shards that are noted as such. Of a zone that fell while the chunk was
// written, and stored fewer than k, these count as missing too until a healer finds them:
// each place of a zone is noted, or k are not, so that the lists of a zone tell what one
// of its disks has lost (upkeep's gaps.nearby), before the commit as after it.
func (c *chunkWrite) missing() erasure.ShardSet {
	out := c.place.used &^ c.done
	for z, n := range c.written() {
		if n < c.w.geo.K {
			out |= c.place.used & c.w.geo.Zone(z)
		}
	}
	return out
}

// encode makes those of the shards that are not made yet. What a relay makes of the
// chunk is not made here, unless it has to be sent after all.
func (c *chunkWrite) encode(want erasure.ShardSet) error {
	geo := c.w.geo
	var err error
	var set erasure.ShardSet
	switch need := want &^ c.made; {
	case need == 0:
		return nil
	case need&geo.Zone(0) != 0 && need&geo.Zone(1) != 0:
		set, err = geo.All(), c.w.codec.Encode(c.buf.shards)
	case need&geo.Zone(0) != 0:
		set, err = geo.Zone(0), c.w.codec.EncodeZone(0, c.buf.shards)
	default:
		set, err = geo.Zone(1), c.w.codec.EncodeZone(1, c.buf.shards)
	}
	if err != nil {
		return err
	}
	for _, i := range members(set &^ c.made) {
		c.shards[i].Sums = erasure.Sums(nil, c.buf.shards[i])
	}
	c.made |= set
	return nil
}

// settle decides where the chunk goes.
func (c *chunkWrite) settle(l *cluster.Layout) {
	blob := cluster.BlobID(c.w.blob.ID)
	c.place = choose(c.s.cfg.Region, l, c.w.blob, c.chunk)
	for i := range c.shards {
		c.shards[i].Key = c.place.key(blob, c.chunk, i)
	}
}

// follow goes on under a newer layout. What is durable on a disk that the slot is
// moving away from stays so: the new owner takes over all that the disk accepted
// before it knew the layout. What lies elsewhere is written again.
func (c *chunkWrite) follow() {
	l := c.s.cfg.Region.Layout()
	switch {
	case l.Epoch == c.place.layout.Epoch:
		return
	case c.done|c.flying() == 0:
		c.settle(l)
	default:
		c.place.layout = l
		for i := range c.shards {
			if si := erasure.ShardIndex(i); c.done.Has(si) && !l.Holds(c.at[i], c.place.pg, cluster.ShardIndex(i)) {
				c.done &^= erasure.SetOf(si)
			}
		}
	}
}

// run sends, counts, and sends again what failed until the quorum rule holds or
// ctx ends. calls is the context of the sending.
func (c *chunkWrite) run(ctx, calls context.Context) error {
	s := c.s
	deadline := time.NewTimer(s.cfg.WriteWait)
	defer deadline.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	changed := s.cfg.Region.Changed()
	c.sent = time.Now()
	if err := c.send(calls); err != nil {
		return err
	}
	for {
		if c.durable() {
			// A newer layout may have taken away meanwhile what made it durable.
			if err := c.grace(ctx, calls); err != nil || c.durable() {
				return err
			}
		}
		if c.flying() == 0 && c.full != 0 && c.full|c.done == c.place.used {
			return c.short() // waiting makes no room
		}
		select {
		case a := <-c.answers:
			if err := c.take(calls, a); err != nil {
				return err
			}
			continue
		case <-c.relayDue.C:
			if err := c.relayOverdue(calls); err != nil {
				return err
			}
			continue
		case <-changed:
			changed = s.cfg.Region.Changed()
			if err := c.relayGone(calls); err != nil {
				return err
			}
		case <-retry.C: // also for what nothing tells of: a cut, in which calls hang
		case <-deadline.C:
			return c.short()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		c.follow()
		if !c.durable() {
			if s.cfg.Region.Stranded() != nil {
				return c.short() // it could not be committed either
			}
			if err := c.send(calls); err != nil {
				return err
			}
		}
	}
}

// durable asks the quorum rule.
func (c *chunkWrite) durable() bool {
	zones := c.place.zones()
	r := c.s.cfg.Region
	return durable(c.w.blob.Profile, c.written(), [2]bool{r.ZoneDown(zones[0]), r.ZoneDown(zones[1])})
}

func (c *chunkWrite) written() halves {
	return halves{(c.done & c.w.geo.Zone(0)).Len(), (c.done & c.w.geo.Zone(1)).Len()}
}

// send starts calls for the shards that are neither durable nor on their way and
// whose disk is up. A zone that is down as a whole is left out.
func (c *chunkWrite) send(ctx context.Context) error {
	var want erasure.ShardSet
	busy := c.done | c.flying()
	for i := range c.shards {
		if si := erasure.ShardIndex(i); c.place.used.Has(si) && !busy.Has(si) && c.s.cfg.Region.DiskUp(c.place.disk(i)) {
			want = want.With(si)
		}
	}
	return c.sendDirect(ctx, c.viaRelay(ctx, want))
}

// sendDirect sends shards to their own nodes.
func (c *chunkWrite) sendDirect(ctx context.Context, want erasure.ShardSet) error {
	if err := c.encode(want); err != nil {
		return err
	}
	c.direct(ctx, want)
	return nil
}

// take counts one node's answer.
func (c *chunkWrite) take(ctx context.Context, a answer) error {
	if a.via == nil {
		c.answered(a)
	}
	for j, i := range a.shards {
		set := erasure.SetOf(erasure.ShardIndex(i))
		switch err := a.errs[j]; {
		case err == nil:
			// The region may have left the disk meanwhile; a relay that was not waited
			// for may even speak of another group.
			if a.pg == c.place.pg && c.place.layout.Holds(a.disks[j], c.place.pg, cluster.ShardIndex(i)) {
				c.done |= set
				c.at[i] = a.disks[j]
			}
		case c.done&set != 0: // it got there another way
		default:
			switch {
			case errors.Is(err, cluster.ErrDiskFull):
				c.full |= set
			case errors.Is(err, cluster.ErrWrongEpoch):
				c.refused |= set
			case a.via != nil && a.failed == nil && overdue(err):
				c.late |= set
			}
			c.causes.cause(err)
			c.s.metrics.shardFailed("append")
		}
	}
	return c.tookRelay(ctx, a)
}

// grace waits a little for the last shards of a durable chunk, so that a disk that
// is a little slower does not leave it under-protected; those of disks that are down
// are not waited for. What failed is tried once more: a node that came back a moment
// ago may have refused one shard and taken the next. What was refused for its epoch
// is tried until both sides know the same layout, for as long as Config.Straggler.
func (c *chunkWrite) grace(ctx, calls context.Context) error {
	began := time.Now()
	p := newPatience(&c.fanout, c.done, c.sent)
	defer p.Stop()
	changed := c.s.cfg.Region.Changed()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	again := c.late // the relay has waited for those
	for {
		if failed := c.place.used &^ (c.done | c.flying() | again); failed != 0 {
			again |= failed
			if err := c.send(calls); err != nil {
				return err
			}
		}
		if !c.waiting() && c.refused == 0 {
			return nil
		}
		select {
		case a := <-c.answers:
			if err := c.take(calls, a); err != nil {
				return err
			}
			p.less(&c.fanout, c.done, c.sent)
			continue
		case <-changed:
			changed = c.s.cfg.Region.Changed()
		case <-retry.C:
		case <-p.C:
			left := c.s.cfg.Straggler - time.Since(began)
			if c.refused == 0 || left <= 0 {
				return nil
			}
			p.Reset(left)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		c.follow()
		again &^= c.refused
		c.refused = 0
	}
}

// linger lets calls that are under way come to their end when the chunk is given
// up, within reason.
func (c *chunkWrite) linger() {
	t := time.NewTimer(c.s.cfg.Straggler)
	defer t.Stop()
	changed := c.s.cfg.Region.Changed()
	for c.waiting() {
		select {
		case a := <-c.answers:
			c.gone(a)
		case <-changed:
			changed = c.s.cfg.Region.Changed()
		case <-t.C:
			return
		}
	}
}

// gatherLast waits for the calls that were told to end. One that does not, in a
// disk that hangs, is left behind.
func (c *chunkWrite) gatherLast() {
	t := time.NewTimer(c.s.cfg.Straggler)
	defer t.Stop()
	for c.flying() != 0 {
		select {
		case a := <-c.answers:
			c.gone(a)
		case <-t.C:
			return
		}
	}
}

// gone counts a call out whose outcome does not matter any more.
func (c *chunkWrite) gone(a answer) {
	switch {
	case a.via == nil:
		c.answered(a)
	case a.via == c.relay:
		c.forgetRelay()
	}
}

// waiting tells whether a shard is on its way to a disk that is up.
func (c *chunkWrite) waiting() bool {
	flying := c.flying()
	for i := range c.shards {
		if flying.Has(erasure.ShardIndex(i)) && c.s.cfg.Region.DiskUp(c.place.disk(i)) {
			return true
		}
	}
	return false
}

func (c *chunkWrite) short() error {
	e := c.causes
	e.Op, e.Need, e.Got, e.Zones = "write", c.w.geo.PerZone(), c.written(), c.place.zones()
	full := len(e.Causes) > 0
	for _, cause := range e.Causes {
		full = full && errors.Is(cause, cluster.ErrDiskFull)
	}
	if full {
		return errors.Join(&e, ErrFull)
	}
	return &e
}

// ErrFull: the disks that a chunk needs are full.
var ErrFull = errors.New("region is full")
