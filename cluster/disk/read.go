package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"bivalve/cluster"
)

// MaxListLimit bounds one page of List.
const MaxListLimit = 10_000

const (
	// maxReaders bounds the reads under way, and so the threads that a disk which hangs
	// can hold; maxLargeReaders those of more than largeRead bytes, and so their callers'
	// memory.
	maxReaders      = 64
	maxLargeReaders = 8
	largeRead       = 512 << 10
)

// Read puts the blocks of r, or those of them that the shard has, at the start
// of dst and returns their stored sums. The payload is not verified: whoever
// serves the client does that. ErrInvalid when dst is too small or the range
// begins past the shard, ErrNotFound, ErrCorrupt when what is stored is not the
// record that was asked for, ErrDiskFailed when the disk cannot be read.
func (d *Disk) Read(ctx context.Context, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	if err := d.enter(); err != nil {
		return cluster.BlockRead{}, err
	}
	defer d.users.Done()
	if err := ctx.Err(); err != nil {
		return cluster.BlockRead{}, err
	}
	slots := []chan struct{}{d.largeReaders, d.readers}
	if len(dst) <= largeRead {
		slots = slots[1:]
	}
	for _, s := range slots {
		if err := d.takeSlot(ctx, s); err != nil {
			return cluster.BlockRead{}, err
		}
		defer func() { <-s }()
	}
	out, err := d.read(key, r, dst)
	if err != nil {
		return out, fmt.Errorf("disk %s: read %s: %w", d.owner.disk, key, err)
	}
	return out, nil
}

// takeSlot waits for a slot until the disk is known to hang.
func (d *Disk) takeSlot(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.hung:
		return d.hungError()
	}
}

func (d *Disk) read(key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	for {
		p, found, err := d.lookup(key)
		if err != nil {
			return cluster.BlockRead{}, err
		}
		if !found {
			return cluster.BlockRead{}, cluster.ErrNotFound
		}
		out, err := d.readAt(key, p, r, dst)
		if err != nil && errors.Is(err, cluster.ErrInvalid) {
			return out, err
		}
		// The record may have been deleted, and its space given back, under this
		// read. If it is not what counts any more, nothing read here does.
		now, found, lerr := d.lookup(key)
		switch {
		case lerr != nil:
			return cluster.BlockRead{}, lerr
		case !found:
			return cluster.BlockRead{}, cluster.ErrNotFound
		case now == p, now.seq == p.seq && err == nil:
			if err == nil {
				d.metrics.read(out.Bytes)
			} else {
				d.metrics.readFailed()
				d.damage.see(key, p, err, d.cfg.Now())
			}
			return out, err
		}
	}
}

func (d *Disk) readAt(key cluster.ShardKey, p place, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	length, blocks := int(p.length), cluster.Blocks(int(p.length))
	if int64(r.First) >= int64(blocks) {
		return cluster.BlockRead{}, fmt.Errorf("%w: block %d of %d", cluster.ErrInvalid, r.First, blocks)
	}
	first, last := int(r.First), blocks
	if r.Count > 0 && int64(r.Count) < int64(blocks-first) {
		last = first + int(r.Count)
	}
	from, to := first*cluster.BlockBytes, min(last*cluster.BlockBytes, length)
	if len(dst) < to-from {
		return cluster.BlockRead{}, fmt.Errorf("%w: buffer of %d bytes for %d", cluster.ErrInvalid, len(dst), to-from)
	}
	d.mu.RLock()
	s := d.segments[p.segment]
	d.mu.RUnlock()
	if s == nil {
		return cluster.BlockRead{}, cluster.ErrNotFound
	}
	f, err := d.handles.get(s)
	if err != nil {
		return cluster.BlockRead{}, readError(err)
	}
	defer d.handles.put(f)

	payloadAt := s.shape.payloadAt(p.length)
	head := GetBuffer(int(payloadAt))
	defer PutBuffer(head)
	want := dst[:to-from]
	if from == 0 { // header and payload in one call
		err = readFull(f, [][]byte{head, want}, p.offset)
	} else {
		if err = readFull(f, [][]byte{head}, p.offset); err == nil {
			err = readFull(f, [][]byte{want}, p.offset+payloadAt+int64(from))
		}
	}
	if err != nil {
		return cluster.BlockRead{}, err
	}
	h, _, err := parseHeader(head, s.seed, p.offset, nil)
	if err != nil {
		return cluster.BlockRead{}, fmt.Errorf("%w: %w", cluster.ErrCorrupt, err)
	}
	if err := p.matches(key, h); err != nil {
		return cluster.BlockRead{}, err
	}
	return cluster.BlockRead{ShardBytes: length, Bytes: to - from, Sums: h.sums[first:last]}, nil
}

// matches tells whether h is the header of what the index says lies there.
func (p place) matches(key cluster.ShardKey, h header) error {
	if h.kind != kindShard || h.key != key || h.gen != p.gen || h.length != p.length || h.seq != p.seq ||
		contentHash(h.profile, int(h.length), h.sums) != p.content {
		return fmt.Errorf("%w: found %s generation %d", cluster.ErrCorrupt, h.key, h.gen)
	}
	return nil
}

