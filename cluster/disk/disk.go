package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
	"bivalve/cluster/disk/watch"
)

// Disk is one open disk. All methods are safe for concurrent use.
type Disk struct {
	cfg     Config
	fs      vfs.Pinned
	monitor *watch.Monitor
	log     *slog.Logger
	owner   owner
	lock    io.Closer
	handles handles
	metrics *metrics

	small, large *writer
	claims       claims
	seq          atomic.Uint64 // the last sequence number given out
	failed       atomic.Pointer[failure]
	closely      atomic.Bool          // see WatchClosely
	room         atomic.Pointer[room] // as last seen
	readers      chan struct{}        // a slot for each read under way
	largeReaders chan struct{}        // another for each large one
	lossMu       sync.Mutex           // orders the closing of the next two
	hung, lost   chan struct{}
	loss         atomic.Pointer[Loss]
	closed       atomic.Bool
	users        sync.WaitGroup // calls that Close waits for
	usersMu      sync.Mutex     // orders users.Add before Close's Wait
	condemned    atomic.Bool    // the index file was thrown away
	damage       damage
	wake         chan struct{} // cap 1: Run has something to do

	mu       sync.RWMutex // guards the next four, and the marked fields of segments
	segments map[uint64]*segment
	index    index
	punches  []punch
	drops    int // segments forgotten since Open
	shards   int64

	manifestMu sync.Mutex // held over the writing of MANIFEST
	manifest   manifest

	checkpointMu sync.Mutex
}

// Open opens a formatted disk. It fails with ErrInvalid when the directory is
// another disk or of another cluster, with ErrCorrupt when its identity or
// manifest are damaged; damage inside segments is logged, and found again by
// whoever reads there.
func Open(cfg Config) (*Disk, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pinned, err := cfg.FS.Pin(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open disk %s: %w", cfg.Dir, err)
	}
	d := &Disk{cfg: cfg, monitor: watch.New(cfg.Now), segments: map[uint64]*segment{}, wake: make(chan struct{}, 1),
		readers: make(chan struct{}, maxReaders), largeReaders: make(chan struct{}, maxLargeReaders), hung: make(chan struct{}), lost: make(chan struct{})}
	d.fs = vfs.WrapPinned(pinned, d.monitor.Around)
	d.handles.fs = d.fs
	d.index = index{mu: &d.mu, fresh: overlay{}}
	d.small, d.large = newWriter(d, smallSegment), newWriter(d, largeSegment)
	if err := d.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open disk %s: %w", cfg.Dir, err), d.release())
	}
	return d, nil
}

func (d *Disk) open() (err error) {
	// Before anything is written, be it the lock: an empty mount point is no disk.
	if d.owner, err = readIdentity(d.fs, d.cfg); err != nil {
		return err
	}
	if d.lock, err = d.fs.Lock(filepath.Join(d.cfg.Dir, lockName)); err != nil {
		return err
	}
	d.log = d.cfg.Logger.With("disk", d.owner.disk.String())
	err = d.readOwn(identityName, parseIdentity(&d.owner))
	if err == nil {
		err = d.readOwn(manifestName, func(page []byte) (err error) { d.manifest, err = parseManifest(page); return err })
	}
	if err != nil {
		return err
	}
	if d.manifest.owner != d.owner {
		return fmt.Errorf("%w: manifest of disk %s", cluster.ErrCorrupt, d.manifest.owner.disk)
	}
	if err := d.sweepFiles(); err != nil {
		return err
	}
	if _, _, err := d.space(); err != nil {
		return err
	}
	if err := d.readLoss(); err != nil {
		return err
	}
	losses, err := d.incarnate()
	if err != nil {
		return err
	}
	d.metrics = newMetrics(d)
	return d.load(losses)
}

// sweepFiles removes the segment files that the manifest knows to be dead, and
// those that were made but never listed.
func (d *Disk) sweepFiles() error {
	names, err := d.fs.ReadDir(d.cfg.Dir)
	if err != nil {
		return err
	}
	listed := map[uint64]bool{}
	for _, s := range d.manifest.segments {
		listed[s.number] = true
	}
	for _, name := range names {
		number, kind, ok := parseSegmentName(name)
		if !ok || listed[number] {
			continue
		}
		if number >= d.manifest.next {
			// Nothing is acknowledged out of a file that is not listed yet. If there
			// are records in it all the same, the manifest is older than the disk.
			if err := d.checkUnlisted(number, kind); err != nil {
				return err
			}
		}
		d.log.Info("removing dead segment", "segment", number)
		if err := d.fs.Remove(filepath.Join(d.cfg.Dir, name)); err != nil {
			return err
		}
	}
	// The manifest that was read may be one whose rename was not synced before its
	// process ended. Nothing may be acknowledged out of what only it lists.
	return d.fs.SyncDir(d.cfg.Dir)
}

