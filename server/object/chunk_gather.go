package object

import (
	"context"
	"slices"
	"time"

	"bivalve/erasure"
)

// gather waits until the range or any k shards are there. A shard that fails is
// replaced by the next in order, and so is one whose disk goes down meanwhile; a slow
// one gets a second beside it: of this zone at first, of the other after farHedges
// times as long as a hedge waits at least.
func (r *chunkRead) gather(ctx context.Context, order []int) error {
	far := time.Now().Add(farHedges * r.s.cfg.HedgeFloor)
	hedge := time.NewTimer(max(r.s.cfg.HedgeFloor, r.s.reads.typical(r.peers(), time.Now())))
	defer hedge.Stop()
	changed := r.s.cfg.Region.Changed()
	for r.want&^r.got != 0 && r.got.Len() < r.place.geo.K {
		if err := r.suffice(ctx, order); err != nil {
			return err
		}
		select {
		case a := <-r.answers:
			r.take(a)
		case <-changed:
			changed = r.s.cfg.Region.Changed()
			r.letGo()
			order = r.order()
		case <-hedge.C:
			r.hedge(ctx, order, far)
			hedge.Reset(r.s.cfg.HedgeFloor * 4)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// suffice starts reads until what is on its way can do: the range, or k in all.
func (r *chunkRead) suffice(ctx context.Context, order []int) error {
	for !r.enough() {
		next := r.next(order, r.place.geo.All())
		if next < 0 {
			break
		}
		if r.reserved < int64(r.place.geo.K+r.want.Len())*int64(r.rowsLen) {
			if err := r.reserveMore(r.place.geo.K); err != nil {
				return err
			}
		}
		r.start(ctx, next)
	}
	if len(r.flying) == 0 {
		return r.tooFew()
	}
	return nil
}

// enough tells whether the reads under way and done can complete the job.
func (r *chunkRead) enough() bool {
	return r.want&^(r.got|r.inFlight()) == 0 || r.got.Len()+len(r.flying) >= r.place.geo.K
}

// farHedges: see gather. A moment in which one disk is busy should cost no byte
// between the zones.
const farHedges = 10

// near are the shards of this node's zone.
func (r *chunkRead) near() erasure.ShardSet {
	var set erasure.ShardSet
	for half, z := range r.place.zones() {
		if z == r.s.cfg.Zone {
			set |= r.place.geo.Zone(half)
		}
	}
	return set
}

// hedge sends as many further reads as make k beside the slow ones, if there are any
// to send: until far in this zone, then in both. It costs nothing where a disk does not
// answer at all while its peers do: no load of theirs explains that.
func (r *chunkRead) hedge(ctx context.Context, order []int, far time.Time) {
	set, budget := r.place.geo.All(), &r.s.hedges.far
	if r.place.geo.M > 0 && time.Now().Before(far) {
		set, budget = r.near(), &r.s.hedges.near
	}
	if r.next(order, set) < 0 || !r.stuck() && !budget.take() || r.reserveMore(r.place.geo.K) != nil {
		return
	}
	need := r.place.geo.K - r.got.Len()
	for range need {
		next := r.next(order, set)
		if next < 0 {
			return
		}
		r.start(ctx, next)
		r.s.metrics.hedges.Inc()
	}
}

// stuck tells whether a disk that is waited for is quiet while its peers are known to
// answer.
func (r *chunkRead) stuck() bool {
	now := time.Now()
	usual := r.s.reads.typical(r.peers(), now)
	return usual > 0 && slices.ContainsFunc(r.flying, func(f *flight) bool {
		return r.s.quiet(r.place.disk(f.shard).ID, usual, now)
	})
}

// next is the first shard in order, of the set, that was not asked; -1 if there is
// none.
func (r *chunkRead) next(order []int, set erasure.ShardSet) int {
	for _, i := range order {
		if si := erasure.ShardIndex(i); set.Has(si) && !r.tried.Has(si) {
			return i
		}
	}
	return -1
}

func (r *chunkRead) tooFew() error {
	e := r.short
	e.Op, e.Need, e.Zones = "read", r.place.geo.K, r.place.zones()
	e.Got = halves{(r.got & r.place.geo.Zone(0)).Len(), (r.got & r.place.geo.Zone(1)).Len()}
	return &e
}
