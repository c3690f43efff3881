package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"bivalve/cluster/disk/vfs"
)

const (
	// A checkpoint is due when so many rows wait, or after the time.
	checkpointRows  = 64 << 10
	checkpointEvery = 30 * time.Second
	// upkeepEvery is how often dead space is looked for.
	upkeepEvery = 2 * time.Second
	// maxOverlayRows may wait in memory at the very most.
	maxOverlayRows = 1 << 20
	// maxPunches bounds what waits to be given back; beyond it, compaction does it.
	maxPunches = 64 << 10
)

// punch is the payload of a dead large record, to be given back to the file
// system. The header stays, so that a replay can step over it.
type punch struct {
	segment uint64
	off, n  int64
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// kick wakes Run.
func (d *Disk) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// addPunch remembers the space of a dead record; mu is held, and the record that
// killed it is durable.
func (d *Disk) addPunch(p place) {
	s := d.segments[p.segment]
	if s == nil || s.kind != largeSegment || len(d.punches) >= maxPunches {
		return
	}
	at := s.shape.payloadAt(p.length)
	d.punches = append(d.punches, punch{p.segment, p.offset + at, s.shape.size(p.length) - at})
}

// Run does the background work until ctx is done: first a check of the index as
// it was found, then checkpoints of the index, space
// of deleted shards, compaction. An error of one round is logged, and the next
// round tries again, unless the disk is fenced. It returns nil when ctx ends.
func (d *Disk) Run(ctx context.Context) error {
	if err := d.checkIndex(); err != nil {
		d.log.Warn("check of the index failed", "err", err)
	}
	ticker := time.NewTicker(upkeepEvery)
	defer ticker.Stop()
	last := time.Now()
	for {
		due := false
		select {
		case <-ctx.Done():
			return nil
		case <-d.lost:
			return nil
		case <-d.wake:
			due = true
		case <-ticker.C:
			due = time.Since(last) >= checkpointEvery
		}
		if due {
			last = time.Now()
		}
		// If the disk hangs in it, whoever waits for Run goes on all the same.
		err := leaveErr(ctx, d, func() error { return d.upkeep(ctx, due) })
		if err != nil && ctx.Err() == nil {
			d.log.Warn("background work failed", "err", err)
		}
	}
}

// upkeep is one round of background work; due tells that a checkpoint is.
func (d *Disk) upkeep(ctx context.Context, due bool) error {
	if err := d.enter(); err != nil {
		return nil // closed
	}
	defer d.users.Done()
	if d.Failed() != nil {
		return nil // nothing may be written any more; who fenced it has said so
	}
	var err error
	if due {
		err = d.checkpoint(true)
	}
	return errors.Join(err, d.punchDead(ctx), d.makeCompactable(), d.compact(ctx))
}

// checkpoint writes what changed in the index into its table. complete is false
// inside a rebuild, when the segments are not all in it.
func (d *Disk) checkpoint(complete bool) error {
	d.checkpointMu.Lock()
	defer d.checkpointMu.Unlock()
	if d.index.table == nil {
		return nil
	}
	d.mu.Lock()
	meta := checkpointMeta{seq: d.seq.Load(), complete: complete, segments: make(map[uint64]segmentState, len(d.segments))}
	for n, s := range d.segments {
		meta.segments[n] = segmentState{s.end, s.live, s.tombs, s.punched, s.shards}
	}
	d.index.frozen, d.index.fresh, d.index.count = d.index.fresh, overlay{}, 0
	frozen := d.index.frozen
	d.mu.Unlock()

	err := d.index.table.write(frozen, meta)

	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		// What is newer stays on top.
		for _, m := range frozen {
			for k, c := range m {
				if _, newer := d.index.fresh[k.PG][k]; !newer {
					d.index.count += d.index.fresh.set(k, c)
				}
			}
		}
		d.index.frozen = nil
		return fmt.Errorf("disk %s: checkpoint: %w", d.owner.disk, err)
	}
	d.index.frozen = nil
	return nil
}

// flushRebuild writes rows away in the middle of a replay, marked as incomplete,
// so that a crash begins the rebuild again.
func (d *Disk) flushRebuild() error { return d.checkpoint(false) }

// punchDead gives the space of deleted large shards back.
func (d *Disk) punchDead(ctx context.Context) error {
	d.mu.Lock()
	work := d.punches
	d.punches = nil
	d.mu.Unlock()
	var file vfs.File
	var open uint64
	var err error
	for _, p := range work {
		if ctx.Err() != nil || d.Failed() != nil {
			break // the rest is left to compaction
		}
		d.mu.RLock()
		s := d.segments[p.segment]
		d.mu.RUnlock()
		if s == nil {
			continue // compacted away
		}
		if file == nil || open != p.segment {
			if file != nil {
				err = errors.Join(err, file.Close())
			}
			var oerr error
			if file, oerr = d.fs.OpenWrite(s.path, false); oerr != nil {
				file = nil
				err = errors.Join(err, oerr)
				continue
			}
			open = p.segment
		}
		if perr := file.PunchHole(p.off, p.n); perr != nil {
			if !errors.Is(perr, vfs.ErrNotSupported) {
				err = errors.Join(err, perr)
			}
			continue
		}
		d.mu.Lock()
		s.punched += p.n
		d.mu.Unlock()
	}
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	return err
}
