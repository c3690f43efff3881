package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// PebbleLog is a LogStore in one Pebble directory: a Save is one record of
// Pebble's write-ahead log and one sync, whatever the number of groups.
//
// Where each group's log begins and ends, and its hard state, is in memory; only
// entries are ever read from the files.
//
// A HardState that needs no sync (its commit index moved) stays in memory until
// the next Save that does. So nothing is ever written behind a record that is not
// yet synced, which is what tells damage from a torn end (pebblelog_stamp.go).
type PebbleLog struct {
	db     *pebble.DB
	store  uint64 // random, drawn when the store is created: it marks its stamps
	kept   uint64 // saves that keep their keys
	failed failure

	mu     sync.Mutex
	groups map[GroupID]*pebbleGroup
	saves  uint64 // number of the last one
	oldest uint64 // the first save that still has its key
	broken error
	wedged bool // Pebble panicked: its locks may be held for ever
	closed bool
}

type pebbleGroup struct {
	mark  Mark   // entries at or below are gone for readers ...
	first uint64 // ... and the first one that may still be in the store
	last  uint64
	hs    *raftpb.HardState
	// waiting: hs or mark are newer than the store.
	hsWaiting, markWaiting bool
}

// PebbleConfig says how to open a PebbleLog.
type PebbleConfig struct {
	Dir    string
	Logger *slog.Logger // nil: none

	// Tests: a file system that forgets what was not synced, and small write-ahead
	// logs, so that there are flushes.
	fs        vfs.FS
	memTable  uint64
	savesKept uint64
}

// OpenPebbleLog opens or creates the log of a node and checks every record in it.
func OpenPebbleLog(c PebbleConfig) (*PebbleLog, error) {
	if c.fs == nil {
		c.fs = vfs.Default
	}
	def(&c.memTable, memTableBytes)
	def(&c.savesKept, savesKept)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := openPebbleLog(c)
	if err != nil {
		return nil, fmt.Errorf("raft log %s: %w", c.Dir, err)
	}
	return l, nil
}

func openPebbleLog(c PebbleConfig) (*PebbleLog, error) {
	// Before Pebble: what it takes for a torn end it removes.
	seen, err := findStamps(c.fs, c.Dir)
	if err != nil {
		return nil, err
	}
	l := &PebbleLog{groups: map[GroupID]*pebbleGroup{}, kept: c.savesKept}
	if l.db, err = openPebble(c, &l.failed); err != nil {
		return nil, err
	}
	if err := l.load(seen); err != nil {
		return nil, errors.Join(err, l.closeDB())
	}
	return l, nil
}

func (l *PebbleLog) load(seen map[uint64]uint64) error {
	if err := l.loadStore(seen); err != nil {
		return err
	}
	if err := l.checkSaves(seen[l.store]); err != nil {
		return err
	}
	if err := l.loadGroups(); err != nil {
		return err
	}
	// The new write-ahead log begins with a save, so that losing what was flushed
	// before it leaves a gap.
	return l.write(func(b *pebble.Batch) error {
		return b.Set(keyStore, encodeNumber(keyStore, l.store), nil)
	})
}

// loadGroups reads the state of all groups and checks that their entries have no
// hole and no damage. Damage is reported, never cut away: the entries behind it
// may be acknowledged.
func (l *PebbleLog) loadGroups() error {
	it, err := l.db.NewIter(prefixBounds(prefixGroup))
	if err != nil {
		return err
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		err = l.loadRecord(it.Key(), it.Value())
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return err
	}
	for id, g := range l.groups {
		if !g.complete() {
			return fmt.Errorf("group %d: no hard state or no mark: %w", id, ErrCorrupt)
		}
	}
	return nil
}

// loadRecord takes the next record of the store; the keys put the entries of a
// group behind its hard state and its mark.
func (l *PebbleLog) loadRecord(key, value []byte) (err error) {
	id, kind, index, ok := parseGroupKey(key)
	if !ok {
		return fmt.Errorf("key %x: %w", key, ErrCorrupt)
	}
	g := l.groups[id]
	if g == nil {
		g = &pebbleGroup{}
		l.groups[id] = g
	}
	switch kind {
	case kindHardState:
		g.hs, err = decodeHardState(id, value)
	case kindMark:
		if g.mark, err = decodeMark(id, value); err == nil {
			g.first, g.last = g.mark.Index+1, g.mark.Index
		}
	case kindEntry:
		if !g.complete() || index != g.last+1 {
			return fmt.Errorf("group %d: entry %d found, %d expected: %w", id, index, g.last+1, ErrCorrupt)
		}
		_, err = decodeLogEntry(id, index, value)
		g.last = index
	}
	return err
}

// complete: hard state and mark are there.
func (g *pebbleGroup) complete() bool { return g.hs != nil && g.first > 0 }

