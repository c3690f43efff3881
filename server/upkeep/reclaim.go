package upkeep

import (
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
	Garbage(ctx context.Context, g replica.GroupID, before int64, limit int) ([]metadata.Garbage, error)
	DropGarbage(ctx context.Context, g replica.GroupID, items []metadata.GarbageID) error
}

// Remover deletes every shard of a blob, or says that it could not.
type Remover interface {
	RemoveBlob(ctx context.Context, b *metadata.Blob) error
}

// Reclaimer removes the shards of overwritten and deleted blobs once their grace
// is over, which outlives any read in flight. An item whose shards could not all
// be removed stays in the queue: on any doubt bytes are kept.
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

// What one round takes from one partition, how much of it at a time, after how many
// looks an item is tried again whose shards could not all be removed, and how long the
// removing of a batch and a call to its partition may take.
const (
	reclaimBatch    = 256
	reclaimMost     = 10_000
	reclaimParallel = 4
	reclaimPatience = 10
	reclaimFor      = 30 * time.Second
	reclaimCall     = 15 * time.Second
)

// stuck are the items of one partition that could not be removed, with the time
// when they are worth another try.
type stuck map[metadata.GarbageID]time.Time

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
	waiting := map[replica.GroupID]stuck{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for g := replica.GroupID(1); int(g) <= r.Partitions && ctx.Err() == nil; g++ {
			if !r.Leads(g) {
				delete(waiting, g)
				continue
			}
			if waiting[g] == nil {
				waiting[g] = stuck{}
			}
			for more := true; more && ctx.Err() == nil && r.Leads(g); {
				var n int
				n, more = r.round(ctx, g, waiting[g])
				removed.Add(float64(n))
			}
		}
	}
}

// round removes up to one batch; more says that a further one may be waiting.
// Items that are stuck are looked past, so that those behind them are reached.
func (r *Reclaimer) round(ctx context.Context, g replica.GroupID, wait stuck) (removed int, more bool) {
	limit := min(len(wait)+reclaimBatch, reclaimMost)
	qctx, cancel := context.WithTimeout(ctx, reclaimCall)
	defer cancel()
	items, err := r.Queue.Garbage(qctx, g, r.graceBegan().UnixNano(), limit)
	if err != nil {
		r.Logger.Debug("garbage could not be listed", "group", g, "err", err)
		return 0, false
	}
	more = len(items) == limit
	items = slices.DeleteFunc(items, func(item metadata.Garbage) bool { return r.Now().Before(wait[item.ID]) })
	if len(items) > reclaimBatch {
		items, more = items[:reclaimBatch], true
	}
	if len(items) == 0 {
		return 0, false
	}
	gone := r.remove(ctx, items, wait)
	if len(gone) == 0 {
		return 0, more
	}
	// A disk that hangs takes all the time of the removing, but none of this.
	dctx, cancel := context.WithTimeout(ctx, reclaimCall)
	defer cancel()
	if err := r.Queue.DropGarbage(dctx, g, gone); err != nil {
		r.Logger.Debug("removed garbage could not be dropped from its queue", "group", g, "err", err)
		return 0, false
	}
	return len(gone), more
}

// remove removes the shards of items and tells which are gone for good; the
// others wait.
func (r *Reclaimer) remove(ctx context.Context, items []metadata.Garbage, wait stuck) (gone []metadata.GarbageID) {
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
				wait[item.ID] = r.Now().Add(reclaimPatience * r.Every)
				return nil
			}
			delete(wait, item.ID)
			gone = append(gone, item.ID)
			return nil
		})
	}
	_ = work.Wait() // what failed waits
	return gone
}
