package index

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/boltfile"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// formatVersion is checked at Open. A file of an earlier version is rewritten once
// (migrate.go); one of a later version is refused.
const formatVersion = 7

// reserved is how far an index file may grow while snapshots of it are sent.
const reserved = 16 << 30

var (
	formatNow = []byte{formatVersion, ^byte(formatVersion)}
	formatOne = []byte{1}           // its records carry no sums
	formatTwo = []byte{2, ^byte(2)} // it does not know who owns its blobs
)

var (
	tableMeta      = []byte("meta")
	tableConfig    = []byte("config")
	tableBuckets   = []byte("buckets")
	tableObjects   = []byte("objects")
	tableUploads   = []byte("uploads")
	tableParts     = []byte("parts")
	tableFinished  = []byte("finished")
	tableFinishedQ = []byte("finishedq")
	tableGarbage   = []byte("garbage")
	tableFences    = []byte("fences")
	tableRequests  = []byte("requests")
	tableRules     = []byte("rules")
	tableBlobs     = []byte("blobs")
	tableUnder     = []byte("under")
	tableSince     = []byte("since")
	tableSlots     = []byte("slots")
	tableVersions  = []byte("versions")
	tableNulls     = []byte("nulls")

	tableReferences = []byte("references")
	tablePending    = []byte("pending")
	tableRefs       = []byte("refs")
	tableReleases   = []byte("releases")
	tableUsage      = []byte("usage")
	tableNamed      = []byte("named")
	tablePeers      = []byte("peers")
)

var (
	// ErrFormat: the file is not an index of a version that this binary reads.
	ErrFormat = errors.New("index: unknown format")
	// ErrNewer: an entry that this binary does not know; it must not be passed
	// over, or replicas of different versions would diverge.
	ErrNewer = errors.New("index: entry of an unknown version")
	// ErrBadSnapshot: the file offered as a snapshot was refused, and the state
	// is as it was.
	ErrBadSnapshot = errors.New("index: snapshot refused")
)

// Applied is the place in the log up to which entries are in the state.
type Applied struct {
	Index, Term uint64
	ConfState   []byte // marshalled raftpb.ConfState, opaque here
}

// Entry is one committed entry. Data nil only moves Applied.
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// Index is one group's state. ApplyBatch and InstallSnapshot are called from one
// goroutine at a time; the rest from any.
type Index struct {
	path string

	mu       sync.RWMutex
	db       *bbolt.DB
	tx       *bbolt.Tx // the open write transaction
	t        tables    // of tx
	applied  Applied
	durable  Applied
	lastTime int64
	proposed int64 // the time of the command in hand, by its proposer
	dirty    bool
	stats    metadata.Stats
	requests map[metadata.RequestID]int64 // -> log time, mirrors the table
	buckets  int                          // rows of that table
	usage    map[metadata.BucketID]*metadata.Usage
	used     map[metadata.BucketID]bool // whose usage is not written yet
	digest   uint64                     // of all tables but meta
	closed   bool
	// failed is set once, by guard; nothing is answered after it.
	failed atomic.Pointer[error]
}

// tables are the buckets of the open transaction.
type tables struct {
	meta, config, buckets, objects, uploads, parts, finished, finishedQ, garbage, fences, requests table
	rules, blobs, under, since, slots, versions, nulls                                             table
	references, pending, refs, releases, usage, named, peers                                       table
}

// Open opens or makes the index file at path, and checks all of it. A file that
// is not as it was written is ErrDamaged, never a panic: the caller fetches a
// snapshot from a peer.
func Open(path string) (*Index, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		err := boltfile.Create(path)
		if boltfile.NoRoom(err) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", path, err)
		}
	}
	ix := &Index{path: path}
	if err := ix.open(); err != nil {
		return nil, err
	}
	return ix, nil
}

func (ix *Index) open() (err error) {
	defer ix.guard(&err)()
	if _, err := checkFile(ix.path); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	// The address space is reserved ahead: a file that outgrows it has its next commit,
	// and whoever asks, wait for a snapshot's read transaction, which is as slow as the
	// peer that takes it. It costs no memory, and that of 4096 partitions is 64 TiB.
	db, err := bbolt.Open(ix.path, 0o600, &bbolt.Options{
		Timeout: 5 * time.Second, FreelistType: bbolt.FreelistMapType, InitialMmapSize: reserved,
	})
	if err != nil {
		return fmt.Errorf("index %s: %w", ix.path, err)
	}
	ix.db = db
	if err := ix.begin(); err != nil {
		return errors.Join(err, db.Close())
	}
	if err := ix.load(); err != nil {
		return errors.Join(err, ix.tx.Rollback(), db.Close())
	}
	return nil
}

