package replica

import (
	"fmt"
	"sort"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// storage is what raft sees of one group's log: the log store behind a memory
// of the terms (a few runs, since they only grow) and of the recent entries, so
// that the loop feeds followers that keep up without reading the file.
// Only the loop uses it.
type storage struct {
	log   LogStore
	group GroupID
	limit int // bytes of entries kept in memory

	hs    *raftpb.HardState
	conf  *raftpb.ConfState // at boot
	mark  Mark
	last  uint64
	terms []termRun

	recent      []*raftpb.Entry // contiguous, ends at last
	recentBytes int
	bytes       uint64 // estimate of the whole log

	snapshot func() *raftpb.Snapshot // position of the state machine; nil if it has none
	diskRead func()                  // counts reads that memory could not serve
	err      error                   // the first error that raft may have misread
}

// termRun: entries from first on have this term, up to the next run.
type termRun struct{ first, term uint64 }

// openStorage reads the terms by bisection: they never fall.
func openStorage(log LogStore, g GroupID, limit int) (*storage, error) {
	ls, err := log.InitialState(g)
	if err != nil {
		return nil, err
	}
	s := &storage{log: log, group: g, limit: limit, hs: ls.HardState, mark: ls.Mark, last: ls.LastIndex}
	s.terms = []termRun{{s.mark.Index, s.mark.Term}}
	for at := s.mark.Index; at < s.last; {
		term := s.terms[len(s.terms)-1].term
		var failed error
		n := sort.Search(int(s.last-at), func(i int) bool {
			t, err := log.Term(g, at+1+uint64(i))
			if err != nil {
				failed = err
			}
			return t > term
		})
		if failed != nil {
			return nil, failed
		}
		at += uint64(n) + 1
		if at > s.last {
			break
		}
		t, err := log.Term(g, at)
		if err != nil {
			return nil, err
		}
		s.terms = append(s.terms, termRun{at, t})
	}
	return s, nil
}

func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.hs, s.conf, nil
}
func (s *storage) FirstIndex() (uint64, error) { return s.mark.Index + 1, nil }
func (s *storage) LastIndex() (uint64, error)  { return s.last, nil }

func (s *storage) Term(i uint64) (uint64, error) {
	if i < s.mark.Index {
		return 0, raft.ErrCompacted
	}
	if i > s.last {
		return 0, raft.ErrUnavailable
	}
	n := sort.Search(len(s.terms), func(n int) bool { return s.terms[n].first > i })
	return s.terms[n-1].term, nil
}

func (s *storage) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if lo <= s.mark.Index {
		return nil, raft.ErrCompacted
	}
	if hi > s.last+1 {
		return nil, raft.ErrUnavailable
	}
	if from := s.recentFrom(); lo >= from {
		return cut(s.recent[lo-from:hi-from], maxBytes), nil
	} else if hi > from && len(s.recent) > 0 {
		// What is in memory is asked for again; raft takes a shorter answer.
		hi = from
	}
	if s.diskRead != nil {
		s.diskRead()
	}
	ents, err := s.log.Entries(s.group, lo, hi, maxBytes)
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("group %d: read log: %w", s.group, err)
	}
	return ents, err
}

// cut leaves the caller a slice that it may append to without writing into ours.
func cut(ents []*raftpb.Entry, maxBytes uint64) []*raftpb.Entry {
	var size uint64
	for i, e := range ents {
		if size += uint64(entryBytes(e)); size > maxBytes && i > 0 {
			return ents[:i:i]
		}
	}
	return ents[:len(ents):len(ents)]
}

func (s *storage) recentFrom() uint64 { return s.last + 1 - uint64(len(s.recent)) }

func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	snap := s.snapshot()
	if snap == nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return snap, nil
}

// saved follows an update that the log store has accepted.
func (s *storage) saved(u Update) {
	if u.HardState != nil {
		s.hs = u.HardState
	}
	if u.Reset != nil {
		s.mark, s.last = *u.Reset, u.Reset.Index
		s.terms = []termRun{{s.mark.Index, s.mark.Term}}
		s.recent, s.recentBytes, s.bytes = nil, 0, 0
	}
	if len(u.Entries) == 0 {
		return
	}
	s.truncate(u.Entries[0].GetIndex())
	for _, e := range u.Entries {
		if t := e.GetTerm(); t != s.terms[len(s.terms)-1].term {
			s.terms = append(s.terms, termRun{e.GetIndex(), t})
		}
		s.recentBytes += entryBytes(e)
		s.bytes += uint64(entryBytes(e))
	}
	s.recent = append(s.recent, u.Entries...)
	s.last = u.Entries[len(u.Entries)-1].GetIndex()
	s.trim()
}

// truncate drops everything from index on. raft may still hold slices of ours,
// so the kept part is capped and the next append moves it.
func (s *storage) truncate(index uint64) {
	if index > s.last {
		return
	}
	from := s.recentFrom()
	keep := uint64(0)
	if index > from {
		keep = index - from
	}
	for _, e := range s.recent[keep:] {
		s.recentBytes -= entryBytes(e)
	}
	s.recent = s.recent[:keep:keep]
	s.last = index - 1
	for len(s.terms) > 1 && s.terms[len(s.terms)-1].first >= index {
		s.terms = s.terms[:len(s.terms)-1]
	}
}

// trim keeps memory under the limit. The old array is left alone for raft and
// freed once the kept part is copied.
func (s *storage) trim() {
	if s.recentBytes <= s.limit {
		return
	}
	n := 0
	for s.recentBytes > s.limit/2 && n < len(s.recent)-1 {
		s.recentBytes -= entryBytes(s.recent[n])
		n++
	}
	s.recent = append(make([]*raftpb.Entry, 0, len(s.recent)-n+256), s.recent[n:]...)
}

// compacted follows LogStore.Compact.
func (s *storage) compacted(upTo uint64) error {
	term, err := s.Term(upTo)
	if err != nil {
		return err
	}
	total := s.last - s.mark.Index
	s.bytes -= s.bytes / max(1, total) * (upTo - s.mark.Index)
	s.mark.Index, s.mark.Term = upTo, term
	n := sort.Search(len(s.terms), func(n int) bool { return s.terms[n].first > upTo })
	s.terms = append([]termRun{{upTo, term}}, s.terms[n:]...)
	if from := s.recentFrom(); upTo >= from {
		drop := upTo + 1 - from
		for _, e := range s.recent[:drop] {
			s.recentBytes -= entryBytes(e)
		}
		s.recent = append([]*raftpb.Entry(nil), s.recent[drop:]...)
	}
	return nil
}

func marshalConf(cs *raftpb.ConfState) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(cs)
}

func unmarshalConf(b []byte) (*raftpb.ConfState, error) {
	cs := &raftpb.ConfState{}
	if err := proto.Unmarshal(b, cs); err != nil {
		return nil, fmt.Errorf("conf state: %w: %w", ErrFormat, err)
	}
	return cs, nil
}
