package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// UnderQueue is a partition's queue of blobs that lack shards.
type UnderQueue interface {
	ShardMarks
	// UnderLocal and SlotsLocal tell what this node's copy has, so that a look
	// costs nobody else anything. What it lacks of the latest entries is seen at
	// the next look; the marks are checked when they are applied.
	UnderLocal(g replica.GroupID, after []byte, limit int) (metadata.UnderBlobs, error)
	SlotsLocal(g replica.GroupID) ([]metadata.SlotCount, error)
	GroupStatsLocal(g replica.GroupID) (metadata.Stats, error)
}

// HealHands have a node rebuild missing shards of its zone (Rebuilder.Heal).
type HealHands interface {
	HealChunk(ctx context.Context, to cluster.NodeID, c LackingChunk) (healed uint64, err error)
	DeleteShards(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, keys []cluster.ShardKey) error
}

// HealerConfig is what a Healer needs. Zero means the default in brackets.
type HealerConfig struct {
	Queue      UnderQueue
	Hands      HealHands
	Layout     func() *cluster.Layout
	DiskUp     func(cluster.Disk) bool
	Changed    func() <-chan struct{} // closed when DiskUp or Layout may have changed
	Leads      func(replica.GroupID) bool
	Partitions int

	Parallel int           // chunks of one partition under repair at a time [4]
	Every    time.Duration // between two looks [1 s]
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
}

// Healer brings blobs that lack shards back to full protection, the most endangered
// first. The queue is the partition's: whoever leads it goes on where another ended.
// A shard leaves the queue when it was read back from its disk, no sooner.
type Healer struct {
	cfg    HealerConfig
	chunks prometheus.Counter
}

// NewHealer registers its metrics; Run does the work.
func NewHealer(cfg HealerConfig) (*Healer, error) {
	orElse(&cfg.Parallel, 4)
	orElse(&cfg.Every, time.Second)
	h := &Healer{cfg: cfg, chunks: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "bivalve_healed_chunks_total", Help: "Chunks of which a healer of this node has had missing shards rebuilt."})}
	if cfg.Registry != nil {
		if err := cfg.Registry.Register(h.chunks); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// What one look takes from a queue at a time, and how long a blob is left alone
// that could not be healed though its disks are there.
const (
	healPage      = 128
	healTurn      = 16 // pages with work in them, until the other partitions are looked at
	healHead      = 2  // pages without any that are looked at each time
	healRest      = 10 // times as long as such pages took the rest is left alone
	healRetry     = 2 * time.Second
	healRetryMost = 2 * time.Minute
	healWaiting   = 100_000 // blobs that may wait so, of one partition
)

// Run works until ctx ends.
func (h *Healer) Run(ctx context.Context) error {
	t := time.NewTicker(h.cfg.Every)
	defer t.Stop()
	waiting := map[replica.GroupID]*patience{}
	for {
		changed := h.cfg.Changed()
		var work errgroup.Group
		for g := replica.GroupID(1); int(g) <= h.cfg.Partitions; g++ {
			if !h.cfg.Leads(g) {
				delete(waiting, g)
				continue
			}
			if waiting[g] == nil {
				waiting[g] = &patience{blobs: map[metadata.BlobID]retry{}}
			}
			p := waiting[g]
			work.Go(func() error { h.group(ctx, g, p); return nil })
		}
		_ = work.Wait() // what failed waits
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-t.C:
		}
	}
}

// retry is when a blob is worth another try.
type retry struct {
	until time.Time
	after time.Duration
}

// patience is what could not be healed of one partition.
type patience struct {
	// deep is when more than the head of the queue is worth another look, if nothing
	// can be done at the head. group owns it.
	deep time.Time

	mu    sync.Mutex
	blobs map[metadata.BlobID]retry
}

func (p *patience) ripe(id metadata.BlobID, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !now.Before(p.blobs[id].until)
}

func (p *patience) failed(id metadata.BlobID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, known := p.blobs[id]
	if !known && len(p.blobs) >= healWaiting {
		clear(p.blobs) // all are tried again
	}
	r.after = min(healRetryMost, max(healRetry, 2*r.after))
	r.until = now.Add(r.after)
	p.blobs[id] = r
}

