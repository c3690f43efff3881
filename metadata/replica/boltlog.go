package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"bivalve/metadata/boltfile"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// compactPerSave bounds how many dead entries of one group a Save removes on
// its way, so that no single turn waits for a long clean-up.
const compactPerSave = 1024

var (
	keyReplica   = []byte("replica")
	keyHardState = []byte("h")
	keyMark      = []byte("m")
	metaBucket   = []byte("meta")
)

// BoltLog is a LogStore in one bbolt file, a bucket for each group.
//
// bbolt without its syncs may be corrupt after a power cut and not merely old,
// so there is no unsynced transaction here: a HardState that needs no sync (its
// commit index moved) stays in memory until the next Save that does.
type BoltLog struct {
	db *bolt.DB

	mu     sync.Mutex
	groups map[GroupID]*boltGroup
	broken error
	stuck  bool // bbolt gave up within a transaction, and would wait for its end
}

type boltGroup struct {
	mark   Mark   // entries at or below are gone for readers ...
	oldest uint64 // ... and the first one that may still be in the file
	last   uint64
	hs     *raftpb.HardState
	bad    error // its records do not check; they are left as they are
	// waiting: hs or mark are newer than the file.
	hsWaiting, markWaiting bool
}

// OpenBoltLog opens or creates the log file of a node and checks all of it. A file
// that is damaged as a whole is ErrCorrupt; records of one group that do not check
// concern that group alone (InitialState says so). Neither is mended or cut.
func OpenBoltLog(path string) (_ *BoltLog, err error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := boltfile.Create(path); err != nil {
			return nil, fmt.Errorf("raft log %s: %w", path, err)
		}
	}
	if err := boltfile.Check(path, nil); errors.Is(err, boltfile.ErrDamaged) || errors.Is(err, syscall.EIO) {
		return nil, fmt.Errorf("raft log: %w: %w", ErrCorrupt, err)
	} else if err != nil {
		return nil, fmt.Errorf("raft log: %w", err)
	}
	defer guardLog(&err)()
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:        time.Second, // another process has it
		NoFreelistSync: true,        // rebuilt at open; saves a page run in each commit
		FreelistType:   bolt.FreelistMapType,
	})
	if err != nil {
		return nil, fmt.Errorf("raft log %s: %w", path, err)
	}
	l := &BoltLog{db: db, groups: map[GroupID]*boltGroup{}}
	if err := db.View(l.load); err != nil {
		return nil, errors.Join(fmt.Errorf("raft log %s: %w", path, err), db.Close())
	}
	return l, nil
}

func bucketName(g GroupID) []byte { return binary.BigEndian.AppendUint32([]byte("g"), uint32(g)) }
func entryKey(i uint64) []byte    { return binary.BigEndian.AppendUint64([]byte("e"), i) }

// parseEntryKey reports the index of an entry's key.
func parseEntryKey(k []byte) (uint64, bool) {
	if len(k) != 9 || k[0] != 'e' {
		return 0, false
	}
	return binary.BigEndian.Uint64(k[1:]), true
}

func (l *BoltLog) load(tx *bolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		if len(name) != 5 || name[0] != 'g' {
			return nil
		}
		id := GroupID(binary.BigEndian.Uint32(name[1:]))
		g, err := loadGroup(id, b)
		if errors.Is(err, ErrCorrupt) {
			g, err = &boltGroup{bad: err, hs: hardState(0, 0, 0)}, nil
		}
		if err != nil {
			return err
		}
		l.groups[id] = g
		return nil
	})
}

