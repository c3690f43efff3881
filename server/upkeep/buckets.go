package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"bivalve/metadata"
)

// Deletions is the part of the catalog that changes buckets in several groups.
type Deletions interface {
	ListBuckets(ctx context.Context, q metadata.BucketPage) (metadata.Buckets, error)
	FinishDelete(ctx context.Context, b metadata.Bucket) error
	SpreadRules(ctx context.Context, b metadata.Bucket) error
	// ForgetDropped removes what is kept of buckets dropped before a log time.
	ForgetDropped(ctx context.Context, before int64, most int) (int, error)
	// Clock is the region's, in Unix nanoseconds; 0: not known.
	Clock() (int64, error)
}

// BucketFinisher brings to an end what a node began with a bucket and died in the
// midst of: its deletion, or a change of its rules that not every partition has. What
// is kept of deleted ones it has forgotten when nothing can ask for it any more.
type BucketFinisher struct {
	Buckets Deletions
	Leader  RootLeader
	Logger  *slog.Logger
	Every   time.Duration
	After   time.Duration // a deletion older than this is taken over
	Keep    time.Duration // from the end of a bucket until it is forgotten
	Now     func() time.Time

	forgot time.Time // when it last looked what may be forgotten
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
			f.forget(ctx)
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
			if b.Spread < b.Revision && f.Now().Sub(time.Unix(0, b.Revision)) >= f.After {
				f.spread(ctx, b)
			}
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

const (
	forgetEvery = time.Hour // the notes of all buckets that were dropped are read each time
	// forgetAtOnce is how many buckets a look forgets at most.
	forgetAtOnce = 1000
)

func (f *BucketFinisher) forget(ctx context.Context) {
	if f.Now().Sub(f.forgot).Abs() < forgetEvery {
		return
	}
	f.forgot = f.Now()
	fctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	now, err := f.Buckets.Clock()
	if err == nil {
		_, err = f.Buckets.ForgetDropped(fctx, now-int64(f.Keep), forgetAtOnce)
	}
	if err != nil {
		f.Logger.Debug("deleted buckets could not be forgotten", "err", err)
	}
}

func (f *BucketFinisher) spread(ctx context.Context, b metadata.Bucket) {
	sctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := f.Buckets.SpreadRules(sctx, b); err != nil && !errors.Is(err, metadata.ErrNoSuchBucket) {
		f.Logger.Warn("the rules of a bucket did not reach every partition", "bucket", b.Name, "err", err)
	}
}
