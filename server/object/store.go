package object

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
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
	GetVersion(ctx context.Context, bucket metadata.BucketID, key, id string) (metadata.Version, error)
	DeleteKey(ctx context.Context, d metadata.DeleteKey) (metadata.Deleted, error)
	AmendVersion(ctx context.Context, a metadata.AmendVersion) (metadata.Committed, error)
	ListVersions(ctx context.Context, q metadata.VersionPage) (metadata.VersionRows, error)
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

// Settings is the configuration of buckets.
type Settings interface {
	CreateLockedBucket(ctx context.Context, name string) (metadata.Bucket, error)
	ConfigureBucket(ctx context.Context, name, field string, value []byte) (metadata.Bucket, error)
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
	NodeUp(n cluster.NodeID) bool // gossip: it is alive
	// DiskSlow is agreed too: the disk, or its node, holds up its peers.
	DiskSlow(d cluster.Disk) bool
	Changed() <-chan struct{} // closed when any of these may have changed
	// Stranded is why nothing can be committed from this node at present; nil if
	// nothing is known to speak against it.
	Stranded() error
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
	Versions   Versions
	Buckets    Buckets
	Settings   Settings
	Uploads    Uploads
	References References
	Usages     Usages
	Shards     Shards
	Relays     Relays // nil: all shards are sent directly
	Region     Region
	Damage     Damage
	Buffers    Buffers
	Keyring    Keyring      // nil: nothing is encrypted with keys of the region
	Zone       cluster.Zone // of this node
	Now        func() time.Time
	Clock      func() time.Time     // of blob ids: never before what the region agrees has come [Now]
	Random     func(p []byte) error // fills p

	BudgetBytes int64         // of chunks in flight, all requests together [256 MiB]
	BudgetWait  time.Duration // for room in it, then ErrBusy [10 s]
	WriteWait   time.Duration // for a chunk to become durable while the region changes [12 s]
	Straggler   time.Duration // for the last shards once a chunk is durable, at most [3 s]
	ReadWait    time.Duration // for a chunk to become readable while the region changes [10 s]
	// ReferenceLife is how long after its reference was made a copy may be committed
	// [10 min]. The clocks of two partitions are compared in that.
	ReferenceLife time.Duration
	LifecycleDay  time.Duration // what a lifecycle calls a day [24 h]
	HedgeFloor    time.Duration // no hedge before this [30 ms]

	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Store puts, gets, lists and deletes objects. It is safe for concurrent use and
// is what s3api asks for.
type Store struct {
	cfg     Config
	codecs  erasure.Codecs
	budget  *semaphore.Weighted
	intakes *intakes
	// slowReads is what of the budget slow clients hold: see stream.
	slowReads *semaphore.Weighted
	left      leftBehind
	copies    sync.Pool             // of *[firstStep]byte
	waiters   atomic.Int64          // for room that will be free soon
	reads     paces[cluster.DiskID] // of shards
	writes    paces[cluster.DiskID] // likewise
	relays    relayBook
	hedges    hedgeBudgets
	looks     usageLooks
	metrics   *metrics

	cleaning sync.WaitGroup // discards of failed writes
	closing  context.Context
	close    context.CancelFunc
}

// New checks the configuration.
func New(cfg Config) (*Store, error) {
	for _, need := range []any{cfg.Versions, cfg.Buckets, cfg.Settings, cfg.Uploads, cfg.References, cfg.Usages, cfg.Shards, cfg.Region, cfg.Damage, cfg.Buffers, cfg.Random} {
		if need == nil {
			return nil, errors.New("object: a part of Config is missing")
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Clock == nil {
		cfg.Clock = cfg.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&cfg.BudgetBytes, 256<<20)
	orDefault(&cfg.BudgetWait, 10*time.Second)
	orDefault(&cfg.WriteWait, 12*time.Second)
	orDefault(&cfg.Straggler, 3*time.Second)
	orDefault(&cfg.ReadWait, 10*time.Second)
	orDefault(&cfg.LifecycleDay, 24*time.Hour)
	orDefault(&cfg.ReferenceLife, 10*time.Minute)
	orDefault(&cfg.HedgeFloor, 30*time.Millisecond)
	if cfg.BudgetBytes < minBudget {
		return nil, errors.New("object: BudgetBytes does not hold two chunks of the widest code")
	}
	s := &Store{cfg: cfg, budget: semaphore.NewWeighted(cfg.BudgetBytes),
		intakes: newIntakes(cfg.BudgetBytes), slowReads: semaphore.NewWeighted(cfg.BudgetBytes * readersShare / 16),
		left: leftBehind{limit: cfg.BudgetBytes / leftShare}, metrics: newMetrics(cfg.Registry, cfg.BudgetBytes)}
	s.copies.New = func() any { return new([firstStep]byte) }
	s.hedges.fill()
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
	if err := s.wait(ctx, s.budget, n); err != nil {
		return err
	}
	s.metrics.budgetUsed.Add(float64(n))
	return nil
}

// wait for a share of something for Config.BudgetWait, then ErrBusy.
func (s *Store) wait(ctx context.Context, of *semaphore.Weighted, n int64) error {
	return s.waitFor(ctx, of, n, s.cfg.BudgetWait)
}

func (s *Store) waitFor(ctx context.Context, of *semaphore.Weighted, n int64, long time.Duration) error {
	if of.TryAcquire(n) {
		return nil
	}
	if of != s.intakes.moderate && of != s.slowReads { // nobody hurries for those
		s.waiters.Add(1)
		defer s.waiters.Add(-1)
	}
	wait, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	if err := of.Acquire(wait, n); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return ErrBusy
	}
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
