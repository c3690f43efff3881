package replica

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config of a Host. Zero numbers mean the default.
type Config struct {
	Replica ReplicaID // this node's number, 1 to MaxHost
	// Dir receives snapshots before they are installed. It is on the file system
	// of the state machines, and what is left in it at Open is removed if its
	// name says that it is a received snapshot.
	Dir       string
	Log       LogStore // the Host closes it, once it is open
	Transport Transport
	// NewStateMachine opens the state of a group, or makes an empty one. ErrDamaged
	// and ErrNoSpace concern the group alone, any other error ends Open.
	NewStateMachine func(GroupID) (StateMachine, error)
	// RestoreStateMachine replaces the state of a group, which is closed or could
	// not be opened, by the synced snapshot at path, and opens it. It is called
	// beside the other groups' work. What it replaces is worth keeping aside.
	RestoreStateMachine func(g GroupID, path string) (StateMachine, error)
	// DropStateMachine removes the closed state of a group for good; none there is
	// success. Needed for Drop alone.
	DropStateMachine func(g GroupID) error

	Tick  time.Duration    // 50 ms; an election takes 10 to 20 of them
	Ticks <-chan time.Time // instead of a ticker of our own
	// Seed of ids and read contexts. Zero draws one; a fixed one is for
	// simulations only, since ids must differ from those of earlier lives.
	Seed     uint64
	Logger   *slog.Logger
	Registry prometheus.Registerer
	// PreferLeader says which replicas should lead; nil means all. A leader that
	// is not among them hands over to one that is, as soon as that one has the log.
	PreferLeader func(ReplicaID) bool

	FlushEvery time.Duration // 1 s: how long an applied entry may wait to become durable
	FlushBytes int           // 8 MiB: or how many bytes of them

	TailEntries uint64 // 5,000 entries ...
	TailBytes   uint64 // ... or 64 MiB of the log are kept for slow followers
	PinFactor   uint64 // 4: a follower that lags pins up to so many tails; then it gets a snapshot

	CacheBytes      int // 8 MiB of recent entries are kept in memory for each group
	InboxBytes      int // 64 MiB of messages wait for the loop
	ProposalBytes   int // 16 MiB of proposals wait for the loop, for each group
	ApplyQueueBytes int // 32 MiB wait for a group's applier; then the group pauses

	hooks hooks
}

// hooks are for the tests of this package.
type hooks struct {
	at          func(point string, g GroupID) error // a crash at a named point of a turn
	localReads  bool                                // leave the read barrier out
	noSync      bool                                // leave the sync out
	runSnapshot func(*snapshotJob)                  // instead of a goroutine
	background  func(func())                        // likewise
}

func (c *Config) withDefaults() {
	def(&c.Tick, 50*time.Millisecond)
	def(&c.FlushEvery, time.Second)
	def(&c.FlushBytes, 8<<20)
	def(&c.TailEntries, 5000)
	def(&c.TailBytes, 64<<20)
	def(&c.PinFactor, 4)
	def(&c.CacheBytes, 8<<20)
	def(&c.InboxBytes, 64<<20)
	def(&c.ProposalBytes, 16<<20)
	def(&c.ApplyQueueBytes, 32<<20)
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PreferLeader == nil {
		c.PreferLeader = func(ReplicaID) bool { return true }
	}
	if c.hooks.at == nil {
		c.hooks.at = func(string, GroupID) error { return nil }
	}
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(c.Replica != 0, "Replica must not be zero")
	need(c.Replica <= MaxHost, "Replica is too great")
	need(c.Dir != "", "Dir is missing")
	need(c.Log != nil, "Log is missing")
	need(c.Transport != nil, "Transport is missing")
	need(c.NewStateMachine != nil, "NewStateMachine is missing")
	need(c.RestoreStateMachine != nil, "RestoreStateMachine is missing")
	need(c.Tick >= 0 && c.FlushEvery >= 0, "negative duration")
	need(c.FlushBytes >= 0 && c.CacheBytes >= 0 && c.InboxBytes >= 0 &&
		c.ProposalBytes >= 0 && c.ApplyQueueBytes >= 0, "negative size")
	return errors.Join(errs...)
}

// flushTicks is FlushEvery in ticks.
func (c *Config) flushTicks() int { return max(1, int(c.FlushEvery/c.Tick)) }

// wrapContext keeps both the verdict and the reason that a caller stopped waiting.
func wrapContext(verdict error, ctx context.Context) error {
	return errors.Join(verdict, context.Cause(ctx))
}
