package replica

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func entriesAt(term, from uint64, n int) (out []*raftpb.Entry) {
	for i := range uint64(n) {
		out = append(out, &raftpb.Entry{
			Type: raftpb.EntryNormal.Enum(), Term: proto.Uint64(term), Index: proto.Uint64(from + i),
			Data: fmt.Appendf(nil, "t%d-%d", term, from+i),
		})
	}
	return out
}

// sameLog compares two stores group by group, entry by entry.
func sameLog(a, b LogStore) error {
	ga, err := a.Groups()
	if err != nil {
		return err
	}
	gb, err := b.Groups()
	if err != nil {
		return err
	}
	if fmt.Sprint(ga) != fmt.Sprint(gb) {
		return fmt.Errorf("groups %v and %v", ga, gb)
	}
	for _, g := range ga {
		if err := sameGroup(a, b, g); err != nil {
			return fmt.Errorf("group %d: %w", g, err)
		}
	}
	return nil
}

func sameGroup(a, b LogStore, g GroupID) error {
	sa, err := a.InitialState(g)
	if err != nil {
		return err
	}
	sb, err := b.InitialState(g)
	if err != nil {
		return err
	}
	if sa.Mark != sb.Mark || sa.LastIndex != sb.LastIndex || !proto.Equal(sa.HardState, sb.HardState) {
		return fmt.Errorf("%+v and %+v", sa, sb)
	}
	for _, i := range []uint64{sa.Mark.Index, sa.LastIndex} {
		ta, erra := a.Term(g, i)
		tb, errb := b.Term(g, i)
		if ta != tb || erra != nil || errb != nil {
			return fmt.Errorf("entry %d: terms %d %v, %d %v", i, ta, erra, tb, errb)
		}
	}
	if sa.LastIndex == sa.Mark.Index {
		return nil
	}
	ea, erra := a.Entries(g, sa.Mark.Index+1, sa.LastIndex+1, 1<<30)
	eb, errb := b.Entries(g, sa.Mark.Index+1, sa.LastIndex+1, 1<<30)
	if erra != nil || errb != nil || len(ea) != len(eb) {
		return fmt.Errorf("%d entries %v, %d entries %v", len(ea), erra, len(eb), errb)
	}
	for i := range ea {
		if !proto.Equal(ea[i], eb[i]) {
			return fmt.Errorf("%v and %v", ea[i], eb[i])
		}
	}
	return nil
}

// reopener is a store under test and how its process comes back after a power cut.
type reopener interface {
	LogStore
	reopen(t testing.TB) reopener
}

type reopenMem struct{ *memLog }

func (l reopenMem) reopen(testing.TB) reopener { l.crash(false); return l }

type reopenPebble struct {
	*PebbleLog
	fs *vfs.MemFS
}

func newReopenPebble(t testing.TB, fs *vfs.MemFS) reopener {
	l := reopenPebble{openPebbleMem(t, fs), fs}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l reopenPebble) reopen(t testing.TB) reopener {
	return newReopenPebble(t, l.fs.CrashClone(vfs.CrashCloneCfg{}))
}

