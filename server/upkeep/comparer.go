package upkeep

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// RecoveryBook is the part of the catalog that knows what forced recoveries have left to
// be done; see metadata.Recovered.
type RecoveryBook interface {
	RecoveryLocal(g replica.GroupID) (metadata.Recovery, error)
	Recovery(ctx context.Context, g replica.GroupID) (metadata.Recovery, error)
	FenceHome(ctx context.Context, g replica.GroupID, f metadata.FenceHome) error
	Namings(ctx context.Context, g replica.GroupID, page metadata.NamingPage) (metadata.Namings, error)
	AssertReferences(ctx context.Context, home replica.GroupID, a metadata.AssertReferences) (metadata.Asserted, error)
	DoubtReferences(ctx context.Context, home replica.GroupID, d metadata.DoubtReferences) (metadata.Doubted, error)
	ToldHome(ctx context.Context, g replica.GroupID, t metadata.ToldHome) error
}

// Comparer compares, after a forced recovery, what partitions know of each other's
// references. The leader of a recovered partition goes to all others, whose copies may
// need its blobs, and to the homes of what its own copies name. Every step may be done
// twice, and one pair is done by whoever comes to it; until then the recovered partition
// gives no garbage away. A pair that cannot be compared holds up no other.
type Comparer struct {
	Book       RecoveryBook
	Partitions int
	Leads      func(replica.GroupID) bool
	Every      time.Duration
	Logger     *slog.Logger
	Now        func() time.Time

	silent silences[pair]
}

// pair is of the partition whose records name references, and their home.
type pair struct{ from, home replica.GroupID }

// Run works until ctx ends.
func (c *Comparer) Run(ctx context.Context) error {
	t := time.NewTicker(c.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for g := replica.GroupID(1); int(g) <= c.Partitions && ctx.Err() == nil; g++ {
			if c.Leads(g) {
				c.round(ctx, g)
			}
		}
	}
}

// round does what is left to be done for a group.
func (c *Comparer) round(ctx context.Context, g replica.GroupID) {
	left, err := c.Book.RecoveryLocal(g)
	if err != nil {
		c.Logger.Debug("it is not known what a recovery has left to be done", "group", uint32(g), "err", err)
		return
	}
	for _, n := range left.Awaited {
		c.settle(ctx, g, pair{replica.GroupID(n), g})
	}
	for _, n := range left.Untold {
		if replica.GroupID(n) == g && slices.Contains(left.Awaited, n) {
			continue // the same pair
		}
		c.settle(ctx, g, pair{g, replica.GroupID(n)})
	}
}

// settle compares one pair, for g, which is led here.
func (c *Comparer) settle(ctx context.Context, g replica.GroupID, p pair) {
	if ctx.Err() != nil || !c.Leads(g) || c.silent.rests(p, c.Now()) {
		return
	}
	err := c.compare(ctx, p.from, p.home)
	if ctx.Err() != nil {
		return
	}
	c.silent.heard(p, err == nil, c.Now(), c.Every)
	if err != nil {
		c.Logger.Debug("after a forced recovery, two partitions could not be compared", "from", uint32(p.from), "home", uint32(p.home), "err", err)
	}
}

// compare has home hear of all references that the records of from name.
func (c *Comparer) compare(ctx context.Context, from, home replica.GroupID) error {
	own, err := c.Book.Recovery(ctx, from)
	if err != nil {
		return err
	}
	its, err := c.Book.Recovery(ctx, home)
	if err != nil {
		return err
	}
	if err := c.Book.FenceHome(ctx, from, metadata.FenceHome{Home: uint16(home), Epoch: its.Epoch}); err != nil {
		return err
	}
	told := metadata.ToldHome{Home: uint16(home), Epoch: its.Epoch, Own: own.Epoch}
	var sum metadata.Asserted
	page := metadata.NamingPage{Home: uint16(home), Limit: metadata.MaxReferences}
	for more := true; more; {
		named, err := c.Book.Namings(ctx, from, page)
		if err != nil {
			return err
		}
		if more = named.More; more {
			page.After = named.Refs[len(named.Refs)-1].Ref.ID
		}
		got, err := c.Book.AssertReferences(ctx, home, metadata.AssertReferences{From: uint16(from), Epoch: its.Epoch, Refs: named.Refs, Last: !more})
		if err != nil {
			return err
		}
		sum.Made, sum.Revived, sum.Gone = sum.Made+got.Made, sum.Revived+got.Revived, append(sum.Gone, got.Gone...)
		now := told
		now.Broken = got.Gone
		for _, n := range named.Refs {
			if n.Broken && !slices.Contains(got.Gone, n.Ref.ID) {
				now.Whole = append(now.Whole, n.Ref.ID)
			}
		}
		if len(now.Broken)+len(now.Whole) > 0 {
			if err := c.Book.ToldHome(ctx, from, now); err != nil {
				return err
			}
		}
	}
	c.tell(from, home, sum)
	if !slices.Contains(own.Untold, uint16(home)) {
		return nil
	}
	for d := (metadata.Doubted{More: true}); d.More; {
		if d, err = c.Book.DoubtReferences(ctx, home, metadata.DoubtReferences{To: uint16(from), After: d.Last}); err != nil {
			return err
		}
	}
	told.Done = true
	return c.Book.ToldHome(ctx, from, told)
}

// tell logs what a comparison has come to.
func (c *Comparer) tell(from, home replica.GroupID, sum metadata.Asserted) {
	log := c.Logger.With("from", uint32(from), "home", uint32(home))
	if sum.Made > 0 {
		log.Warn("references of copies were lost in a forced recovery and are there again", "references", sum.Made)
	}
	if sum.Revived > 0 {
		log.Warn("blobs that a forced recovery took for garbage, or did not know, are held again for copies; a census tells whether all their shards are there", "blobs", sum.Revived)
	}
	if len(sum.Gone) > 0 {
		log.Error("a forced recovery brought copies back whose blobs are not held any more", "references", len(sum.Gone))
	}
}
