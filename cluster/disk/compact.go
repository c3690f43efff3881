package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
)

const (
	// maxCompactions bounds one round, so that the background stays in it.
	maxCompactions = 4
	// moveBytes and moveWrites are what one batch of a compaction copies.
	moveBytes  = 4 << 20
	moveWrites = 256
)

// makeCompactable closes a segment in use that is more than half dead when the
// disk is short of space: only a sealed one can be compacted.
func (d *Disk) makeCompactable() error {
	r := d.room.Load()
	if r == nil || r.free >= 2*d.cfg.reserve(r.capacity) {
		return nil
	}
	return errors.Join(d.small.rollIfDead(), d.large.rollIfDead())
}

// compact empties sealed segments that are more than half dead: what lives is
// appended again, durably, then the manifest forgets the segment, then the file
// goes. Nothing is removed while any of its records cannot be read.
func (d *Disk) compact(ctx context.Context) error {
	var errs []error
	for _, s := range append(d.worthCompacting(), d.worthSweeping(ctx)...) {
		if ctx.Err() != nil || d.Failed() != nil {
			break
		}
		if err := d.compactSegment(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("compact segment %d: %w", s.number, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Disk) worthCompacting() []*segment {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var found []*segment
	for _, s := range d.segments {
		used := s.end - pageBytes
		if s.sealed && !s.quarrels &&
			(used > 0 && s.live == 0 && s.tombs == 0 || s.dead() > used/2) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(b.dead(), a.dead()), cmp.Compare(a.number, b.number))
	})
	return found[:min(len(found), maxCompactions)]
}

func (d *Disk) compactSegment(ctx context.Context, s *segment) error {
	f, err := d.fs.OpenRead(s.path)
	if err != nil {
		return err
	}
	err = d.moveLive(ctx, s, f)
	if errors.Is(err, cluster.ErrCorrupt) {
		// It stays as it is until what is damaged was healed or deleted; another try
		// before the next restart would only find the same.
		d.mu.Lock()
		s.quarrels = true
		d.mu.Unlock()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.dropSegment(s)
}

// moveLive copies all that counts in s to the segments in use.
func (d *Disk) moveLive(ctx context.Context, s *segment, f vfs.File) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	var batch []write
	var bytes int64
	pace := pacer{rate: d.cfg.CompactBytes}
	flush := func() error {
		err := d.move(ctx, s, f, batch)
		if err == nil {
			err = pace.wait(ctx, bytes)
		}
		clear(batch)
		batch, bytes = batch[:0], 0
		return err
	}
	sc := scanner{f: f, s: s, size: size}
	err = sc.each(pageBytes, func(h header, off int64) error {
		if h.kind == kindVoid {
			return nil
		}
		h.sums = slices.Clone(h.sums)
		batch = append(batch, write{header: h, at: off})
		bytes += int64(h.length)
		if bytes >= moveBytes || len(batch) >= moveWrites {
			return flush()
		}
		return nil
	}, nil)
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.live != 0 || s.shards != 0 {
		// Some shard that the index has was not met: a damaged header. It stays until
		// it is healed or deleted.
		return fmt.Errorf("%w: %d shards could not be found again; the segment is kept", cluster.ErrCorrupt, s.shards)
	}
	return nil
}

// move appends the records of the batch that still count.
func (d *Disk) move(ctx context.Context, s *segment, f vfs.File, batch []write) error {
	keys := make([]cluster.ShardKey, 0, len(batch))
	seen := map[cluster.ShardKey]bool{}
	for _, w := range batch {
		if k := w.header.key; !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	if err := d.claims.take(ctx, keys, d.hung); err != nil {
		return err
	}
	defer d.claims.release(keys)
	small, large := newRequest(), newRequest()
	defer small.free()
	defer large.free()
	for _, w := range batch {
		off := w.at
		w.at, w.moves = 0, true
		if w.header.kind == kindTombstone {
			if d.tombstoneCounts(&w.header, s) {
				small.add(w, smallSegment)
			}
			continue
		}
		p, found, err := d.lookup(w.header.key)
		if err != nil {
			return err
		}
		if !found || p.segment != s.number || p.offset != off {
			continue
		}
		w.payload = GetBuffer(int(w.header.length))
		defer PutBuffer(w.payload)
		if err := readPayload(f, off+s.shape.payloadAt(w.header.length), w.payload, w.header.sums); err != nil {
			d.damage.see(w.header.key, p, err, d.cfg.Now())
			return err
		}
		w.old, w.replaces, w.content = p, true, p.content
		// Until the manifest has forgotten s there are two records of the key, so a
		// tombstone may not go when only one of them is gone.
		w.header.flags &^= flagSole
		w.header.target = d.priorFor(p)
		if s.kind == largeSegment {
			large.add(w, largeSegment)
		} else {
			small.add(w, smallSegment)
		}
	}
	if err := d.large.submit(ctx, large); err != nil {
		return err
	}
	return d.small.submit(ctx, small)
}

// pacer holds work to a rate in bytes a second.
type pacer struct {
	rate  int64
	began time.Time
	done  int64
}

func (p *pacer) wait(ctx context.Context, n int64) error {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	p.done += n
	t := time.NewTimer(time.Duration(float64(p.done)/float64(p.rate)*float64(time.Second)) - time.Since(p.began))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func readPayload(f vfs.File, off int64, dst []byte, sums []uint64) error {
	if _, err := f.ReadVec([][]byte{dst}, off); err != nil {
		return readError(err)
	}
	if block, ok := verifyPayload(dst, sums); !ok {
		return fmt.Errorf("%w: block %d at %d; the segment is kept", cluster.ErrCorrupt, block, off)
	}
	return nil
}

// dropSegment forgets a segment in which nothing counts any more.
func (d *Disk) dropSegment(s *segment) error {
	d.manifestMu.Lock()
	defer d.manifestMu.Unlock()
	err := d.changeManifest(func(m *manifest) {
		m.segments = slices.DeleteFunc(m.segments, func(ms manifestSegment) bool { return ms.number == s.number })
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.segments, s.number)
	d.drops++
	d.mu.Unlock()
	// From here the file is dead whatever happens; Open removes it if this does not. The
	// handle goes after it, or a reader that comes late would open one that stays.
	err = d.fs.Remove(s.path)
	if err = errors.Join(err, d.handles.forget(s.number)); err != nil {
		return err
	}
	d.log.Info("compacted segment", "segment", s.number)
	return d.fs.SyncDir(d.cfg.Dir)
}