// begin opens the next write transaction and its tables.
func (ix *Index) begin() error {
	tx, err := ix.db.Begin(true)
	if err != nil {
		return fmt.Errorf("index %s: %w", ix.path, err)
	}
	ix.tx = tx
	for _, t := range []struct {
		name []byte
		at   *table
	}{
		{tableMeta, &ix.t.meta}, {tableConfig, &ix.t.config}, {tableBuckets, &ix.t.buckets},
		{tableObjects, &ix.t.objects}, {tableUploads, &ix.t.uploads}, {tableParts, &ix.t.parts},
		{tableFinished, &ix.t.finished}, {tableFinishedQ, &ix.t.finishedQ}, {tableGarbage, &ix.t.garbage},
		{tableFences, &ix.t.fences}, {tableRequests, &ix.t.requests}, {tableRules, &ix.t.rules},
		{tableBlobs, &ix.t.blobs},
		{tableUnder, &ix.t.under}, {tableSince, &ix.t.since}, {tableSlots, &ix.t.slots},
		{tableVersions, &ix.t.versions}, {tableNulls, &ix.t.nulls},
		{tableReferences, &ix.t.references}, {tablePending, &ix.t.pending},
		{tableRefs, &ix.t.refs}, {tableReleases, &ix.t.releases}, {tableUsage, &ix.t.usage},
		{tableNamed, &ix.t.named}, {tablePeers, &ix.t.peers},
	} {
		b, err := tx.CreateBucketIfNotExists(t.name)
		if err != nil {
			return errors.Join(fmt.Errorf("index %s: table %s: %w", ix.path, t.name, err), tx.Rollback())
		}
		*t.at = table{name: string(t.name), b: b, digest: &ix.digest}
	}
	own := uint64(0) // the digest lies in this table, so it cannot cover it
	ix.t.meta.digest = &own
	return nil
}

// Close drops what was not flushed; the log has it.
func (ix *Index) Close() (err error) {
	defer ix.guard(&err)()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.closed {
		return nil
	}
	ix.closed = true
	return ix.shut()
}

// shut ends the transaction and closes the file. A file of which bbolt could not
// even end the transaction stays open, since closing it would wait for that.
func (ix *Index) shut() error {
	// A failed commit has ended the transaction already.
	if err := ix.tx.Rollback(); err != nil && !errors.Is(err, berrors.ErrTxClosed) {
		return err
	}
	return ix.db.Close()
}

// Applied is the place of the visible state.
func (ix *Index) Applied() Applied {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.applied
}

// Durable is the place that a crash would fall back to.
func (ix *Index) Durable() Applied {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.durable
}

// Flush makes what is applied durable. Queries wait while it syncs. After an error
// the index answers nothing any more.
func (ix *Index) Flush() (_ Applied, err error) {
	defer ix.guard(&err)()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if err := ix.failure(); err != nil {
		return ix.durable, err
	}
	if ix.closed {
		return ix.durable, berrors.ErrDatabaseNotOpen
	}
	if !ix.dirty {
		return ix.durable, nil
	}
	if err := ix.save(); err != nil {
		return ix.durable, err
	}
	if err := ix.tx.Commit(); err != nil {
		return ix.durable, fmt.Errorf("index %s: %w", ix.path, commitFailed(err))
	}
	ix.durable, ix.dirty = ix.applied, false
	return ix.durable, ix.begin()
}

// StreamSnapshot writes a durable image of the state and says its place.
func (ix *Index) StreamSnapshot(w io.Writer) (_ Applied, err error) {
	defer ix.guard(&err)()
	if _, err := ix.Flush(); err != nil {
		return Applied{}, err
	}
	ix.mu.RLock()
	db := ix.db // InstallSnapshot may swap it; closing waits for the read below
	ix.mu.RUnlock()
	var at Applied
	err = db.View(func(tx *bbolt.Tx) error {
		var err error
		if at, _, err = readApplied(table{name: string(tableMeta), b: tx.Bucket(tableMeta)}); err != nil {
			return err
		}
		_, err = tx.WriteTo(w)
		return err
	})
	if err != nil {
		return Applied{}, fmt.Errorf("index %s: snapshot: %w", ix.path, err)
	}
	return at, nil
}

// InstallSnapshot replaces the whole state by the synced file at path, which
// must lie on the same file system; the file is moved. ErrBadSnapshot leaves the
// state as it was.
func (ix *Index) InstallSnapshot(path string) (_ Applied, err error) {
	if err := checkSnapshot(path); err != nil {
		return Applied{}, err
	}
	defer ix.guard(&err)()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if err := ix.failure(); err != nil {
		return Applied{}, err
	}
	// From here on the state is given up: what fails leaves none.
	if err := ix.shut(); err != nil {
		return Applied{}, fmt.Errorf("index %s: %w: install snapshot: %w", ix.path, ErrDamaged, err)
	}
	if err := boltfile.Replace(path, ix.path); err != nil {
		return Applied{}, fmt.Errorf("index %s: %w: install snapshot: %w", ix.path, ErrDamaged, err)
	}
	if err := ix.open(); err != nil {
		return Applied{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return ix.applied, nil
}
