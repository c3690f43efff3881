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
)

// Disk is one open disk. All methods are safe for concurrent use.
type Disk struct {
	cfg     Config
	fs      vfs.FS
	log     *slog.Logger
	owner   owner
	lock    io.Closer
	handles handles
	metrics *metrics

	small, large *writer
	claims       claims
	seq          atomic.Uint64 // the last sequence number given out
	failed       atomic.Pointer[error]
	closed       atomic.Bool
	users        sync.WaitGroup // calls that Close waits for
	usersMu      sync.Mutex     // orders users.Add before Close's Wait
	condemned    atomic.Bool    // the index file was thrown away
	wake         chan struct{}  // cap 1: Run has something to do

	mu       sync.RWMutex // guards the next four, and the marked fields of segments
	segments map[uint64]*segment
	index    index
	punches  []punch
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
	lock, err := cfg.FS.Lock(filepath.Join(cfg.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open disk %s: %w", cfg.Dir, err)
	}
	d := &Disk{cfg: cfg, fs: cfg.FS, lock: lock, segments: map[uint64]*segment{}, wake: make(chan struct{}, 1)}
	d.handles.fs = cfg.FS
	d.index = index{mu: &d.mu, fresh: overlay{}}
	d.small, d.large = newWriter(d, smallSegment), newWriter(d, largeSegment)
	if err := d.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open disk %s: %w", cfg.Dir, err), d.release())
	}
	return d, nil
}

func (d *Disk) open() (err error) {
	if d.owner, err = readIdentity(d.cfg); err != nil {
		return err
	}
	d.log = d.cfg.Logger.With("disk", d.owner.disk.String())
	err = readTwice(d.cfg, manifestName, func(page []byte) (err error) { d.manifest, err = parseManifest(page); return err })
	if err != nil {
		return err
	}
	if d.manifest.owner != d.owner {
		return fmt.Errorf("%w: manifest of disk %s", cluster.ErrCorrupt, d.manifest.owner.disk)
	}
	if err := d.sweepFiles(); err != nil {
		return err
	}
	d.metrics = newMetrics(d)
	return d.load()
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

// Failed is why the disk takes no writes, nil if it does; unlike Usage it asks
// nothing of the file system.
func (d *Disk) Failed() error {
	if p := d.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// fence refuses all writes from now on. After a failed sync the kernel may have
// dropped the pages and call the next sync a success, so nothing is retried.
func (d *Disk) fence(op string, cause error) error {
	err := fmt.Errorf("disk %s: %w: %s: %w", d.owner.disk, cluster.ErrDiskFailed, op, cause)
	if d.failed.CompareAndSwap(nil, &err) {
		d.log.Error("disk is fenced: it takes no more writes", "op", op, "err", cause)
	}
	return err
}

// Close waits for the calls under way, checkpoints the index and closes every
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
		errs = append(errs, d.markClosed())
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
	return errors.Join(append(errs, d.lock.Close())...)
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
// open one goes on as far as it can; the next Open rebuilds it.
func (d *Disk) indexFailed(err error) error {
	if errors.Is(err, errIndex) && d.condemned.CompareAndSwap(false, true) {
		d.log.Error("index is damaged; it is rebuilt when the disk is next opened", "err", err)
		name := filepath.Join(d.cfg.Dir, indexName)
		if rerr := d.fs.Remove(name); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
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
	}
}

func (d *Disk) bury(k cluster.ShardKey, p place) {
	d.index.drop(k)
	d.retire(p)
}