func (p *patience) done(id metadata.BlobID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.blobs, id)
}

// group goes through one queue from its head, as long as there is something to do
// in it. A queue that is long because of disks which are away is not walked to its end
// again and again for what cannot be healed elsewhere: after a walk it rests.
func (h *Healer) group(ctx context.Context, g replica.GroupID, p *patience) {
	layout := h.cfg.Layout()
	if layout == nil || !h.worth(g, layout) {
		return
	}
	var healed int64
	var after []byte
	var spent time.Duration // in pages without work
	idle := 0
	for turn := 0; turn < healTurn && ctx.Err() == nil && h.cfg.Leads(g); {
		began := h.cfg.Now()
		if idle >= healHead && began.Before(p.deep) {
			break
		}
		page, err := h.cfg.Queue.UnderLocal(g, after, healPage)
		if err != nil {
			h.cfg.Logger.Debug("the queue of a partition could not be read", "group", g, "err", err)
			return
		}
		n, err := h.page(ctx, g, layout, page.Blobs, p)
		if healed += n; n > 0 {
			turn++
		} else {
			idle++
			spent += h.cfg.Now().Sub(began)
		}
		if err != nil {
			h.cfg.Logger.Debug("healed shards could not be taken off the queue", "group", g, "err", err)
			return
		}
		if !page.More || len(page.Blobs) == 0 {
			p.deep = h.cfg.Now().Add(min(healRetryMost, healRest*spent))
			break
		}
		after = page.Blobs[len(page.Blobs)-1].Place
	}
	if healed > 0 {
		h.cfg.Logger.Info("missing shards were rebuilt", "group", g, "shards", healed)
	}
}

// worth tells whether any blob of the queue may be healed now: a place that lacks
// shards is on a disk that is there. A long queue for a zone that is away is not
// walked again and again.
func (h *Healer) worth(g replica.GroupID, l *cluster.Layout) bool {
	stats, err := h.cfg.Queue.GroupStatsLocal(g)
	if err != nil || stats.Queued == 0 {
		return false
	}
	slots, err := h.cfg.Queue.SlotsLocal(g)
	if err != nil {
		return false
	}
	missing := false
	for _, s := range slots {
		if s.Missing == 0 {
			continue
		}
		missing = true
		if int(s.Slot.PG) < len(l.Groups) && int(s.Slot.Index) < len(l.Groups[s.Slot.PG]) &&
			h.cfg.DiskUp(l.Disk(cluster.PG(s.Slot.PG), cluster.ShardIndex(s.Slot.Index))) {
			return true
		}
	}
	return !missing // of a version of this program that did not note the places
}

// page heals what can be healed of a page, and takes it off the queue.
func (h *Healer) page(ctx context.Context, g replica.GroupID, l *cluster.Layout, blobs []metadata.UnderBlob, p *patience) (int64, error) {
	var healed atomic.Int64
	var mu sync.Mutex
	var done []clearing
	var work errgroup.Group
	work.SetLimit(h.cfg.Parallel)
	for _, u := range blobs {
		if !p.ripe(u.Blob.ID, h.cfg.Now()) {
			continue
		}
		for _, j := range h.jobs(l, &u.Blob) {
			work.Go(func() error {
				if ctx.Err() != nil {
					return nil
				}
				got, err := h.chunk(ctx, j)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					h.cfg.Logger.Debug("a chunk is not healed yet", "blob", u.Blob.ID.String(), "chunk", j.chunk.Key.Chunk, "err", err)
					p.failed(u.Blob.ID, h.cfg.Now())
				default:
					p.done(u.Blob.ID)
				}
				if got != 0 {
					healed.Add(int64(bits.OnesCount64(got)))
					h.chunks.Inc()
					mark := markOf(l, j.chunk.Key)
					mark.Set, mark.Clear, mark.Seen = 0, got, j.seen
					mu.Lock()
					done = append(done, clearing{mark, j})
					mu.Unlock()
				}
				return nil
			})
		}
	}
	_ = work.Wait() // what failed waits
	for len(done) > 0 {
		n, err := h.clear(ctx, g, l, done[:min(len(done), metadata.MaxMarks)])
		if err != nil {
			return healed.Load(), err
		}
		done = done[n:]
	}
	return healed.Load(), nil
}

