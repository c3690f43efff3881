package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/replica"

	"github.com/prometheus/client_golang/prometheus"
)

// LifecycleCatalog is what a lifecycle asks of the catalog.
type LifecycleCatalog interface {
	Clock() (int64, error)
	ListBuckets(ctx context.Context, q metadata.BucketPage) (metadata.Buckets, error)
	GetBucketNow(ctx context.Context, name string) (metadata.Bucket, error)
	GetConfig(ctx context.Context, prefix string) ([]metadata.ConfigValue, error)
	PutConfig(ctx context.Context, p metadata.PutConfig) (uint64, error)
	LifecyclePartition
}

// LifecyclePartition is the part of it that reads and changes one partition.
type LifecyclePartition interface {
	PageVersions(ctx context.Context, g replica.GroupID, q metadata.VersionPage) (metadata.VersionRows, error)
	PageUploads(ctx context.Context, g replica.GroupID, q metadata.UploadPage) (metadata.UploadRows, error)
	ExpireVersions(ctx context.Context, g replica.GroupID, e metadata.ExpireVersions) (int, error)
	AbortUpload(ctx context.Context, ref metadata.UploadRef) error
}

// Lifecycle applies the lifecycle rules of buckets. The leader of each partition
// walks through what its partition has of them, once a day after midnight UTC, by
// the region's clock and never its own. Where it is stands in the root group, so
// that the next leader goes on there. What it finds due, apply looks at again.
type Lifecycle struct {
	Catalog    LifecycleCatalog
	Partitions int
	Leads      func(replica.GroupID) bool
	Day        time.Duration // 24 h but in tests
	Every      time.Duration // between two looks whether a day has begun
	Rest       time.Duration // between two pages
	Logger     *slog.Logger
	Registry   prometheus.Registerer

	mu       sync.Mutex
	progress map[replica.GroupID]LifecycleProgress
	scanned  prometheus.Counter
	expired  *prometheus.CounterVec
}

// LifecycleProgress is how far the walk through one partition has come. Times are
// those of the region's clock.
type LifecycleProgress struct {
	Partition int    `json:"partition"`
	Started   int64  `json:"started"`            // of the walk, Unix nanoseconds
	Finished  int64  `json:"finished,omitempty"` // 0: it is under way
	Bucket    string `json:"bucket,omitempty"`   // that it is in; those before are done
	Key       string `json:"key,omitempty"`      // behind which it goes on
	Scanned   int64  `json:"scanned"`
	Expired   int64  `json:"expired"`
	Aborted   int64  `json:"aborted"`
}

const (
	lifecyclePage = 1000
	lifecycleKey  = "lifecycle/"
	// lifecycleSave is how often the place is put down during a walk.
	lifecycleSave = 30 * time.Second
)

// Run works until ctx ends.
func (l *Lifecycle) Run(ctx context.Context) error {
	l.scanned = prometheus.NewCounter(prometheus.CounterOpts{Name: "bivalve_lifecycle_scanned_total", Help: "Versions and uploads that the lifecycle looked at on this node."})
	l.expired = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bivalve_lifecycle_expired_total", Help: "What the lifecycle ended on this node, by kind."}, []string{"kind"})
	if l.Registry != nil {
		if err := errors.Join(l.Registry.Register(l.scanned), l.Registry.Register(l.expired)); err != nil {
			return err
		}
	}
	t := time.NewTicker(l.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for g := replica.GroupID(1); int(g) <= l.Partitions && ctx.Err() == nil; g++ {
			if !l.Leads(g) {
				l.forget(g)
				continue
			}
			if err := l.partition(ctx, g); err != nil && ctx.Err() == nil {
				l.Logger.Debug("the lifecycle of a partition stopped for now", "group", g, "err", err)
			}
		}
	}
}

// Progress is that of the partitions which this node leads.
func (l *Lifecycle) Progress() []LifecycleProgress {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []LifecycleProgress
	for g := range l.Partitions {
		if p, there := l.progress[replica.GroupID(g+1)]; there {
			out = append(out, p)
		}
	}
	return out
}

func (l *Lifecycle) forget(g replica.GroupID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.progress, g)
}

func (l *Lifecycle) note(g replica.GroupID, p LifecycleProgress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.progress == nil {
		l.progress = map[replica.GroupID]LifecycleProgress{}
	}
	l.progress[g] = p
}

// recall is the progress of a partition, from the root group when this node has
// only just begun to lead it.
func (l *Lifecycle) recall(ctx context.Context, g replica.GroupID) (LifecycleProgress, error) {
	l.mu.Lock()
	p, there := l.progress[g]
	l.mu.Unlock()
	if there {
		return p, nil
	}
	key := lifecyclePlace(g)
	values, err := l.Catalog.GetConfig(ctx, key)
	if err != nil {
		return p, err
	}
	for _, v := range values {
		if v.Key == key {
			err = json.Unmarshal(v.Value, &p)
		}
	}
	p.Partition = int(g)
	return p, err
}

func lifecyclePlace(g replica.GroupID) string { return fmt.Sprintf("%s%05d", lifecycleKey, g) }

func (l *Lifecycle) save(ctx context.Context, g replica.GroupID, p LifecycleProgress) error {
	l.note(g, p)
	value, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = l.Catalog.PutConfig(ctx, metadata.PutConfig{Key: lifecyclePlace(g), Value: value, Any: true})
	return err
}

// partition begins or goes on with the walk of a partition, if it is time.
func (l *Lifecycle) partition(ctx context.Context, g replica.GroupID) error {
	clock, err := l.Catalog.Clock()
	if err != nil || clock == 0 {
		return err
	}
	p, err := l.recall(ctx, g)
	if err != nil {
		return err
	}
	day := int64(l.Day)
	if p.Finished != 0 && p.Started/day == clock/day {
		return nil
	}
	buckets, err := l.buckets(ctx)
	if err != nil {
		return err
	}
	if len(buckets) == 0 {
		return nil // nothing to do is nothing to put down either
	}
	if p.Finished != 0 || p.Started == 0 {
		p = LifecycleProgress{Partition: int(g), Started: clock}
	}
	w := &lifecycleWalk{Lifecycle: l, g: g, clock: clock, p: p, saved: time.Now()}
	for _, name := range buckets {
		if name < w.p.Bucket {
			continue
		}
		if name != w.p.Bucket {
			w.p.Bucket, w.p.Key = name, ""
		}
		if err := w.bucket(ctx, name); err != nil && !errors.Is(err, metadata.ErrNoSuchBucket) {
			return errors.Join(err, l.save(ctx, g, w.p))
		}
	}
	w.p.Finished, w.p.Bucket, w.p.Key = clock, "", ""
	return l.save(ctx, g, w.p)
}

// buckets are the names of those that have a lifecycle.
func (l *Lifecycle) buckets(ctx context.Context) (names []string, err error) {
	page := metadata.BucketPage{Limit: 1000}
	for {
		got, err := l.Catalog.ListBuckets(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, b := range got.Buckets {
			page.After = b.Name
			if _, there := b.Settings[metadata.FieldLifecycle]; there && b.Deleting == 0 {
				names = append(names, b.Name)
			}
		}
		if !got.More {
			return names, nil
		}
	}
}
