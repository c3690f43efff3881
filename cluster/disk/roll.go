package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
)

// Space is taken in steps, so that an idle disk does not hold two whole segments.
// The step of a large segment grows with it, so that what is taken ahead stays a
// small part of what is used.
const (
	stepSmall    = 1 << 20
	stepLargeMin = 1 << 20
	stepLargeMax = 64 << 20
	stepPart     = 32
	// minRollDead is what a segment in use must be able to give back to be sealed
	// before it is full.
	minRollDead = 1 << 20
)

// makeRoom has a segment open with space for n more bytes. spare is what may be
// taken without touching the reserve.
func (w *writer) makeRoom(n, spare int64) error {
	if w.seg != nil && w.pos > pageBytes && w.pos+n > w.d.cfg.SegmentBytes {
		if err := w.roll(); err != nil {
			return err
		}
	}
	if w.seg == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	if w.pos+n <= w.allocated {
		return nil
	}
	step := int64(stepSmall)
	if w.kind == largeSegment {
		step = min(max(w.pos/stepPart, stepLargeMin), stepLargeMax)
	}
	need := padTo(w.pos+n, pageBytes) - w.allocated
	more := max(need, min(step, w.d.cfg.SegmentBytes-w.allocated))
	if more > spare {
		more = need
	}
	if err := w.file.Preallocate(w.allocated, more); err != nil {
		return w.d.softFailure("preallocate", err)
	}
	if w.kind == smallSegment {
		if err := w.zeroAhead(more); err != nil {
			return w.d.fence("write zeros", err)
		}
	}
	w.allocated += more
	return nil
}

// zeroAhead writes zeros over the next n preallocated bytes. A sync of bytes that
// were written before needs no journal commit, which is a quarter of the CPU of
// a small append (BenchmarkAppend/4K/1w). The zeros go out with the next sync.
func (w *writer) zeroAhead(n int64) error {
	zeros := GetBuffer(int(min(n, stepSmall)))
	defer PutBuffer(zeros)
	clear(zeros)
	for at := w.allocated; n > 0; {
		part := min(n, int64(len(zeros)))
		if _, err := w.file.WriteVec([][]byte{zeros[:part]}, at); err != nil {
			return err
		}
		at, n = at+part, n-part
	}
	return nil
}

// softFailure is for calls that fail before anything was written: a full disk or
// a lack of descriptors passes, all else fences.
func (d *Disk) softFailure(op string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("disk %s: %w: %w", d.owner.disk, cluster.ErrDiskFull, err)
	case starved(err):
		return fmt.Errorf("disk %s: %w: %s: %w", d.owner.disk, cluster.ErrOverloaded, op, err)
	}
	return d.fence(op, err)
}

// begin makes the next segment: superblock, file and directory durable, then the
// manifest that lists it; only then may a record be acknowledged out of it.
func (w *writer) begin() error {
	d := w.d
	d.manifestMu.Lock()
	defer d.manifestMu.Unlock()
	s := d.newSegment(d.manifest.next, w.kind)
	if err := w.create(s); err != nil {
		return err
	}
	err := d.changeManifest(func(m *manifest) {
		m.next = s.number + 1
		m.segments = append(m.segments, manifestSegment{number: s.number, kind: s.kind})
	})
	if err != nil {
		return errors.Join(err, w.close())
	}
	d.mu.Lock()
	d.segments[s.number] = s
	d.mu.Unlock()
	w.seg, w.pos, w.allocated = s, pageBytes, pageBytes
	return nil
}

func (w *writer) create(s *segment) error {
	d := w.d
	// The number was never listed, so a file of that name is what an attempt that
	// failed half way has left.
	if err := d.fs.Remove(s.path); err != nil && !isNotExist(err) {
		return d.softFailure("remove", err)
	}
	f, err := d.fs.Create(s.path)
	if err != nil {
		return d.softFailure("create segment", err)
	}
	page := GetBuffer(pageBytes)
	putSuperblock(page, d.owner, s.number, s.kind, d.cfg.Now().UnixMilli())
	_, err = f.WriteVec([][]byte{page}, 0)
	PutBuffer(page)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return d.softFailure("create segment", err)
	}
	if err := d.fs.SyncDir(filepath.Dir(s.path)); err != nil {
		return d.fence("sync directory", err)
	}
	return w.openFile(s)
}

