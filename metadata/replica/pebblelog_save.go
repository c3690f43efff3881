package replica

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"
)

// Save implements LogStore: one Pebble batch, synced.
func (l *PebbleLog) Save(updates []Update, sync bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !sync {
		return l.keep(updates)
	}
	return l.save(updates)
}

// keep takes updates that may be lost.
func (l *PebbleLog) keep(updates []Update) error {
	if err := l.usable(); err != nil {
		return err
	}
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

// usable also reports what failed in the background since the last call.
func (l *PebbleLog) usable() error {
	if l.broken == nil {
		if err := l.failed.get(); err != nil {
			l.broken = fmt.Errorf("raft log: %w", err)
		}
	}
	return l.broken
}

func (l *PebbleLog) save(updates []Update) error {
	return l.write(func(b *pebble.Batch) error {
		for _, u := range updates {
			if err := l.writeLog(b, u); err != nil {
				return fmt.Errorf("group %d: %w", u.Group, err)
			}
		}
		for id, g := range l.groups {
			if err := writeState(b, id, g); err != nil {
				return fmt.Errorf("group %d: %w", id, err)
			}
		}
		return nil
	})
}

// write commits one batch. After any error, or a panic of Pebble's, what the store
// holds is not known and nothing may be built on it.
func (l *PebbleLog) write(fill func(*pebble.Batch) error) (err error) {
	if err := l.usable(); err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			_, commit := p.(fatalError)
			l.wedged = !commit
			err = fmt.Errorf("pebble: %v", p)
		}
		if err != nil {
			err = fmt.Errorf("raft log: save: %w", err)
			l.broken = err
		}
	}()
	b := l.db.NewBatch()
	if err := l.stamp(b, fill); err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	return b.Close()
}

// writeLog resets and appends. Entries replace whatever the log has from their
// first index on, in the same batch.
func (l *PebbleLog) writeLog(b *pebble.Batch, u Update) error {
	g := l.groups[u.Group]
	if g == nil {
		g = &pebbleGroup{first: 1, hs: hardState(0, 0, 0), hsWaiting: true, markWaiting: true}
		l.groups[u.Group] = g
	}
	if u.HardState != nil {
		g.hs, g.hsWaiting = u.HardState, true
	}
	if u.Reset != nil {
		if err := deleteEntries(b, u.Group, g.first, g.last); err != nil {
			return err
		}
		g.mark, g.markWaiting = *u.Reset, true
		g.first, g.last = g.mark.Index+1, g.mark.Index
	}
	if len(u.Entries) == 0 {
		return nil
	}
	first := u.Entries[0].GetIndex()
	if first > g.last+1 || first <= g.mark.Index {
		return fmt.Errorf("entries from %d do not fit a log of (%d, %d]", first, g.mark.Index, g.last)
	}
	if err := deleteEntries(b, u.Group, first, g.last); err != nil {
		return err
	}
	for i, e := range u.Entries {
		if e.GetIndex() != first+uint64(i) {
			return fmt.Errorf("entry %d follows %d", e.GetIndex(), first+uint64(i)-1)
		}
		if err := b.Set(entryKey(u.Group, e.GetIndex()), encodeLogEntry(u.Group, e), nil); err != nil {
			return err
		}
	}
	g.last = first + uint64(len(u.Entries)) - 1
	return nil
}

// writeState writes what waits of a group and removes what its mark has passed.
func writeState(b *pebble.Batch, id GroupID, g *pebbleGroup) error {
	if g.hsWaiting {
		if err := b.Set(groupKey(id, kindHardState), encodeHardState(id, g.hs), nil); err != nil {
			return err
		}
		g.hsWaiting = false
	}
	if !g.markWaiting {
		return nil
	}
	if err := b.Set(groupKey(id, kindMark), encodeMark(id, g.mark), nil); err != nil {
		return err
	}
	if err := deleteEntries(b, id, g.first, g.mark.Index); err != nil {
		return err
	}
	g.first, g.markWaiting = g.mark.Index+1, false
	return nil
}

// deleteEntries removes [from, to].
func deleteEntries(b *pebble.Batch, id GroupID, from, to uint64) error {
	if from > to {
		return nil
	}
	return b.DeleteRange(entryKey(id, from), entryKey(id, to+1), nil)
}

// Compact implements LogStore: readers lose the entries now, the store with the
// next Save.
func (l *PebbleLog) Compact(id GroupID, upTo uint64) error {
	term, err := l.Term(id, upTo)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.groups[id]; upTo > g.mark.Index {
		g.mark.Index, g.mark.Term, g.markWaiting = upTo, term, true
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// entryBytes is about what an entry costs in memory or on the wire.
func entryBytes(e *raftpb.Entry) int { return len(e.GetData()) + 32 }