// Claim implements LogStore.
func (l *PebbleLog) Claim(id ReplicaID) error {
	v, err := l.get(keyReplica)
	if errors.Is(err, pebble.ErrNotFound) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.write(func(b *pebble.Batch) error {
			return b.Set(keyReplica, encodeNumber(keyReplica, uint64(id)), nil)
		})
	}
	if err != nil {
		return err
	}
	have, err := decodeNumber(keyReplica, v)
	if err != nil {
		return fmt.Errorf("raft log owner: %w", err)
	}
	if ReplicaID(have) != id {
		return fmt.Errorf("raft log belongs to replica %d, not to %d", have, id)
	}
	return nil
}

func (l *PebbleLog) get(key []byte) ([]byte, error) {
	v, done, err := l.db.Get(key)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), v...), done.Close()
}

// Groups implements LogStore.
func (l *PebbleLog) Groups() ([]GroupID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sortedKeys(l.groups), nil
}

// state is a copy of what is known of a group.
func (l *PebbleLog) state(id GroupID) (pebbleGroup, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if g == nil {
		return pebbleGroup{}, ErrNoGroup
	}
	return *g, nil
}

// InitialState implements LogStore.
func (l *PebbleLog) InitialState(id GroupID) (LogState, error) {
	g, err := l.state(id)
	return LogState{HardState: g.hs, Mark: g.mark, LastIndex: g.last}, err
}

// FirstIndex implements LogStore.
func (l *PebbleLog) FirstIndex(id GroupID) (uint64, error) {
	g, err := l.state(id)
	return g.mark.Index + 1, err
}

// LastIndex implements LogStore.
func (l *PebbleLog) LastIndex(id GroupID) (uint64, error) {
	g, err := l.state(id)
	return g.last, err
}

// Term implements LogStore.
func (l *PebbleLog) Term(id GroupID, i uint64) (uint64, error) {
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
func (l *PebbleLog) Entries(id GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	it, err := l.entryIter(id, lo, hi)
	if err != nil {
		return nil, err
	}
	out, err := readEntries(it, id, lo, hi, maxBytes)
	return out, errors.Join(err, it.Close())
}

// entryIter looks at the store as it is between two Saves.
func (l *PebbleLog) entryIter(id GroupID, lo, hi uint64) (*pebble.Iterator, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	switch {
	case g == nil:
		return nil, ErrNoGroup
	case lo <= g.mark.Index:
		return nil, raft.ErrCompacted
	case hi > g.last+1 || lo >= hi:
		return nil, raft.ErrUnavailable
	}
	return l.db.NewIter(&pebble.IterOptions{LowerBound: entryKey(id, lo), UpperBound: entryKey(id, hi)})
}

func readEntries(it *pebble.Iterator, id GroupID, lo, hi, maxBytes uint64) (out []*raftpb.Entry, err error) {
	var size uint64
	next := lo
	for it.First(); it.Valid(); it.Next() {
		if _, _, got, ok := parseGroupKey(it.Key()); !ok || got != next {
			break
		}
		if size += uint64(len(it.Value())); size > maxBytes && len(out) > 0 {
			return out, nil
		}
		e, err := decodeLogEntry(id, next, it.Value())
		if err != nil {
			return nil, err
		}
		out = append(out, e)
		next++
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	if next != hi {
		return nil, fmt.Errorf("group %d: entry %d is missing: %w", id, next, ErrCorrupt)
	}
	return out, nil
}

// Close writes what waits and closes the store.
func (l *PebbleLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	if l.waiting() && l.broken == nil && l.failed.get() == nil {
		err = l.save(nil)
	}
	return errors.Join(err, l.closeDB())
}

func (l *PebbleLog) waiting() bool {
	for _, g := range l.groups {
		if g.hsWaiting || g.markWaiting {
			return true
		}
	}
	return false
}

// Keys sort as: groups, then saves, then what is there once.
const (
	prefixGroup = 'g'
	prefixSave  = 's'

	kindEntry     = 'e'
	kindHardState = 'a' // before the entries
	kindMark      = 'b'
)

var (
	keyReplica = []byte("xreplica")
	keyStore   = []byte("xstore")
	keyOldest  = []byte("xoldest")
)

func groupKey(g GroupID, kind byte) []byte {
	k := append(make([]byte, 0, 14), prefixGroup)
	return append(binary.BigEndian.AppendUint32(k, uint32(g)), kind)
}

func entryKey(g GroupID, i uint64) []byte {
	return binary.BigEndian.AppendUint64(groupKey(g, kindEntry), i)
}

func parseGroupKey(k []byte) (g GroupID, kind byte, index uint64, ok bool) {
	if len(k) < 6 || k[0] != prefixGroup {
		return 0, 0, 0, false
	}
	g, kind = GroupID(binary.BigEndian.Uint32(k[1:])), k[5]
	switch {
	case kind == kindEntry && len(k) == 14:
		return g, kind, binary.BigEndian.Uint64(k[6:]), true
	case (kind == kindHardState || kind == kindMark) && len(k) == 6:
		return g, kind, 0, true
	}
	return 0, 0, 0, false
}

func prefixBounds(p byte) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: []byte{p}, UpperBound: []byte{p + 1}}
}