func readFull(f *handle, bufs [][]byte, off int64) error {
	_, err := f.file.ReadVec(bufs, off)
	return readError(err)
}

func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: segment is cut short: %w", cluster.ErrCorrupt, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: %w", cluster.ErrOverloaded, err)
	}
	return fmt.Errorf("%w: %w", cluster.ErrDiskFailed, err)
}

// Stat describes a stored shard out of the index, without reading it.
func (d *Disk) Stat(key cluster.ShardKey) (cluster.ShardInfo, error) {
	return leave(context.Background(), d, func() (cluster.ShardInfo, error) { return d.stat(key) })
}

func (d *Disk) stat(key cluster.ShardKey) (cluster.ShardInfo, error) {
	if err := d.enter(); err != nil {
		return cluster.ShardInfo{}, err
	}
	defer d.users.Done()
	p, found, err := d.lookup(key)
	if err == nil && !found {
		err = cluster.ErrNotFound
	}
	if err != nil {
		return cluster.ShardInfo{}, fmt.Errorf("disk %s: stat %s: %w", d.owner.disk, key, err)
	}
	return info(key, p), nil
}

func info(key cluster.ShardKey, p place) cluster.ShardInfo {
	return cluster.ShardInfo{Key: key, Profile: p.profile, Generation: p.gen, Bytes: int(p.length)}
}

// List returns up to limit shards of pg that follow the given key (nil: from the
// first), in key order. A page shorter than limit is the last. limit is cut to
// MaxListLimit.
func (d *Disk) List(ctx context.Context, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error) {
	return leave(ctx, d, func() ([]cluster.ShardInfo, error) { return d.list(ctx, pg, after, limit) })
}

func (d *Disk) list(ctx context.Context, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.users.Done()
	if limit <= 0 {
		return nil, fmt.Errorf("disk %s: list: %w: limit %d", d.owner.disk, cluster.ErrInvalid, limit)
	}
	limit = min(limit, MaxListLimit)
	out := make([]cluster.ShardInfo, 0, min(limit, 256))
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows, err := d.index.list(pg, after, limit)
		if err != nil {
			return nil, fmt.Errorf("disk %s: list pg %d: %w", d.owner.disk, pg, d.indexFailed(err))
		}
		for _, r := range rows {
			d.mu.RLock()
			live := d.segments[r.place.segment] != nil
			d.mu.RUnlock()
			if !live { // or moved since the row was read
				if r.place, live, err = d.lookup(r.key); err != nil {
					return nil, fmt.Errorf("disk %s: list pg %d: %w", d.owner.disk, pg, err)
				}
			}
			if live && len(out) < limit {
				out = append(out, info(r.key, r.place))
			}
		}
		// Rows of segments that are gone do not count; look further if they took room.
		if len(rows) < limit || len(out) == limit {
			return out, nil
		}
		after = &rows[len(rows)-1].key
	}
}

// Usage is the state of a disk at one moment.
type Usage struct {
	CapacityBytes int64 // of the file system
	FreeBytes     int64 // of the file system, less the reserve
	LiveBytes     int64 // of records that count, headers and padding included
	DeadBytes     int64 // waiting for compaction
	Shards        int64
	Damaged       int64 // shards known to be damaged, now
	DamagedTotal  int64 // found damaged since Open
	MendedTotal   int64 // by Mend, since Open
	State         State
	Failed        error // why the disk takes no writes, nil if it does
}

// room is what the file system has said of its size.
type room struct{ capacity, free int64 }

// space asks the file system for its size, and keeps the answer.
func (d *Disk) space() (capacity, free int64, err error) {
	capacity, free, err = d.fs.Space(d.cfg.Dir)
	if err == nil {
		d.room.Store(&room{capacity, free})
	}
	return capacity, free, err
}

// Usage asks nothing of the file system, so that a disk that hangs holds nobody
// up: sizes are as the last batch or look has found them.
func (d *Disk) Usage() Usage {
	u := Usage{Failed: d.Failed()}
	if err := d.enter(); err != nil {
		u.Failed = err
		return u
	}
	defer d.users.Done()
	u.Damaged, u.DamagedTotal, u.MendedTotal = d.damage.counts()
	if r := d.room.Load(); r != nil {
		u.CapacityBytes, u.FreeBytes = r.capacity, max(0, r.free-d.cfg.reserve(r.capacity))
	}
	u.State = StateOK
	switch f := d.failed.Load(); {
	case f != nil:
		u.State = f.state
	case u.FreeBytes == 0:
		u.State = StateFull
	case d.monitor.FailedReads() > 0:
		u.State = StateSuspect
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	u.Shards = d.shards
	for _, s := range d.segments {
		u.LiveBytes += s.live + s.tombs
		u.DeadBytes += s.dead()
	}
	return u
}