// loadGroup reads the state of a group and checks that its entries have no hole
// and no damage. Damage is reported, never cut away: the entries behind it may
// be acknowledged.
func loadGroup(id GroupID, b *bolt.Bucket) (*boltGroup, error) {
	mark, err := decodeMark(id, b.Get(keyMark))
	if err != nil {
		return nil, err
	}
	hs, err := decodeHardState(id, b.Get(keyHardState))
	if err != nil {
		return nil, err
	}
	g := &boltGroup{mark: mark, oldest: mark.Index + 1, last: mark.Index, hs: hs}
	c := b.Cursor()
	first := true
	var next uint64
	for k, v := c.First(); k != nil; k, v = c.Next() {
		i, ok := parseEntryKey(k)
		if !ok {
			if bytes.Equal(k, keyHardState) || bytes.Equal(k, keyMark) {
				continue
			}
			// Not the end of the entries: a damaged key may look like anything.
			return nil, fmt.Errorf("group %d: record under key %x: %w", id, k, ErrCorrupt)
		}
		if first {
			g.oldest, next, first = i, i, false
		}
		if i != next || g.oldest > mark.Index+1 {
			return nil, fmt.Errorf("group %d: entry %d found, %d expected: %w", id, i, min(next, mark.Index+1), ErrCorrupt)
		}
		if _, err := decodeLogEntry(id, i, v); err != nil {
			return nil, err
		}
		next++
		g.last = max(g.last, i)
	}
	return g, nil
}

// Groups implements LogStore.
func (l *BoltLog) Groups() ([]GroupID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sortedKeys(l.groups), nil
}

// InitialState implements LogStore.
func (l *BoltLog) InitialState(id GroupID) (LogState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if g == nil {
		return LogState{}, ErrNoGroup
	}
	return LogState{HardState: g.hs, Mark: g.mark, LastIndex: g.last}, g.bad
}

func (l *BoltLog) state(id GroupID) (boltGroup, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if g == nil {
		return boltGroup{}, ErrNoGroup
	}
	return *g, g.bad
}

// FirstIndex implements LogStore.
func (l *BoltLog) FirstIndex(id GroupID) (uint64, error) {
	g, err := l.state(id)
	return g.mark.Index + 1, err
}

// LastIndex implements LogStore.
func (l *BoltLog) LastIndex(id GroupID) (uint64, error) {
	g, err := l.state(id)
	return g.last, err
}

// Term implements LogStore.
func (l *BoltLog) Term(id GroupID, i uint64) (uint64, error) {
	g, err := l.state(id)
	if err != nil {
		return 0, err
	}
	if i == g.mark.Index {
		return g.mark.Term, nil
	}
	ents, err := l.Entries(id, i, i+1, 0)
	if err != nil {
		return 0, err
	}
	return ents[0].GetTerm(), nil
}

// Entries implements LogStore.
func (l *BoltLog) Entries(id GroupID, lo, hi, maxBytes uint64) (_ []*raftpb.Entry, err error) {
	defer guardLog(&err)()
	g, err := l.state(id)
	if err != nil {
		return nil, err
	}
	if lo <= g.mark.Index {
		return nil, raft.ErrCompacted
	}
	if hi > g.last+1 || lo >= hi {
		return nil, raft.ErrUnavailable
	}
	var out []*raftpb.Entry
	err = l.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketName(id)).Cursor()
		var size uint64
		i := lo
		for k, v := c.Seek(entryKey(lo)); i < hi; k, v = c.Next() {
			if got, ok := parseEntryKey(k); !ok || got != i {
				return fmt.Errorf("group %d: entry %d is missing: %w", id, i, ErrCorrupt)
			}
			if size += uint64(len(v)); size > maxBytes && len(out) > 0 {
				return nil
			}
			e, err := decodeLogEntry(id, i, v)
			if err != nil {
				return err
			}
			out = append(out, e)
			i++
		}
		return nil
	})
	return out, err
}

// Close writes what waits and closes the file.
func (l *BoltLog) Close() error {
	l.mu.Lock()
	broken, stuck := l.broken, l.stuck
	l.mu.Unlock()
	if stuck {
		return nil
	}
	var err error
	if broken == nil {
		err = l.Save(nil, true)
	}
	if cerr := l.db.Close(); cerr != nil && !errors.Is(cerr, berrors.ErrDatabaseNotOpen) {
		err = errors.Join(err, cerr)
	}
	return err
}

// guardLog makes a panic of bbolt, or a fault in the mapped file, ErrCorrupt.
func guardLog(err *error) func() {
	faults := debug.SetPanicOnFault(true)
	return func() {
		if r := recover(); r != nil {
			*err = fmt.Errorf("raft log: %w: %v", ErrCorrupt, r)
		}
		debug.SetPanicOnFault(faults)
	}
}
