package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/replica"

	"github.com/zeebo/xxh3"
)

// Groups reaches the metadata groups; *replica.Router is one.
type Groups interface {
	Propose(ctx context.Context, g replica.GroupID, data []byte) ([]byte, error)
	Query(ctx context.Context, g replica.GroupID, q []byte) ([]byte, error)
}

// Local reads the replica that this node carries, without asking the leader.
type Local interface {
	QueryLocal(g replica.GroupID, q []byte) ([]byte, error)
}

// Root is the group of the region's own configuration.
const Root replica.GroupID = 0

// Config of a Catalog.
type Config struct {
	Groups     Groups
	Local      Local // of the groups that this node carries; the root group is one
	Partitions int   // fixed at the region's creation; a power of two up to 4096
	Now        func() time.Time
	// Elapsed is how long this catalog has been there, whatever Now shows.
	Elapsed func() time.Duration
	// Level of this program, other than in tests [metadata.Level].
	Level uint8
	// Wait bounds each call to a group: a side that has lost its quorum must say so
	// and not hang. It is longer than a fail-over takes [10 s].
	Wait time.Duration
}

// Catalog is safe for concurrent use.
type Catalog struct {
	cfg   Config
	clock atomic.Pointer[readClock]
}

// New checks its configuration.
func New(cfg Config) (*Catalog, error) {
	var errs []error
	if cfg.Groups == nil || cfg.Local == nil {
		errs = append(errs, errors.New("catalog: Groups and Local are needed"))
	}
	if p := cfg.Partitions; p < 1 || p > 4096 || p&(p-1) != 0 {
		errs = append(errs, fmt.Errorf("catalog: %d partitions, want a power of two up to 4096", p))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Elapsed == nil {
		made := time.Now()
		cfg.Elapsed = func() time.Duration { return time.Since(made) }
	}
	if cfg.Level == 0 {
		cfg.Level = metadata.Level
	}
	if cfg.Wait == 0 {
		cfg.Wait = 10 * time.Second
	}
	return &Catalog{cfg: cfg}, errors.Join(errs...)
}

// Partitions is how many there are; they are groups 1..Partitions.
func (c *Catalog) Partitions() int { return c.cfg.Partitions }

// Partition owns a key: XXH3-64 of bucket id and key, modulo their number.
func (c *Catalog) Partition(bucket metadata.BucketID, key string) replica.GroupID {
	h := xxh3.New()
	_, _ = h.Write(bucket[:]) // a hash does not fail
	_, _ = h.WriteString(key)
	return 1 + replica.GroupID(h.Sum64()%uint64(c.cfg.Partitions))
}

// PartitionOf is Partition as the number that blob ids carry.
func (c *Catalog) PartitionOf(bucket metadata.BucketID, key string) uint16 {
	return uint16(c.Partition(bucket, key))
}

// change proposes one command under a new request id and decodes its answer.
func (c *Catalog) change(ctx context.Context, g replica.GroupID, kind metadata.CommandKind, body, answer any) error {
	var id metadata.RequestID
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("request id: %w", err)
	}
	raw, err := metadata.NewCommand(c.Level(), kind, id, c.now(), body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Wait)
	defer cancel()
	out, err := c.cfg.Groups.Propose(ctx, g, raw)
	if err != nil {
		return outcome(err)
	}
	return decode(out, answer)
}

// read asks one group.
func (c *Catalog) read(ctx context.Context, g replica.GroupID, kind metadata.QueryKind, body, answer any) error {
	raw, err := metadata.NewQuery(kind, body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Wait)
	defer cancel()
	out, err := c.cfg.Groups.Query(ctx, g, raw)
	if err != nil {
		return outcome(err)
	}
	return decode(out, answer)
}

// readLocal asks this node's replica of the root group.
func (c *Catalog) readLocal(kind metadata.QueryKind, body, answer any) error {
	return c.readCopy(Root, kind, body, answer)
}

// readCopy asks this node's replica of a group.
func (c *Catalog) readCopy(g replica.GroupID, kind metadata.QueryKind, body, answer any) error {
	raw, err := metadata.NewQuery(kind, body)
	if err != nil {
		return err
	}
	out, err := c.cfg.Local.QueryLocal(g, raw)
	if err != nil {
		return outcome(err)
	}
	return decode(out, answer)
}

func decode(raw []byte, answer any) error {
	payload, err := metadata.DecodeResult(raw)
	if err != nil || answer == nil {
		return err
	}
	if p, ok := answer.(*[]byte); ok {
		*p = payload
		return nil
	}
	return metadata.DecodeBody(payload, answer)
}

// outcome translates what the consensus layer says into metadata's words.
func outcome(err error) error {
	switch {
	case errors.Is(err, replica.ErrUnknown):
		return fmt.Errorf("%w: %w", metadata.ErrUnknownOutcome, err)
	case errors.Is(err, context.Canceled):
		return err
	default:
		return fmt.Errorf("%w: %w", metadata.ErrUnavailable, err)
	}
}
