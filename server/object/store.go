package object

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// Versions is the metadata of objects, linearizable; *catalog.Catalog is one.
type Versions interface {
	PutVersion(ctx context.Context, v metadata.Version, c metadata.Condition) (metadata.Version, error)
	GetVersion(ctx context.Context, bucket metadata.BucketID, key string) (metadata.Version, error)
	DeleteKey(ctx context.Context, bucket metadata.BucketID, key string, c metadata.Condition) error
	ListObjects(ctx context.Context, q metadata.ObjectPage) (metadata.ObjectRows, error)
	PartitionOf(bucket metadata.BucketID, key string) uint16
}

// Buckets is the metadata of buckets.
type Buckets interface {
	CreateBucket(ctx context.Context, name string) (metadata.Bucket, error)
	GetBucket(ctx context.Context, name string) (metadata.Bucket, error)
	GetBucketNow(ctx context.Context, name string) (metadata.Bucket, error)
	DeleteBucket(ctx context.Context, name string) error
	ListBuckets(ctx context.Context, q metadata.BucketPage) (metadata.Buckets, error)
}

// Uploads is the metadata of multipart uploads.
type Uploads interface {
	CreateUpload(ctx context.Context, u metadata.Upload) (metadata.Upload, error)
	GetUpload(ctx context.Context, ref metadata.UploadRef) (metadata.Upload, error)
	PutPart(ctx context.Context, ref metadata.UploadRef, p metadata.Part) (metadata.Part, error)
	ListParts(ctx context.Context, ref metadata.UploadRef, after, limit int) (metadata.Parts, error)
	CompleteUpload(ctx context.Context, id metadata.UploadID, v metadata.Version, c metadata.Condition) (metadata.Version, error)
	AbortUpload(ctx context.Context, ref metadata.UploadRef) error
	Finished(ctx context.Context, ref metadata.UploadRef) (metadata.Finished, error)
	ListUploads(ctx context.Context, q metadata.UploadPage) (metadata.UploadRows, error)
}

// Shards reaches the disks of any node, this one included. Slices passed in are
// not touched after the call returns.
type Shards interface {
	AppendShards(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error
	ReadShard(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error)
	DeleteShards(ctx context.Context, to cluster.NodeID, disk cluster.DiskID, keys []cluster.ShardKey) error
}

// Region is what is agreed about the region, and what gossip hints.
type Region interface {
	Layout() *cluster.Layout      // nil until the region has one
	ZoneDown(z cluster.Zone) bool // agreed in the root group, never a guess
	DiskUp(d cluster.Disk) bool   // gossip: its node is alive and has not given it up
	Changed() <-chan struct{}     // closed when any of these may have changed
}

// Damage hears of shards that were missing or did not check.
type Damage interface {
	Damaged(disk cluster.DiskID, key cluster.ShardKey, err error)
}

// Buffers lends memory for chunks; disk's aligned pool is one.
type Buffers interface {
	Get(n int) []byte
	Put(b []byte)
}

// ErrBusy: the memory budget stayed spent for as long as a request may wait.
var ErrBusy = errors.New("memory budget is spent")

// ErrNoQuorum: too few shards could be written or read.
var ErrNoQuorum = errors.New("no quorum of shards")

// Config of a Store. Zero durations and sizes mean the default in brackets.
type Config struct {
	Versions Versions
	Buckets  Buckets
	Uploads  Uploads
	Shards   Shards
	Region   Region
	Damage   Damage
	Buffers  Buffers
	Zone     cluster.Zone // of this node
	Now      func() time.Time
	Random   func(p []byte) error // fills p

	BudgetBytes int64         // of chunks in flight, all requests together [256 MiB]
	BudgetWait  time.Duration // for room in it, then ErrBusy [10 s]
	WriteWait   time.Duration // for a chunk to become durable while the region changes [12 s]
	Straggler   time.Duration // for the last shards once a chunk is durable [3 s]
	ReadWait    time.Duration // for a chunk to become readable while the region changes [10 s]
	HedgeFloor  time.Duration // no hedge before this [30 ms]

	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Store puts, gets, lists and deletes objects. It is safe for concurrent use and
// is what s3api asks for.
type Store struct {
	cfg     Config
	codecs  erasure.Codecs
	budget  *semaphore.Weighted
	latency latencies
	metrics *metrics

	cleaning sync.WaitGroup // discards of failed writes
	closing  context.Context
	close    context.CancelFunc
}

// New checks the configuration.
func New(cfg Config) (*Store, error) {
	for _, need := range []any{cfg.Versions, cfg.Buckets, cfg.Uploads, cfg.Shards, cfg.Region, cfg.Damage, cfg.Buffers, cfg.Random} {
		if need == nil {
			return nil, errors.New("object: a part of Config is missing")
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&cfg.BudgetBytes, 256<<20)
	orDefault(&cfg.BudgetWait, 10*time.Second)
	orDefault(&cfg.WriteWait, 12*time.Second)
	orDefault(&cfg.Straggler, 3*time.Second)
	orDefault(&cfg.ReadWait, 10*time.Second)
	orDefault(&cfg.HedgeFloor, 30*time.Millisecond)
	if cfg.BudgetBytes < minBudget {
		return nil, errors.New("object: BudgetBytes does not hold two chunks of the widest code")
	}
	s := &Store{cfg: cfg, budget: semaphore.NewWeighted(cfg.BudgetBytes), metrics: newMetrics(cfg.Registry, cfg.BudgetBytes)}
	s.closing, s.close = context.WithCancel(context.Background())
	return s, nil
}

// minBudget lets one request of the widest usual code go on: 2 chunks, 4x each.
const minBudget = 2 * 4 * erasure.ChunkBytes

func orDefault[T int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Close waits for clean-up of failed writes.
func (s *Store) Close() error {
	s.close()
	s.cleaning.Wait()
	return nil
}

// reserve takes n bytes of the budget, waiting for a while: back-pressure.
func (s *Store) reserve(ctx context.Context, n int64) error {
	if s.budget.TryAcquire(n) {
		s.metrics.budgetUsed.Add(float64(n))
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, s.cfg.BudgetWait)
	defer cancel()
	if err := s.budget.Acquire(wait, n); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return ErrBusy
	}
	s.metrics.budgetUsed.Add(float64(n))
	return nil
}

// tryReserve is reserve without the wait.
func (s *Store) tryReserve(n int64) bool {
	if !s.budget.TryAcquire(n) {
		return false
	}
	s.metrics.budgetUsed.Add(float64(n))
	return true
}

func (s *Store) release(n int64) {
	s.budget.Release(n)
	s.metrics.budgetUsed.Sub(float64(n))
}