func (d *Disk) checkUnlisted(number uint64, kind segmentKind) error {
	s := d.newSegment(number, kind)
	f, err := d.fs.OpenRead(s.path)
	if err != nil {
		return err
	}
	records := 0
	size, err := f.Size()
	if err == nil {
		sc := scanner{f: f, s: s, size: size}
		err = sc.each(pageBytes, func(header, int64) error { records++; return nil }, nil)
	}
	if records > 0 {
		err = errors.Join(err, fmt.Errorf("%w: segment %d holds %d records and is not in the manifest, which is of an earlier time",
			cluster.ErrCorrupt, number, records))
	}
	return errors.Join(err, f.Close())
}

// ID is the disk's id, from inside the disk.
func (d *Disk) ID() cluster.DiskID { return d.owner.disk }

// enter counts a call that Close has to wait for.
func (d *Disk) enter() error {
	d.usersMu.Lock()
	defer d.usersMu.Unlock()
	if d.closed.Load() {
		return fmt.Errorf("%w: closed", cluster.ErrDiskFailed)
	}
	d.users.Add(1)
	return nil
}

// Close waits for the calls under way, for ever if the disk hangs, checkpoints the index and closes every
// file. It is idempotent.
func (d *Disk) Close() error {
	d.usersMu.Lock()
	again := d.closed.Swap(true)
	d.usersMu.Unlock()
	d.users.Wait()
	if again {
		return nil
	}
	var errs []error
	if d.Failed() == nil {
		errs = append(errs, d.small.trim(), d.large.trim(), d.checkpoint(true))
	}
	if d.Failed() == nil {
		if err := d.markClosed(); errors.Is(err, cluster.ErrDiskFull) || errors.Is(err, cluster.ErrOverloaded) {
			d.log.Info("closed without a mark: the next open verifies the last batch", "err", err)
		} else {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, d.release())...)
}

// release closes what Open opened.
func (d *Disk) release() error {
	errs := []error{d.small.close(), d.large.close(), d.handles.close()}
	if d.index.table != nil {
		errs = append(errs, d.index.table.close())
	}
	d.metrics.unregister()
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(append(errs, d.fs.Close())...)
}

// lookup finds the live record of a key. A row of a segment that is gone is what
// a crash left behind a compaction, the shard was dead then; or one that was
// compacted since the row was read, so that it is read again.
func (d *Disk) lookup(k cluster.ShardKey) (place, bool, error) {
	var before place
	for {
		p, ok, err := d.index.get(k)
		if err != nil {
			return p, false, d.indexFailed(err)
		}
		if !ok {
			return p, false, nil
		}
		d.mu.RLock()
		live := d.segments[p.segment] != nil
		d.mu.RUnlock()
		if live || p == before {
			return p, live, nil
		}
		before = p
	}
}

// indexFailed throws the index file away once it is known to be damaged. The
// open one goes on as far as it can; whoever watches Lost opens the disk again,
// which rebuilds it.
func (d *Disk) indexFailed(err error) error {
	if errors.Is(err, errIndex) && d.condemned.CompareAndSwap(false, true) {
		name := filepath.Join(d.cfg.Dir, indexName)
		if rerr := d.fs.Remove(name); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		d.lose(StateReindex, "read the index", err)
	}
	return fmt.Errorf("%w: %w", cluster.ErrCorrupt, err)
}

// settle, retire and bury keep index and sizes together; mu is held.
func (d *Disk) settle(s *segment, k cluster.ShardKey, p place) {
	d.index.put(k, p)
	s.live += s.shape.size(p.length)
	s.shards++
	d.shards++
}

func (d *Disk) retire(p place) {
	if s := d.segments[p.segment]; s != nil {
		s.live -= s.shape.size(p.length)
		s.shards--
		d.shards--
		s.quarrels = false // what was damaged may have died with it
	}
}

func (d *Disk) bury(k cluster.ShardKey, p place) {
	d.index.drop(k)
	d.retire(p)
}