// openFile opens the segment for appending, past the page cache if it can.
func (w *writer) openFile(s *segment) error {
	w.direct = false
	if w.kind == largeSegment && !w.refused {
		f, err := w.d.fs.OpenWrite(s.path, true)
		if err == nil {
			w.file, w.direct = f, true
			return nil
		}
		if !errors.Is(err, vfs.ErrDirect) {
			return w.d.softFailure("open segment", err)
		}
		w.refused = true
		w.d.log.Warn("file system refuses O_DIRECT; large shards go through the page cache", "err", err)
	}
	f, err := w.d.fs.OpenWrite(s.path, false)
	if err != nil {
		return w.d.softFailure("open segment", err)
	}
	w.file = f
	return nil
}

// trim gives the preallocated tail back.
func (w *writer) trim() error {
	if w.seg == nil || w.allocated <= w.pos {
		return nil
	}
	if err := w.file.Truncate(w.pos); err != nil {
		return w.d.fence("truncate", err)
	}
	if err := w.file.Sync(); err != nil {
		return w.d.fence("sync", err)
	}
	w.allocated = w.pos
	return nil
}

// rollIfDead seals the segment in use if it is more than half dead, and worth it.
func (w *writer) rollIfDead() error {
	w.mu.Lock()
	if w.leading {
		w.mu.Unlock()
		return nil // writers are at it; the next round will see
	}
	w.leading = true
	w.mu.Unlock()
	err := w.d.Failed()
	if err == nil && w.seg != nil {
		w.d.mu.RLock()
		used, dead := w.seg.end-pageBytes, w.seg.dead()
		w.d.mu.RUnlock()
		if dead > used/2 && dead >= minRollDead {
			err = w.roll()
		}
	}
	w.mu.Lock()
	w.handOver()
	w.mu.Unlock()
	return err
}

// roll seals the segment. Its length goes into the manifest, so that a file that
// is cut later is known to be damaged.
func (w *writer) roll() error {
	d := w.d
	if err := w.trim(); err != nil {
		return err
	}
	d.manifestMu.Lock()
	defer d.manifestMu.Unlock()
	err := d.changeManifest(func(m *manifest) {
		for i := range m.segments {
			if m.segments[i].number == w.seg.number {
				m.segments[i].sealed, m.segments[i].length = true, w.pos
			}
		}
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	w.seg.sealed = true
	d.mu.Unlock()
	err = w.close()
	w.seg = nil
	if err != nil {
		return d.fence("close segment", err)
	}
	return nil
}

func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// markSynced notes how much of the open segments has been synced, so that damage
// there is not taken for a torn batch.
func (d *Disk) markSynced(list []manifestSegment) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for i := range list {
		if s := d.segments[list[i].number]; s != nil && !list[i].sealed && s.end > max(list[i].length, pageBytes) {
			list[i].length = s.end
		}
	}
}

// markClosed is markSynced for good: the batch that was last before a clean close
// is known to be whole. It ends the incarnation as well: a copy of the disk that was made
// while it was open is of an earlier one.
func (d *Disk) markClosed() error {
	d.manifestMu.Lock()
	defer d.manifestMu.Unlock()
	return d.changeManifest(func(m *manifest) { m.incarnation++ })
}

// changeManifest makes the changed manifest durable, then current. manifestMu is
// held.
func (d *Disk) changeManifest(change func(*manifest)) error {
	m := d.manifest
	m.segments = slices.Clone(m.segments)
	d.markSynced(m.segments)
	change(&m)
	if err := replaceFile(d.fs, filepath.Join(d.cfg.Dir, manifestName), m.encode()); err != nil {
		return d.softFailure("write manifest", err)
	}
	d.manifest = m
	return nil
}
