package object

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"bivalve/metadata"

	"golang.org/x/sync/singleflight"
)

// Usages tells what each partition has of a bucket; *catalog.Catalog is one.
type Usages interface {
	PartitionUsage(ctx context.Context, bucket metadata.BucketID) ([]metadata.Usage, error)
}

// A bucket's keys are spread over the partitions, and a commit sees one of them. So it
// carries how much room its partition has: the quota less what the others had when this
// node looked, usageFresh ago at most. What the partition itself has is counted in the
// commit. A bucket may so exceed its quota by what is committed in other partitions at
// the same moment, and by what other nodes commit there within usageFresh.
const usageFresh = time.Second

// usagePatience bounds one look.
const usagePatience = 10 * time.Second

// usageLooks keeps what was seen of buckets with a quota.
type usageLooks struct {
	mu sync.Mutex
	of map[metadata.BucketID]*usageLook
}

type usageLook struct {
	going singleflight.Group // the look under way

	mu    sync.Mutex
	tried time.Time        // when the last look began,
	at    time.Time        // and the last that had every answer
	each  []metadata.Usage // which was this: by partition, from 1 on
}

// mostLooks is how many buckets a region may have.
const mostLooks = 10_000

func (l *usageLooks) get(bucket metadata.BucketID) *usageLook {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[bucket] == nil {
		if len(l.of) >= mostLooks || l.of == nil { // most of them are of buckets that are gone
			l.of = map[metadata.BucketID]*usageLook{}
		}
		l.of[bucket] = &usageLook{}
	}
	return l.of[bucket]
}

// inQuota does a commit into a partition of a bucket that adds a version of so many
// bytes, under the condition that it is given. ErrQuotaExceeded is answered only after
// a look that was taken for this commit.
func (s *Store) inQuota(ctx context.Context, b metadata.Bucket, key string, bytes int64, c metadata.Condition, commit func(metadata.Condition) error) error {
	raw, limited := b.Settings[metadata.FieldQuota]
	if !limited {
		return commit(c)
	}
	var q metadata.Quota
	if err := metadata.DecodeBody(raw, &q); err != nil {
		return fmt.Errorf("quota of bucket %s: %w", b.Name, err)
	}
	look, partition := s.looks.get(b.ID), int(s.cfg.Versions.PartitionOf(b.ID, key))
	for again := false; ; again = true {
		fresh, err := s.look(ctx, look, b.ID, again)
		if err != nil {
			return err
		}
		room := look.room(partition, q)
		c.Room = &room
		switch err = commit(c); {
		case err == nil:
			look.add(partition, bytes)
			return nil
		case fresh || !errors.Is(err, metadata.ErrQuotaExceeded):
			return err
		case again:
			return fmt.Errorf("%w: what the other partitions have of bucket %s", metadata.ErrUnavailable, b.Name)
		}
	}
}

// look asks the partitions what they have, and tells whether all have answered: again,
// or if nobody did within usageFresh. Where they do not, what was known must do.
func (s *Store) look(ctx context.Context, l *usageLook, bucket metadata.BucketID, again bool) (fresh bool, err error) {
	l.mu.Lock()
	known, recent := l.each != nil, s.cfg.Now().Sub(l.tried) < usageFresh
	l.mu.Unlock()
	if known && recent && !again {
		return false, nil
	}
	const one = "" // look at a time
	if again {
		l.going.Forget(one) // it may have begun before something was deleted
	}
	done := l.going.DoChan(one, func() (any, error) {
		lctx, cancel := context.WithTimeout(s.closing, usagePatience)
		defer cancel()
		began := s.cfg.Now()
		each, err := s.cfg.Usages.PartitionUsage(lctx, bucket)
		l.take(began, each, err)
		return nil, err
	})
	select {
	case r := <-done:
		err = r.Err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if err != nil && known {
		return false, nil
	}
	return err == nil, err
}

// take keeps what a look has seen, unless a later one was faster.
func (l *usageLook) take(began time.Time, each []metadata.Usage, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if began.After(l.tried) {
		l.tried = began
	}
	if err == nil && !began.Before(l.at) {
		l.at, l.each = began, each
	}
}

// room is what one partition may have.
func (l *usageLook) room(partition int, q metadata.Quota) metadata.Room {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := metadata.Room{Bytes: math.MaxInt64, Versions: math.MaxInt64}
	if q.Bytes > 0 {
		r.Bytes = q.Bytes
	}
	if q.Objects > 0 {
		r.Versions = q.Objects
	}
	for i, u := range l.each {
		if i+1 == partition {
			continue
		}
		if q.Bytes > 0 {
			r.Bytes -= u.Bytes
		}
		if q.Objects > 0 {
			r.Versions -= u.Versions
		}
	}
	return r
}

// add counts what was committed since the look. It may be too much, by what a version
// replaced: the next look corrects it before anything is refused.
func (l *usageLook) add(partition int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if partition <= len(l.each) {
		l.each[partition-1].Bytes += bytes
		l.each[partition-1].Versions++
	}
}
