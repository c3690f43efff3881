package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
)

// ScrubPage is what one call of Scrub has looked at.
type ScrubPage struct {
	Last    *cluster.ShardKey // go on after it; nil: the placement group is done
	Shards  int64
	Bytes   int64 // of records, headers and padding included
	Damaged int64
}

// Scrub reads up to limit live shards of pg that follow the given key (nil: from
// the first) and verifies every block, past the page cache where the file system
// allows, so that it is the medium that is checked. What is damaged is
// remembered (Damaged) and does not end the call. pace is called with the bytes
// of each record before it is read; its error ends the call.
func (d *Disk) Scrub(ctx context.Context, pg cluster.PG, after *cluster.ShardKey, limit int, pace func(context.Context, int64) error) (ScrubPage, error) {
	return leave(ctx, d, func() (ScrubPage, error) { return d.scrub(ctx, pg, after, limit, pace) })
}

func (d *Disk) scrub(ctx context.Context, pg cluster.PG, after *cluster.ShardKey, limit int, pace func(context.Context, int64) error) (ScrubPage, error) {
	if err := d.enter(); err != nil {
		return ScrubPage{}, err
	}
	defer d.users.Done()
	var page ScrubPage
	if pg == 0 && after == nil { // a pass begins: what the index hides, nobody verifies
		if err := d.checkIndex(); err != nil {
			return page, err
		}
	}
	limit = min(max(limit, 1), MaxListLimit)
	rows, err := d.index.list(pg, after, limit)
	if err != nil {
		return page, fmt.Errorf("disk %s: scrub pg %d: %w", d.owner.disk, pg, d.indexFailed(err))
	}
	if len(rows) == limit {
		page.Last = &rows[len(rows)-1].key
	}
	// In the order of the disk, not of the keys.
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.place.segment, b.place.segment), cmp.Compare(a.place.offset, b.place.offset))
	})
	v := verifier{d: d}
	defer v.close()
	for _, r := range rows {
		size := shapeFor(r.place.length).size(r.place.length)
		if err := pace(ctx, size); err != nil {
			return page, err
		}
		err := v.check(r.key)
		switch {
		case err == nil:
		case errors.Is(err, cluster.ErrNotFound):
			continue // deleted meanwhile
		case errors.Is(err, cluster.ErrCorrupt), isMediumError(err):
			page.Damaged++
		default:
			return page, fmt.Errorf("disk %s: scrub %s: %w", d.owner.disk, r.key, err)
		}
		page.Shards++
		page.Bytes += size
	}
	return page, nil
}

// Check reads one shard from the medium and verifies every block: nil,
// ErrNotFound, ErrCorrupt or ErrDiskFailed. Damage is remembered; a shard that
// reads well is no longer damaged.
func (d *Disk) Check(ctx context.Context, key cluster.ShardKey) error {
	return leaveErr(ctx, d, func() error { return d.check(ctx, key) })
}

func (d *Disk) check(ctx context.Context, key cluster.ShardKey) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.users.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	v := verifier{d: d}
	defer v.close()
	if err := v.check(key); err != nil {
		return fmt.Errorf("disk %s: check %s: %w", d.owner.disk, key, err)
	}
	return nil
}

func shapeFor(length uint32) shape {
	if length >= LargeBytes {
		return shapeOf(largeSegment)
	}
	return shapeOf(smallSegment)
}

// isMediumError tells whether the medium did not give what it holds.
func isMediumError(err error) bool { return errors.Is(err, syscall.EIO) }

// verifier reads whole records, and keeps the file of the last one open.
type verifier struct {
	d      *Disk
	number uint64
	file   vfs.File
}

func (v *verifier) close() {
	if v.file != nil {
		closeReader(v.file)
		v.file = nil
	}
}

// check verifies the live record of a key and remembers what it finds.
func (v *verifier) check(key cluster.ShardKey) error {
	for {
		p, found, err := v.d.lookup(key)
		if err != nil {
			return err
		}
		if !found {
			return cluster.ErrNotFound
		}
		err = v.record(key, p)
		// What was replaced or deleted under the read proves nothing.
		if now, still, lerr := v.d.lookup(key); lerr != nil || !still || now != p {
			continue
		}
		if err == nil {
			v.d.damage.forget(key)
			return nil
		}
		v.d.damage.see(key, p, err, v.d.cfg.Now())
		return err
	}
}

// record verifies the record at p.
func (v *verifier) record(key cluster.ShardKey, p place) error {
	v.d.mu.RLock()
	s := v.d.segments[p.segment]
	v.d.mu.RUnlock()
	if s == nil {
		return cluster.ErrNotFound
	}
	if err := v.open(s); err != nil {
		return readError(err)
	}
	from := p.offset &^ (pageBytes - 1)
	b := GetBuffer(int(padTo(p.offset+s.shape.size(p.length), pageBytes) - from))
	defer PutBuffer(b)
	n, err := v.file.ReadVec([][]byte{b}, from)
	if err != nil && err != io.EOF {
		return readError(err)
	}
	b = b[min(int64(n), p.offset-from):n]
	h, _, err := parseHeader(b, s.seed, p.offset, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrCorrupt, err)
	}
	if err := p.matches(key, h); err != nil {
		return err
	}
	at := s.shape.payloadAt(h.length)
	if int64(len(b)) < at+int64(h.length) {
		return readError(io.EOF)
	}
	if block, ok := verifyPayload(b[at:at+int64(h.length)], h.sums); !ok {
		return fmt.Errorf("%w: block %d does not match its sum", cluster.ErrCorrupt, block)
	}
	return nil
}

func (v *verifier) open(s *segment) (err error) {
	if v.file != nil && v.number == s.number {
		return nil
	}
	v.close()
	if v.file, err = openPastCache(v.d.fs, s.path); err != nil {
		v.file = nil
	}
	v.number = s.number
	return err
}
