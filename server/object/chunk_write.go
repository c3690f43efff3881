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
// not durable yet; a change in the region wakes it at once.
const retryEvery = 250 * time.Millisecond

// chunkWrite is one chunk on its way to its disks.
type chunkWrite struct {
	w      *blobWriter
	place  place
	chunk  uint32
	shards []cluster.Shard
	buf    *chunkBuffer

	done    erasure.ShardSet // durable
	full    erasure.ShardSet // refused by a full disk
	flying  erasure.ShardSet // sent, not answered
	answers chan answer      // room for one of every shard, twice: nobody waits to answer
	causes  QuorumError
}

// answer is what one node said of its shards.
type answer struct {
	shards []int
	errs   []error
}

// writeChunk encodes a chunk and stores its shards. It returns when the chunk is
// durable by the quorum rule and its last shards were given a grace; only a call
// to a disk that hangs is left running.
func (w *blobWriter) writeChunk(ctx context.Context, chunk uint32, buf *chunkBuffer) error {
	if err := w.codec.Encode(buf.shards); err != nil {
		return err
	}
	c := &chunkWrite{w: w, chunk: chunk, buf: buf, answers: make(chan answer, 2*w.geo.Shards())}
	c.shards = make([]cluster.Shard, len(buf.shards))
	for i, p := range buf.shards {
		c.shards[i] = cluster.Shard{
			Profile: cluster.Profile(w.blob.Profile),
			Sums:    erasure.Sums(nil, p), Payload: p,
		}
	}
	c.settle(w.s.cfg.Region.Layout())
	// The calls are detached from the client on purpose: one that is cut off half
	// way may still be carried out, behind the back of the discard that follows.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	err := c.run(ctx, calls)
	if err != nil {
		c.linger()
	}
	cancel()
	c.gatherLast()
	if err != nil {
		w.stood(chunk, c.place.attempt)
		return err
	}
	missing := w.geo.All() &^ c.done
	n := metadata.ChunkNote{Chunk: chunk, Attempt: c.place.attempt, Missing: uint64(missing)}
	w.noted(n, atRisk(w.geo, c.written()), c.place.zones())
	w.s.metrics.chunkWritten(missing != 0)
	return nil
}

// settle decides where the chunk goes.
func (c *chunkWrite) settle(l *cluster.Layout) {
	blob := cluster.BlobID(c.w.blob.ID)
	c.place = choose(c.w.s.cfg.Region, l, c.w.geo, blob, c.chunk)
	for i := range c.shards {
		c.shards[i].Key = c.place.key(blob, c.chunk, i)
	}
}

