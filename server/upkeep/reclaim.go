package upkeep

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/replica"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// GarbageQueue is the part of the catalog that keeps garbage.
type GarbageQueue interface {
	Garbage(ctx context.Context, g replica.GroupID, page metadata.GarbagePage) ([]metadata.Garbage, error)
	DropGarbage(ctx context.Context, g replica.GroupID, items []metadata.GarbageID) error
}

// Remover deletes every shard of a blob, or says that it could not.
type Remover interface {
	RemoveBlob(ctx context.Context, b *metadata.Blob) error
}

// Reclaimer removes the shards of overwritten and deleted blobs once their grace
// is over, which outlives any read in flight. An item whose shards could not all
// be removed stays in the queue: on any doubt bytes are kept. It holds up none behind
// it, however many there are: while a zone is away, that is all of them, and what the
// other zone has of each is removed all the same.
type Reclaimer struct {
	Queue      GarbageQueue
	Blobs      Remover
	Partitions int
	Leads      func(replica.GroupID) bool
	Grace      time.Duration
	Every      time.Duration
	Logger     *slog.Logger
	Registry   prometheus.Registerer
	Now        func() time.Time
}

// What is taken of a queue at a time, after how many such batches that could not be
// removed as a whole the other partitions have their turn, how many looks later what is
// stuck is tried again, and how long the removing of a batch and a call to its partition
// may take.
const (
	reclaimBatch    = 256
	reclaimTurn     = 40
	reclaimParallel = 4
	reclaimPatience = 10
	reclaimFor      = 30 * time.Second
	reclaimCall     = 15 * time.Second
)

// course is how far the reclaimer is in the queue of one partition.
type course struct {
	fresh []byte    // the last item that was tried; nil: none was
	stuck bool      // of those up to it some are still there
	again time.Time // when these are worth another try
	retry []byte    // how far that has come; nil: at the first
	left  bool      // some were still there again
}

// Run works until ctx ends.
func (r *Reclaimer) Run(ctx context.Context) error {
	removed := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "bivalve_reclaimed_blobs_total", Help: "Garbage blobs whose shards were removed by this node."})
	if r.Registry != nil {
		if err := r.Registry.Register(removed); err != nil {
			return err
		}
	}
	t := time.NewTicker(r.Every)
	defer t.Stop()
	courses := map[replica.GroupID]*course{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for g := replica.GroupID(1); int(g) <= r.Partitions && ctx.Err() == nil; g++ {
			if !r.Leads(g) {
				delete(courses, g)
				continue
			}
			if courses[g] == nil {
				courses[g] = &course{}
			}
			removed.Add(float64(r.look(ctx, g, courses[g])))
		}
	}
}

// look goes through what has come to a queue, then, if it is time, through what was
// stuck in it, and tells how many items it has removed.
func (r *Reclaimer) look(ctx context.Context, g replica.GroupID, c *course) (removed int) {
	removed, left, _ := r.walk(ctx, g, &c.fresh, nil)
	if left && !c.stuck {
		c.stuck, c.again = true, r.Now().Add(reclaimPatience*r.Every)
	}
	if !c.stuck || r.Now().Before(c.again) {
		return removed
	}
	more, left, ended := r.walk(ctx, g, &c.retry, c.fresh)
	c.left = c.left || left
	if c.again = r.Now().Add(reclaimPatience * r.Every); ended {
		c.stuck, c.left, c.retry = c.left, false, nil
	}
	return removed + more
}

// walk removes the items of a queue that are behind from, up to and with to (nil: all
// that are ripe), and takes from along. left tells that some could not be removed, ended
// that none is before it.
func (r *Reclaimer) walk(ctx context.Context, g replica.GroupID, from *[]byte, to []byte) (removed int, left, ended bool) {
	for turn := 0; turn < reclaimTurn && ctx.Err() == nil && r.Leads(g); {
		items, err := r.list(ctx, g, *from)
		if err != nil {
			r.Logger.Debug("garbage could not be listed", "group", g, "err", err)
			return removed, left, false
		}
		// A partition whose program does not know After begins at the first one again.
		items = slices.DeleteFunc(items, func(i metadata.Garbage) bool {
			return *from != nil && bytes.Compare(i.ID[:], *from) <= 0 || to != nil && bytes.Compare(i.ID[:], to) > 0
		})
		if len(items) == 0 {
			return removed, left, true
		}
		gone := r.remove(ctx, items)
		if err := r.drop(ctx, g, gone); err != nil {
			r.Logger.Debug("removed garbage could not be dropped from its queue", "group", g, "err", err)
			return removed, left, false
		}
		if removed += len(gone); len(gone) < len(items) {
			left = true
			turn++
		}
		*from = bytes.Clone(items[len(items)-1].ID[:])
	}
	return removed, left, false
}

// list is the batch behind an item.
func (r *Reclaimer) list(ctx context.Context, g replica.GroupID, after []byte) ([]metadata.Garbage, error) {
	ctx, cancel := context.WithTimeout(ctx, reclaimCall)
	defer cancel()
	return r.Queue.Garbage(ctx, g, metadata.GarbagePage{Before: r.graceBegan().UnixNano(), Limit: reclaimBatch, After: after})
}

// drop takes items off their queue. A disk that hangs takes all the time of the removing,
// but none of this.
func (r *Reclaimer) drop(ctx context.Context, g replica.GroupID, gone []metadata.GarbageID) error {
	if len(gone) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reclaimCall)
	defer cancel()
	return r.Queue.DropGarbage(ctx, g, gone)
}

// remove removes the shards of items and tells which are gone for good.
func (r *Reclaimer) remove(ctx context.Context, items []metadata.Garbage) (gone []metadata.GarbageID) {
	ctx, cancel := context.WithTimeout(ctx, reclaimFor)
	defer cancel()
	var mu sync.Mutex
	var work errgroup.Group
	work.SetLimit(reclaimParallel)
	for _, item := range items {
		work.Go(func() error {
			err := r.Blobs.RemoveBlob(ctx, &item.Blob)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.Logger.Debug("garbage stays queued", "blob", item.Blob.ID.String(), "err", err)
				return nil
			}
			gone = append(gone, item.ID)
			return nil
		})
	}
	_ = work.Wait() // what failed stays
	return gone
}
