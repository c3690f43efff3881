package disk

import (
	"context"
	"errors"
)

// manyPriors: there may be several older records of the key, so none is named.
const manyPriors = 1<<40 - 1

// alone tells whether no other record of the key can live: there never was one,
// or the one segment that had it is gone.
func (d *Disk) alone(p place) bool {
	if p.flags&flagSole != 0 {
		return true
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return p.prior != 0 && p.prior != manyPriors && d.segments[p.prior] == nil
}

// priorFor is what a record that takes the place of p has for a prior.
func (d *Disk) priorFor(p place) uint64 {
	if d.alone(p) && p.segment < manyPriors {
		return p.segment
	}
	return manyPriors
}

// tombstoneCounts tells whether a replay without the tombstone could bring a
// shard back: while the segment of what it killed lives, and for good if there
// may have been yet older records of the key.
func (d *Disk) tombstoneCounts(h *header, from *segment) bool {
	if h.flags&flagSole == 0 {
		return true
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return h.target != from.number && d.segments[h.target] != nil
}

// worthSweeping finds a segment of which more than half would go if the
// tombstones did that nothing needs any more. Looking costs a pass over the
// segment, so it is done again only after some segment was dropped.
func (d *Disk) worthSweeping(ctx context.Context) []*segment {
	for _, s := range d.unswept() {
		stale, err := d.staleTombs(ctx, s)
		if err != nil {
			d.log.Debug("tombstones could not be looked through", "segment", s.number, "err", err)
			continue
		}
		d.mu.RLock()
		worth := s.dead()+stale > (s.end-pageBytes)/2
		d.mu.RUnlock()
		if worth {
			return []*segment{s}
		}
	}
	return nil
}

// unswept are segments that are mostly tombstones and dead, and that may have
// changed since they were looked at.
func (d *Disk) unswept() []*segment {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*segment
	for _, s := range d.segments {
		if used := s.end - pageBytes; s.sealed && !s.quarrels && s.tombs > 0 && s.swept <= d.drops && s.dead() <= used/2 && s.dead()+s.tombs > used/2 {
			s.swept = d.drops + 1
			out = append(out, s)
		}
	}
	return out
}

// staleTombs is how many bytes of tombstones in s do not count any more.
func (d *Disk) staleTombs(ctx context.Context, s *segment) (stale int64, err error) {
	f, err := d.fs.OpenRead(s.path)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	if err == nil {
		sc := scanner{f: f, s: s, size: size}
		err = sc.each(pageBytes, func(h header, _ int64) error {
			if h.kind == kindTombstone && !d.tombstoneCounts(&h, s) {
				stale += s.shape.size(0)
			}
			return ctx.Err()
		}, nil)
	}
	return stale, errors.Join(err, f.Close())
}