// run sends, counts, and sends again what failed until the quorum rule holds or
// ctx ends. calls is the context of the sending.
func (c *chunkWrite) run(ctx, calls context.Context) error {
	s := c.w.s
	deadline := time.NewTimer(s.cfg.WriteWait)
	defer deadline.Stop()
	changed := s.cfg.Region.Changed()
	c.send(calls)
	for {
		if c.durable() {
			return c.grace(ctx, calls)
		}
		if c.flying == 0 && c.full != 0 && c.full|c.done == c.w.geo.All() {
			return c.short() // waiting makes no room
		}
		var retry <-chan time.Time
		if c.flying == 0 {
			t := time.NewTimer(retryEvery)
			defer t.Stop()
			retry = t.C
		}
		select {
		case a := <-c.answers:
			c.take(a)
			continue
		case <-changed:
			changed = s.cfg.Region.Changed()
		case <-retry:
		case <-deadline.C:
			return c.short()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if l := s.cfg.Region.Layout(); c.flying == 0 && l.Epoch != c.place.layout.Epoch {
			c.done = 0 // what lies under the old layout is left to the sweeper
			c.settle(l)
		}
		if !c.durable() {
			c.send(calls)
		}
	}
}

// durable asks the quorum rule.
func (c *chunkWrite) durable() bool {
	zones := c.place.zones()
	r := c.w.s.cfg.Region
	return durable(c.w.geo, c.written(), [2]bool{r.ZoneDown(zones[0]), r.ZoneDown(zones[1])})
}

func (c *chunkWrite) written() halves {
	return halves{(c.done & c.w.geo.Zone(0)).Len(), (c.done & c.w.geo.Zone(1)).Len()}
}

// send starts one call per node for the shards that are neither durable nor on
// their way and whose disk is up. A zone that is down as a whole is left out.
func (c *chunkWrite) send(ctx context.Context) {
	s := c.w.s
	byNode := map[cluster.NodeID][]int{}
	for i := range c.shards {
		si := erasure.ShardIndex(i)
		if !c.done.Has(si) && !c.flying.Has(si) && s.cfg.Region.DiskUp(c.place.disk(i)) {
			n := c.place.disk(i).Node
			byNode[n] = append(byNode[n], i)
		}
	}
	epoch := c.place.layout.Epoch
	for node, list := range byNode {
		disks := make([]cluster.DiskID, len(list))
		shards := make([]cluster.Shard, len(list))
		for j, i := range list {
			disks[j], shards[j] = c.place.disk(i).ID, c.shards[i]
			c.flying |= erasure.SetOf(erasure.ShardIndex(i))
		}
		c.buf.users.Add(1)
		go func() { // writeChunk waits for its answer, unless a disk hangs
			errs := s.cfg.Shards.AppendShards(ctx, node, epoch, disks, shards)
			c.buf.free()
			c.answers <- answer{list, errs}
		}()
	}
}

// take counts one node's answer.
func (c *chunkWrite) take(a answer) {
	for j, i := range a.shards {
		set := erasure.SetOf(erasure.ShardIndex(i))
		c.flying &^= set
		switch err := a.errs[j]; {
		case err == nil:
			c.done |= set
		default:
			if errors.Is(err, cluster.ErrDiskFull) {
				c.full |= set
			}
			c.causes.cause(err)
			c.w.s.metrics.shardFailed("append")
		}
	}
}

// grace waits a little for the last shards of a durable chunk, so that a slow
// disk does not leave it under-protected; those of disks that are down are not
// waited for. What failed is tried once more: a node that came back a moment ago
// may have refused one shard and taken the next.
func (c *chunkWrite) grace(ctx, calls context.Context) error {
	t := time.NewTimer(c.w.s.cfg.Straggler)
	defer t.Stop()
	changed := c.w.s.cfg.Region.Changed()
	var again erasure.ShardSet
	for {
		if failed := c.w.geo.All() &^ (c.done | c.flying | again); failed != 0 {
			again |= failed
			c.send(calls)
		}
		if !c.waiting() {
			return nil
		}
		select {
		case a := <-c.answers:
			c.take(a)
		case <-changed:
			changed = c.w.s.cfg.Region.Changed()
		case <-t.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// linger lets calls that are under way come to their end when the chunk is given
// up, within reason.
func (c *chunkWrite) linger() {
	t := time.NewTimer(c.w.s.cfg.Straggler)
	defer t.Stop()
	for c.waiting() {
		select {
		case a := <-c.answers:
			c.take(a)
		case <-t.C:
			return
		}
	}
}

// gatherLast waits for the calls that were told to end. One that does not, in a
// disk that hangs, is left behind; its shards count as missing.
func (c *chunkWrite) gatherLast() {
	t := time.NewTimer(c.w.s.cfg.Straggler)
	defer t.Stop()
	for c.flying != 0 {
		select {
		case a := <-c.answers:
			c.take(a)
		case <-t.C:
			return
		}
	}
}

// waiting tells whether a shard is on its way to a disk that is up.
func (c *chunkWrite) waiting() bool {
	for i := range c.shards {
		if c.flying.Has(erasure.ShardIndex(i)) && c.w.s.cfg.Region.DiskUp(c.place.disk(i)) {
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
