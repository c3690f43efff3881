package replica

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"bivalve/metadata/boltfile"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"
)

// Save implements LogStore: one bbolt transaction, which syncs at its commit.
func (l *BoltLog) Save(updates []Update, sync bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	if !sync {
		return l.keep(updates)
	}
	for _, u := range updates {
		if g := l.groups[u.Group]; g != nil && g.bad != nil {
			return fmt.Errorf("raft log: save: %w", g.bad) // and nothing was written
		}
	}
	next, err := l.tryCommit(updates)
	if boltfile.NoRoom(err) {
		return fmt.Errorf("raft log: save: %w: %w", ErrNoSpace, err)
	}
	if err != nil {
		// What the file holds now is not known; nothing may be built on it.
		l.broken = fmt.Errorf("raft log: save: %w", err)
		return l.broken
	}
	l.groups = next
	return nil
}

// keep takes updates that may be lost.
func (l *BoltLog) keep(updates []Update) error {
	for _, u := range updates {
		g := l.groups[u.Group]
		if g == nil || u.Reset != nil || len(u.Entries) > 0 {
			return fmt.Errorf("raft log: group %d: entries must be synced", u.Group)
		}
		if u.HardState != nil {
			g.hs, g.hsWaiting = u.HardState, true
		}
	}
	return nil
}

// tryCommit survives what bbolt does not. It may then hold locks for good.
func (l *BoltLog) tryCommit(updates []Update) (next map[GroupID]*boltGroup, err error) {
	defer func() { l.stuck = errors.Is(err, ErrCorrupt) }()
	defer guardLog(&err)()
	return l.commit(updates)
}

func (l *BoltLog) commit(updates []Update) (map[GroupID]*boltGroup, error) {
	next := make(map[GroupID]*boltGroup, len(l.groups))
	for id, g := range l.groups {
		c := *g
		next[id] = &c
	}
	for _, u := range updates {
		g := next[u.Group]
		if g == nil {
			g = &boltGroup{oldest: 1, hs: hardState(0, 0, 0), hsWaiting: true, markWaiting: true}
			next[u.Group] = g
		}
		if u.HardState != nil {
			g.hs, g.hsWaiting = u.HardState, true
		}
	}
	ids := sortedKeys(next)
	return next, l.update(func(tx *bolt.Tx) error {
		for _, u := range updates {
			if err := writeLog(tx, u, next[u.Group]); err != nil {
				return fmt.Errorf("group %d: %w", u.Group, err)
			}
		}
		for _, id := range ids {
			if err := writeState(tx, id, next[id]); err != nil {
				return fmt.Errorf("group %d: %w", id, err)
			}
		}
		return nil
	})
}

// update is bbolt's Update, but for what follows an error or a panic of f: there
// bbolt scans the whole file again, on a goroutine where a damaged page would end
// the process. A Rollback that is asked for does not.
func (l *BoltLog) update(f func(tx *bolt.Tx) error) error {
	tx, err := l.db.Begin(true)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			_ = tx.Rollback() // what went wrong says more
		}
	}()
	if err := f(tx); err != nil {
		return err
	}
	done = true
	return tx.Commit()
}

// writeLog resets and appends. Entries replace whatever the log has from their
// first index on, in the same transaction.
func writeLog(tx *bolt.Tx, u Update, g *boltGroup) error {
	b, err := tx.CreateBucketIfNotExists(bucketName(u.Group))
	if err != nil {
		return err
	}
	if u.Reset != nil {
		if err := deleteRange(b, g.oldest, g.last); err != nil {
			return err
		}
		g.mark, g.markWaiting = *u.Reset, true
		g.oldest, g.last = g.mark.Index+1, g.mark.Index
	}
	if len(u.Entries) == 0 {
		return nil
	}
	first := u.Entries[0].GetIndex()
	if first > g.last+1 || first <= g.mark.Index {
		return fmt.Errorf("entries from %d do not fit a log of (%d, %d]", first, g.mark.Index, g.last)
	}
	b.FillPercent = 0.95 // keys only grow
	last := g.last
	for i, e := range u.Entries {
		if e.GetIndex() != first+uint64(i) {
			return fmt.Errorf("entry %d follows %d", e.GetIndex(), first+uint64(i)-1)
		}
		if err := b.Put(entryKey(e.GetIndex()), encodeLogEntry(u.Group, e)); err != nil {
			return err
		}
		g.last = e.GetIndex()
	}
	return deleteRange(b, g.last+1, last)
}

// writeState writes what waits of a group, and clears away some dead entries.
func writeState(tx *bolt.Tx, id GroupID, g *boltGroup) error {
	if g.bad != nil || !g.hsWaiting && !g.markWaiting && g.oldest > g.mark.Index {
		return nil
	}
	b := tx.Bucket(bucketName(id))
	if g.hsWaiting {
		if err := b.Put(keyHardState, encodeHardState(id, g.hs)); err != nil {
			return err
		}
		g.hsWaiting = false
	}
	if g.markWaiting {
		if err := b.Put(keyMark, encodeMark(id, g.mark)); err != nil {
			return err
		}
		g.markWaiting = false
	}
	if upTo := min(g.mark.Index, g.oldest+compactPerSave-1); upTo >= g.oldest {
		if err := deleteRange(b, g.oldest, upTo); err != nil {
			return err
		}
		g.oldest = upTo + 1
	}
	return nil
}

func deleteRange(b *bolt.Bucket, from, to uint64) error {
	for i := from; i <= to; i++ {
		if err := b.Delete(entryKey(i)); err != nil {
			return err
		}
	}
	return nil
}

// Compact implements LogStore: readers lose the entries now, the file in steps
// with later Saves.
func (l *BoltLog) Compact(id GroupID, upTo uint64) error {
	term, err := l.Term(id, upTo)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[id]
	if upTo <= g.mark.Index {
		return nil
	}
	g.mark.Index, g.mark.Term, g.markWaiting = upTo, term, true
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// entryBytes is about what an entry costs in memory or on the wire.
func entryBytes(e *raftpb.Entry) int { return len(e.GetData()) + 32 }