// openPebbleMem opens a store whose write-ahead logs are small enough to be flushed.
func openPebbleMem(t testing.TB, fs vfs.FS) *PebbleLog {
	t.Helper()
	l, err := OpenPebbleLog(PebbleConfig{Dir: "raft", fs: fs, memTable: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func save(t testing.TB, l LogStore, us ...Update) {
	t.Helper()
	if err := l.Save(us, true); err != nil {
		t.Fatal(err)
	}
}

// TestLogStores is what every LogStore must do.
func TestLogStores(t *testing.T) {
	stores := map[string]func(testing.TB) reopener{
		"memory": func(testing.TB) reopener { return reopenMem{newMemLog()} },
		"pebble": func(t testing.TB) reopener { return newReopenPebble(t, vfs.NewCrashableMem()) },
	}
	cases := map[string]func(*testing.T, reopener){
		"owner": suiteOwner, "commit": suiteCommit, "reads": suiteReads, "conflict": suiteConflict,
		"compaction": suiteCompaction, "reset": suiteReset, "groups": suiteGroups, "large": suiteLarge,
	}
	for store, open := range stores {
		for name, run := range cases {
			t.Run(store+"/"+name, func(t *testing.T) { run(t, open(t)) })
		}
	}
}

func suiteOwner(t *testing.T, l reopener) {
	if err := errors.Join(l.Claim(4), l.Claim(4)); err != nil {
		t.Fatal(err)
	}
	l = l.reopen(t)
	if err := l.Claim(5); err == nil {
		t.Fatal("another replica took the log over")
	}
	if err := l.Claim(4); err != nil {
		t.Fatal(err)
	}
}

// A hard state that was not synced may be lost; the next synced save takes it along.
func suiteCommit(t *testing.T, l reopener) {
	save(t, l, Update{Group: 1, HardState: hardState(1, 2, 1), Entries: entriesAt(1, 1, 3)})
	for _, commit := range []uint64{2, 3} {
		if err := l.Save([]Update{{Group: 1, HardState: hardState(1, 2, commit)}}, false); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := l.InitialState(1); err != nil || st.HardState.GetCommit() != 3 {
		t.Fatal(st, err)
	}
	save(t, l, Update{Group: 2, Entries: entriesAt(1, 1, 1)})
	st, err := l.reopen(t).InitialState(1)
	if err != nil || !proto.Equal(st.HardState, hardState(1, 2, 3)) || st.LastIndex != 3 {
		t.Fatal(st, err)
	}
}

func suiteReads(t *testing.T, l reopener) {
	if _, err := l.InitialState(1); !errors.Is(err, ErrNoGroup) {
		t.Fatal(err)
	}
	save(t, l, Update{Group: 1, Entries: entriesAt(3, 1, 10)}, Update{Group: 2, Entries: entriesAt(4, 1, 10)})
	for _, c := range []struct {
		lo, hi, max uint64
		n           int
		err         error
	}{
		{1, 11, 1 << 20, 10, nil}, {4, 7, 1 << 20, 3, nil}, {4, 7, 0, 1, nil}, {10, 11, 1, 1, nil},
		{0, 3, 1, 0, raft.ErrCompacted}, {5, 12, 1, 0, raft.ErrUnavailable},
	} {
		got, err := l.Entries(1, c.lo, c.hi, c.max)
		if len(got) != c.n || !errors.Is(err, c.err) {
			t.Errorf("[%d, %d) %d bytes: %d entries, %v", c.lo, c.hi, c.max, len(got), err)
		}
		for i, e := range got {
			if !proto.Equal(e, entriesAt(3, c.lo+uint64(i), 1)[0]) {
				t.Errorf("[%d, %d): %v", c.lo, c.hi, e)
			}
		}
	}
	if term, err := l.Term(2, 10); term != 4 || err != nil {
		t.Error(term, err)
	}
	if term, err := l.Term(2, 0); term != 0 || err != nil {
		t.Error(term, err)
	}
	if _, err := l.Term(2, 11); !errors.Is(err, raft.ErrUnavailable) {
		t.Error(err)
	}
	first, err1 := l.FirstIndex(1)
	last, err2 := l.LastIndex(1)
	if first != 1 || last != 10 || err1 != nil || err2 != nil {
		t.Error(first, last, err1, err2)
	}
}

// A conflicting suffix replaces what was there, to its end.
func suiteConflict(t *testing.T, l reopener) {
	save(t, l, Update{Group: 1, Entries: entriesAt(1, 1, 100)})
	save(t, l, Update{Group: 1, HardState: hardState(2, 0, 0), Entries: entriesAt(2, 40, 5)})
	for range 2 {
		st, err := l.InitialState(1)
		if err != nil || st.LastIndex != 44 {
			t.Fatal(st, err)
		}
		for i, term := range map[uint64]uint64{39: 1, 40: 2, 44: 2} {
			if got, err := l.Term(1, i); got != term || err != nil {
				t.Fatal(i, got, err)
			}
		}
		l = l.reopen(t)
	}
	save(t, l, Update{Group: 1, Entries: entriesAt(3, 1, 1)})
	if ents, err := l.reopen(t).Entries(1, 1, 2, 0); err != nil || !proto.Equal(ents[0], entriesAt(3, 1, 1)[0]) {
		t.Fatal(ents, err)
	}
	if err := l.Save([]Update{{Group: 1, Entries: entriesAt(3, 3, 1)}}, true); err == nil {
		t.Fatal("took entries behind a gap")
	}
}

func suiteCompaction(t *testing.T, l reopener) {
	save(t, l, Update{Group: 1, Entries: entriesAt(5, 1, 3000)}, Update{Group: 2, Entries: entriesAt(5, 1, 10)})
	for _, upTo := range []uint64{1, 2500, 70, 2999} {
		if err := l.Compact(1, upTo); err != nil && !errors.Is(err, raft.ErrCompacted) {
			t.Fatal(err)
		}
	}
	if err := l.Compact(1, 3001); !errors.Is(err, raft.ErrUnavailable) {
		t.Fatal(err)
	}
	save(t, l, Update{Group: 2, HardState: hardState(5, 0, 9)})
	for range 2 {
		st, err := l.InitialState(1)
		if err != nil || st.Mark != (Mark{Index: 2999, Term: 5}) || st.LastIndex != 3000 {
			t.Fatal(st, err)
		}
		if _, err := l.Entries(1, 2999, 3001, 1); !errors.Is(err, raft.ErrCompacted) {
			t.Fatal(err)
		}
		l = l.reopen(t)
	}
	if err := l.Compact(1, 3000); err != nil { // all of it
		t.Fatal(err)
	}
	save(t, l, Update{Group: 1, Entries: entriesAt(6, 3001, 1)})
	if st, err := l.reopen(t).InitialState(1); err != nil || st.Mark.Index != 3000 || st.LastIndex != 3001 {
		t.Fatal(st, err)
	}
}

func suiteReset(t *testing.T, l reopener) {
	save(t, l, Update{Group: 1, Entries: entriesAt(1, 1, 20)})
	// Forwards past the log, then backwards into what it once held.
	for _, at := range []uint64{500, 10} {
		m := Mark{Index: at, Term: 7, Epoch: 2}
		save(t, l, Update{Group: 1, HardState: hardState(7, 0, at), Reset: &m, Entries: entriesAt(7, at+1, 2)})
		l = l.reopen(t)
		if st, err := l.InitialState(1); err != nil || st.Mark != m || st.LastIndex != at+2 {
			t.Fatal(st, err)
		}
		if ents, err := l.Entries(1, at+1, at+3, 1<<20); err != nil || len(ents) != 2 || ents[1].GetTerm() != 7 {
			t.Fatal(ents, err)
		}
	}
}

// Many groups are one save.
func suiteGroups(t *testing.T, l reopener) {
	const groups = 300
	for round := range uint64(3) {
		var us []Update
		for g := range GroupID(groups) {
			us = append(us, Update{Group: g, HardState: hardState(round+1, uint64(g), round), Entries: entriesAt(round+1, round+1, 1)})
		}
		save(t, l, us...)
	}
	l = l.reopen(t)
	ids, err := l.Groups()
	if err != nil || len(ids) != groups {
		t.Fatal(len(ids), err)
	}
	for _, g := range ids {
		if st, err := l.InitialState(g); err != nil || st.LastIndex != 3 || st.HardState.GetVote() != uint64(g) {
			t.Fatal(g, st, err)
		}
	}
}

// A save larger than any buffer below is still one.
func suiteLarge(t *testing.T, l reopener) {
	ents := entriesAt(1, 1, 40)
	for _, e := range ents {
		e.Data = make([]byte, 100<<10)
	}
	save(t, l, Update{Group: 1, Entries: ents}, Update{Group: 2, Entries: entriesAt(1, 1, 1)})
	save(t, l, Update{Group: 1, Entries: entriesAt(1, 41, 1)})
	l = l.reopen(t)
	got, err := l.Entries(1, 1, 42, 1<<30)
	if err != nil || len(got) != 41 || len(got[39].GetData()) != 100<<10 {
		t.Fatal(len(got), err)
	}
}

// Any sequence of saves, compactions and reopenings leaves the store and the
// plain model with the same log.
func TestPebbleLogAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewCrashableMem()
		store, model := openPebbleMem(t, fs), newMemLog()
		defer func() { _ = store.Close() }()
		terms := map[GroupID]uint64{}
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			var us []Update
			for _, g := range []GroupID{0, 7} {
				us = append(us, drawUpdate(rt, g, terms, store, model)...)
			}
			if err := errors.Join(store.Save(us, true), model.Save(us, true)); err != nil {
				rt.Fatal(err)
			}
			switch rapid.IntRange(0, 5).Draw(rt, "reopen") {
			case 0:
				if err := store.Close(); err != nil {
					rt.Fatal(err)
				}
				store = openPebbleMem(t, fs)
			case 1:
				fs = fs.CrashClone(vfs.CrashCloneCfg{})
				if err := store.Close(); err != nil {
					rt.Fatal(err)
				}
				store = openPebbleMem(t, fs)
			}
			if err := sameLog(store, model); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func drawUpdate(rt *rapid.T, g GroupID, terms map[GroupID]uint64, stores ...LogStore) []Update {
	st, err := stores[0].InitialState(g)
	exists := err == nil
	switch rapid.IntRange(0, 6).Draw(rt, "op") {
	case 0:
		if exists && st.LastIndex > st.Mark.Index {
			upTo := rapid.Uint64Range(st.Mark.Index+1, st.LastIndex).Draw(rt, "upTo")
			for _, s := range stores {
				if err := s.Compact(g, upTo); err != nil {
					rt.Fatal(err)
				}
			}
		}
		return nil
	case 1:
		at := st.LastIndex + rapid.Uint64Range(1, 50).Draw(rt, "jump")
		terms[g]++
		return []Update{{Group: g, HardState: hardState(terms[g], 1, at), Reset: &Mark{Index: at, Term: terms[g], Epoch: 3}}}
	case 2:
		return nil
	}
	from := rapid.Uint64Range(st.Mark.Index+1, st.LastIndex+1).Draw(rt, "from")
	terms[g]++
	return []Update{{Group: g, HardState: hardState(terms[g], 2, 0),
		Entries: entriesAt(terms[g], from, rapid.IntRange(1, 1000).Draw(rt, "n"))}}
}
