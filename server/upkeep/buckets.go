package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"bivalve/metadata"
)

// Deletions is the part of the catalog that deletes buckets.
type Deletions interface {
	ListBuckets(ctx context.Context, q metadata.BucketPage) (metadata.Buckets, error)
	FinishDelete(ctx context.Context, b metadata.Bucket) error
}

// BucketFinisher brings bucket deletions to an end whose node died in the midst.
type BucketFinisher struct {
	Buckets Deletions
	Leader  RootLeader
	Logger  *slog.Logger
	Every   time.Duration
	After   time.Duration // a deletion older than this is taken over
	Now     func() time.Time
}

// Run works until ctx ends.
func (f *BucketFinisher) Run(ctx context.Context) error {
	t := time.NewTicker(f.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if f.Leader() {
			f.sweep(ctx)
		}
	}
}

func (f *BucketFinisher) sweep(ctx context.Context) {
	page := metadata.BucketPage{Limit: 1000}
	for {
		qctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		got, err := f.Buckets.ListBuckets(qctx, page)
		cancel()
		if err != nil {
			f.Logger.Debug("buckets could not be listed", "err", err)
			return
		}
		for _, b := range got.Buckets {
			page.After = b.Name
			if b.Deleting == 0 || f.Now().Sub(time.Unix(0, b.Deleting)) < f.After {
				continue
			}
			pctx, cancel := context.WithTimeout(ctx, time.Minute)
			err := f.Buckets.FinishDelete(pctx, b)
			cancel()
			if err != nil && !errors.Is(err, metadata.ErrBucketNotEmpty) && !errors.Is(err, metadata.ErrConflict) {
				f.Logger.Warn("an interrupted bucket deletion could not be finished", "bucket", b.Name, "err", err)
			}
		}
		if !got.More {
			return
		}
	}
}
