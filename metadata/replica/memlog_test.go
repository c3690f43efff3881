package replica

import (
	"errors"
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// memLog is a LogStore that forgets what was not synced when it crashes.
type memLog struct {
	owner        ReplicaID
	now, durable map[GroupID]memGroup
	syncs        int
}

type memGroup struct {
	hs   *raftpb.HardState
	mark Mark
	ents []*raftpb.Entry // from mark.Index+1 on; never changed in place
}

func newMemLog() *memLog {
	return &memLog{now: map[GroupID]memGroup{}, durable: map[GroupID]memGroup{}}
}

// crash leaves what a power cut leaves. A commit index that was not synced may or
// may not be there.
func (l *memLog) crash(keepUnsynced bool) {
	for id, d := range l.durable {
		n := l.now[id]
		if keepUnsynced && n.hs.GetTerm() == d.hs.GetTerm() && n.hs.GetCommit() <= d.last() {
			d.hs = n.hs
			l.durable[id] = d
		}
	}
	l.now = maps.Clone(l.durable)
}

func (g memGroup) last() uint64 { return g.mark.Index + uint64(len(g.ents)) }

func (l *memLog) Claim(id ReplicaID) error {
	if l.owner != 0 && l.owner != id {
		return errors.New("claimed by another")
	}
	l.owner = id
	return nil
}

func (l *memLog) Groups() ([]GroupID, error) { return sortedKeys(l.now), nil }

func (l *memLog) InitialState(id GroupID) (LogState, error) {
	g, ok := l.now[id]
	if !ok {
		return LogState{}, ErrNoGroup
	}
	return LogState{HardState: g.hs, Mark: g.mark, LastIndex: g.last()}, nil
}

func (l *memLog) Drop(id GroupID) error {
	delete(l.now, id)
	delete(l.durable, id)
	return nil
}

func (l *memLog) FirstIndex(id GroupID) (uint64, error) { return l.now[id].mark.Index + 1, nil }
func (l *memLog) LastIndex(id GroupID) (uint64, error)  { return l.now[id].last(), nil }

func (l *memLog) Term(id GroupID, i uint64) (uint64, error) {
	g := l.now[id]
	switch {
	case i == g.mark.Index:
		return g.mark.Term, nil
	case i < g.mark.Index:
		return 0, raft.ErrCompacted
	case i > g.last():
		return 0, raft.ErrUnavailable
	}
	return g.ents[i-g.mark.Index-1].GetTerm(), nil
}

func (l *memLog) Entries(id GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	g := l.now[id]
	if lo <= g.mark.Index {
		return nil, raft.ErrCompacted
	}
	if hi > g.last()+1 {
		return nil, raft.ErrUnavailable
	}
	return cut(g.ents[lo-g.mark.Index-1:hi-g.mark.Index-1], maxBytes), nil
}

func (l *memLog) Save(updates []Update, sync bool) error {
	for _, u := range updates {
		g, ok := l.now[u.Group]
		if !ok {
			g.hs = hardState(0, 0, 0)
		}
		if u.HardState != nil {
			g.hs = u.HardState
		}
		if u.Reset != nil {
			g.mark, g.ents = *u.Reset, nil
		}
		if len(u.Entries) > 0 {
			first := u.Entries[0].GetIndex()
			if first <= g.mark.Index || first > g.last()+1 {
				return errors.New("memlog: entries do not fit")
			}
			g.ents = append(slices.Clip(g.ents[:first-g.mark.Index-1]), u.Entries...)
		}
		l.now[u.Group] = g
	}
	if sync {
		l.syncs++
		l.durable = maps.Clone(l.now)
	}
	return nil
}

func (l *memLog) Compact(id GroupID, upTo uint64) error {
	g := l.now[id]
	term, err := l.Term(id, upTo)
	if err != nil || upTo <= g.mark.Index {
		return err
	}
	g.ents = g.ents[upTo-g.mark.Index:]
	g.mark.Index, g.mark.Term = upTo, term
	l.now[id] = g
	return nil
}

func (l *memLog) Close() error { return nil }
