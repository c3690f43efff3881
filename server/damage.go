package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/server/object"
	"bivalve/server/upkeep"

	"github.com/fxamacker/cbor/v2"
)

// shardOnDisk names a shard where it lies. It is also the body of methodCheck.
type shardOnDisk struct {
	Disk cluster.DiskID   `cbor:"1,keyasint"`
	Key  cluster.ShardKey `cbor:"2,keyasint"`
}

const (
	// checksQueued and checksKnown bound what waits to be told and what was told
	// of late. What does not fit is dropped: the scrub finds it later.
	checksQueued = 1024
	checksKnown  = 4096
	// checkAgain is how soon the same shard is told again: readers come upon it
	// until it is mended.
	checkAgain = 10 * time.Second
)

// checks is what readers of this node report: it counts each damaged or absent shard,
// and has the node that should hold it look. That node believes nobody.
type checks struct {
	count  object.Damage
	ask    func(context.Context, shardOnDisk) error
	logger *slog.Logger
	now    func() time.Time
	queue  chan shardOnDisk

	mu   sync.Mutex
	told map[shardOnDisk]time.Time
}

func newChecks(count object.Damage, ask func(context.Context, shardOnDisk) error, logger *slog.Logger) *checks {
	return &checks{count: count, ask: ask, logger: logger, now: time.Now,
		queue: make(chan shardOnDisk, checksQueued), told: map[shardOnDisk]time.Time{}}
}

// Damaged takes a report. It never waits.
func (c *checks) Damaged(id cluster.DiskID, key cluster.ShardKey, err error) {
	c.count.Damaged(id, key, err)
	if !errors.Is(err, cluster.ErrCorrupt) && !errors.Is(err, cluster.ErrNotFound) {
		return
	}
	s := shardOnDisk{id, key}
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.told[s]) < checkAgain {
		return
	}
	if len(c.told) >= checksKnown {
		for k, when := range c.told {
			if now.Sub(when) >= checkAgain {
				delete(c.told, k)
			}
		}
		if len(c.told) >= checksKnown {
			return
		}
	}
	select {
	case c.queue <- s:
		c.told[s] = now
	default:
	}
}

// Run tells the owners until ctx ends.
func (c *checks) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-c.queue:
			actx, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := c.ask(actx, s)
			cancel()
			if err != nil && !errors.Is(err, cluster.ErrCorrupt) && !errors.Is(err, cluster.ErrNotFound) {
				c.logger.Debug("a damaged shard could not be reported", "disk", s.Disk.String(), "shard", s.Key.String(), "err", err)
			}
		}
	}
}

// askOwner has the node that holds a disk check one of its shards.
func (n *Node) askOwner(ctx context.Context, s shardOnDisk) error {
	owner, ok := n.ownerOf(s.Disk)
	if !ok {
		return fmt.Errorf("%w: %s", cluster.ErrDiskUnknown, s.Disk)
	}
	if owner == n.self.ID {
		return n.checkShard(ctx, s)
	}
	body, err := cbor.Marshal(s)
	if err != nil {
		return err
	}
	_, err = n.client.CallMetaAgain(ctx, owner, methodCheck, body)
	return err
}

func (n *Node) ownerOf(id cluster.DiskID) (cluster.NodeID, bool) {
	if l := n.region.Layout(); l != nil {
		if d, ok := l.Find(id); ok {
			return d.Node, true
		}
	}
	return "", false
}

// handleCheck serves methodCheck.
func (n *Node) handleCheck(ctx context.Context, body []byte) error {
	var s shardOnDisk
	if err := cbor.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	return n.checkShard(ctx, s)
}

// checkShard verifies a shard of a local disk, which remembers it if it is damaged.
// One that is not there counts as missing from now on, so that it is healed.
func (n *Node) checkShard(ctx context.Context, s shardOnDisk) error {
	d, err := n.local.disk(s.Disk)
	if err != nil {
		return err
	}
	err = d.Check(ctx, s.Key)
	if !errors.Is(err, cluster.ErrNotFound) {
		return err
	}
	marked, merr := upkeep.MarkAbsent(ctx, n.catalog, n.file.Partitions, n.region.Layout(), s.Disk, s.Key)
	if marked {
		n.logger.Warn("a shard that a reader asked for is not there; it counts as missing", "disk", s.Disk.String(), "shard", s.Key.String())
	}
	return errors.Join(err, merr)
}
