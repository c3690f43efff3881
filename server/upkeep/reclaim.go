package upkeep

import (
	"context"
	"log/slog"
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

// What one round takes from one partition, and how much of it at a time.
const (
	reclaimBatch    = 256
	reclaimParallel = 4
)

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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for g := replica.GroupID(1); int(g) <= r.Partitions && ctx.Err() == nil; g++ {
			for r.Leads(g) {
				n, more := r.round(ctx, g)
				removed.Add(float64(n))
				if !more {
					break
				}
			}
		}
	}
}

// round removes up to one batch; more says that a further one may be waiting.
func (r *Reclaimer) round(ctx context.Context, g replica.GroupID) (removed int, more bool) {
	qctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	items, err := r.Queue.Garbage(qctx, g, r.Now().Add(-r.Grace).UnixNano(), reclaimBatch)
	if err != nil || len(items) == 0 {
		if err != nil {
			r.Logger.Debug("garbage could not be listed", "group", g, "err", err)
		}
		return 0, false
	}
	var mu sync.Mutex
	var gone []metadata.GarbageID
	var work errgroup.Group
	work.SetLimit(reclaimParallel)
	for _, item := range items {
		work.Go(func() error {
			if err := r.Blobs.RemoveBlob(qctx, &item.Blob); err != nil {
				r.Logger.Debug("garbage stays queued", "blob", item.Blob.ID.String(), "err", err)
				return nil
			}
			mu.Lock()
			gone = append(gone, item.ID)
			mu.Unlock()
			return nil
		})
	}
	_ = work.Wait() // what failed stays queued
	if len(gone) == 0 {
		return 0, false
	}
	if err := r.Queue.DropGarbage(qctx, g, gone); err != nil {
		r.Logger.Debug("removed garbage could not be dropped from its queue", "group", g, "err", err)
		return 0, false
	}
	return len(gone), len(gone) == len(items) && len(items) == reclaimBatch
}
