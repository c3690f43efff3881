package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bivalve/cluster"
)

const (
	lossName     = "INCOMPLETE"
	maxLossBytes = 2048
)

// Loss says that the disk has lost shards without knowing which: a segment is
// gone or damaged where records begin, or the whole disk is of an earlier time.
// It is kept on the disk until somebody has compared it with the others.
type Loss struct {
	Reason string
	Since  time.Time
}

// Loss is the latest one that was not made good yet, nil if there is none.
func (d *Disk) Loss() *Loss { return d.loss.Load() }

// Restored tells that every shard that the disk should have is there again, as far
// as the loss goes; a later one stays.
func (d *Disk) Restored(l *Loss) error {
	if !d.loss.CompareAndSwap(l, nil) {
		return nil
	}
	if err := d.forgetMissing(); err != nil {
		return err
	}
	if err := d.fs.Remove(filepath.Join(d.cfg.Dir, lossName)); err != nil && !isNotExist(err) {
		return fmt.Errorf("disk %s: %w", d.owner.disk, err)
	}
	return d.fs.SyncDir(d.cfg.Dir)
}

// forgetMissing takes segments off the manifest whose files are gone: nothing of
// them is missed any more.
func (d *Disk) forgetMissing() error {
	d.manifestMu.Lock()
	defer d.manifestMu.Unlock()
	d.mu.RLock()
	gone := func(ms manifestSegment) bool { return d.segments[ms.number] == nil }
	any := slices.ContainsFunc(d.manifest.segments, gone)
	d.mu.RUnlock()
	if !any {
		return nil
	}
	return d.changeManifest(func(m *manifest) {
		d.mu.RLock()
		defer d.mu.RUnlock()
		m.segments = slices.DeleteFunc(m.segments, gone)
	})
}

// noteLoss notes what is lost, durably and before anything is served. If that fails
// the note is kept in memory.
func (d *Disk) noteLoss(reasons []string) error {
	l := &Loss{Reason: strings.Join(reasons, "; "), Since: d.cfg.Now()}
	l.Reason = l.Reason[:min(len(l.Reason), maxLossBytes)]
	d.loss.Store(l)
	page := make([]byte, pageBytes)
	putPage(page, magicLoss, d.owner)
	binary.LittleEndian.PutUint64(page[48:], uint64(l.Since.UnixMilli()))
	copy(page[56:], l.Reason)
	sealPage(page)
	err := replaceFile(d.fs, filepath.Join(d.cfg.Dir, lossName), page)
	if err != nil {
		d.log.Warn("a loss is not noted on the disk", "err", err)
	}
	return err
}

// readLoss finds the note of an earlier time. One that does not check is a note
// all the same.
func (d *Disk) readLoss() error {
	b, err := readFile(d.fs, filepath.Join(d.cfg.Dir, lossName))
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	l := &Loss{Reason: "the note of it is damaged", Since: d.cfg.Now()}
	if o, err := checkPage(b, magicLoss); err == nil && o == d.owner {
		l.Since = time.UnixMilli(int64(binary.LittleEndian.Uint64(b[48:]))).UTC()
		l.Reason = string(bytes.TrimRight(b[56:pageSumAt], "\x00"))
	}
	d.loss.Store(l)
	return nil
}

// Incarnation counts the openings and clean closings of the disk. Who keeps it, after
// both, and gives it to the next Open learns whether the disk was put back to an earlier
// time meanwhile.
func (d *Disk) Incarnation() uint64 {
	d.manifestMu.Lock()
	defer d.manifestMu.Unlock()
	return d.manifest.incarnation
}

// incarnate begins the next incarnation. rolledBack says what is lost if a later
// one was seen before. That is noted first: once the next incarnation is there, nothing
// else tells of it, and this opening may yet be cut short.
func (d *Disk) incarnate() (rolledBack string, err error) {
	d.manifestMu.Lock()
	defer d.manifestMu.Unlock()
	was, seen := d.manifest.incarnation, d.cfg.Incarnation(d.owner.disk)
	if was < seen {
		rolledBack = fmt.Sprintf("the disk is of an earlier time: incarnation %d, of which %d was seen", was, seen)
		d.log.Error("the disk was put back to an earlier time; what came later is lost here", "incarnation", was, "seen", seen)
		switch err := d.noteLoss([]string{rolledBack}); {
		case err == nil:
		case transient(err):
			return rolledBack, nil // and the incarnation stays: the next opening sees the same
		default:
			return rolledBack, err
		}
	}
	err = d.changeManifest(func(m *manifest) { m.incarnation = max(was, seen) + 1 })
	if errors.Is(err, cluster.ErrDiskFull) || errors.Is(err, cluster.ErrOverloaded) {
		d.log.Warn("the incarnation stays as it is", "err", err)
		err = nil
	}
	return rolledBack, err
}