// healJob is what one node is asked for.
type healJob struct {
	to    cluster.NodeID
	chunk LackingChunk
	seen  int64 // the note's Marked
}

// jobs are the chunks of a blob that lack shards, one job for each zone that lacks
// some and has a disk up to put them on. Of a chunk of which too few are left, a disk
// that was away may have brought some back.
func (h *Healer) jobs(l *cluster.Layout, b *metadata.Blob) []healJob {
	var out []healJob
	half := int(b.Profile.K) + int(b.Profile.M)
	for _, n := range b.Notes {
		if n.Missing == 0 {
			continue
		}
		pg := groupOf(l, b, n)
		if int(pg) >= len(l.Groups) || len(l.Groups[pg]) < b.Profile.Shards() {
			continue
		}
		for z := range 2 {
			j := healJob{seen: n.Marked, chunk: LackingChunk{
				Key:     cluster.ShardKey{PG: pg, Blob: cluster.BlobID(b.ID), Chunk: n.Chunk},
				Profile: shardProfile(b.Profile), Bytes: int(b.ShardBytes(n.Chunk)), Missing: n.Missing}}
			for i := z * half; i < (z+1)*half; i++ {
				if d := l.Disk(pg, cluster.ShardIndex(i)); n.Missing>>i&1 == 1 && h.cfg.DiskUp(d) {
					j.chunk.Want |= 1 << i
					if j.to == "" {
						j.to = d.Node
					}
				}
			}
			if j.chunk.Want != 0 {
				out = append(out, j)
			}
		}
	}
	return out
}

// groupOf is where a chunk lies, by its note; the zero note of a chunk without one.
func groupOf(l *cluster.Layout, b *metadata.Blob, n metadata.ChunkNote) cluster.PG {
	switch {
	case len(n.Zones) == 2: // it lacks shards
		return cluster.PG(n.PG)
	case b.Profile.Class == metadata.ClassOneZone:
		return l.ProbeIn(cluster.Zone(b.Profile.Zone), cluster.BlobID(b.ID), n.Chunk, n.Attempt)
	}
	return l.Probe(cluster.BlobID(b.ID), n.Chunk, n.Attempt)
}

// shardProfile is what each shard of a blob says of its code.
func shardProfile(p metadata.Profile) cluster.Profile {
	return cluster.Profile{K: p.K, M: p.M}.Of(cluster.Class(p.Class))
}

func (h *Healer) chunk(ctx context.Context, j healJob) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, healCall)
	defer cancel()
	healed, err := h.cfg.Hands.HealChunk(ctx, j.to, j.chunk)
	return healed & j.chunk.Want, err
}

// clearing is a mark that says that shards are there again.
type clearing struct {
	mark metadata.ShardMark
	job  healJob
}

// clear takes healed shards off the queue, and tells of how many of done. A blob that nobody holds any more was
// deleted meanwhile: its shards must not stay (it is never committed again). Those
// of garbage are left to the reclaimer, or, if it was here before, to the sweep of
// orphans.
func (h *Healer) clear(ctx context.Context, g replica.GroupID, l *cluster.Layout, done []clearing) (int, error) {
	marks := make([]metadata.ShardMark, len(done))
	for i, c := range done {
		marks[i] = c.mark
	}
	states, err := h.cfg.Queue.MarkShards(ctx, g, marks)
	if err != nil {
		return 0, err
	}
	if len(states) < 1 || len(states) > len(done) {
		return 0, metadata.ErrMalformed
	}
	var first error
	for i, state := range states {
		if state != metadata.BlobUnknown {
			continue
		}
		for _, k := range done[i].job.chunk.orphans(done[i].mark.Clear) {
			d := l.Disk(k.PG, k.Index)
			first = errors.Join(first, h.cfg.Hands.DeleteShards(ctx, d.Node, d.ID, []cluster.ShardKey{k}))
		}
	}
	if first != nil {
		h.cfg.Logger.Debug("shards of deleted objects are left to the sweep", "err", first)
	}
	return len(states), nil
}
