package replica

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"
)

// injector is called before every operation on a file system.
type injector func(errorfs.Op) error

func (f injector) MaybeError(op errorfs.Op) error { return f(op) }
func (f injector) String() string                 { return "test" }

// script is a run of saves of all kinds with the model's state after each.
type script struct {
	saves  [][]Update
	before []func(LogStore) error // a compaction, or nil
	states []*memLog              // states[i]: after i saves
}

// newScript makes saves of about bytes each, from a seed.
func newScript(t testing.TB, seed uint64, saves, bytes int) *script {
	rnd := rand.New(rand.NewPCG(seed, 1))
	model := newMemLog()
	s := &script{states: []*memLog{snapshotOf(model)}}
	for term := uint64(1); len(s.saves) < saves; term++ {
		var compact func(LogStore) error
		var us []Update
		for g := range GroupID(3) {
			st, err := model.InitialState(g)
			switch n := rnd.IntN(20); {
			case err == nil && n == 0: // conflict
				from := st.Mark.Index + 1 + rnd.Uint64N(st.LastIndex-st.Mark.Index+1)
				us = append(us, Update{Group: g, HardState: hardState(term, 1, 0), Entries: entriesAt(term, from, 2)})
			case err == nil && n == 1:
				us = append(us, Update{Group: g, Reset: &Mark{Index: st.LastIndex + 5, Term: term}})
			case err == nil && n == 2 && st.LastIndex > st.Mark.Index:
				compact = func(l LogStore) error { return l.Compact(g, st.LastIndex) }
			case err == nil && n == 3:
				us = append(us, Update{Group: g, HardState: hardState(term, uint64(n), st.LastIndex)})
			default:
				ents := entriesAt(term, st.LastIndex+1, 1)
				ents[0].Data = make([]byte, bytes/3)
				us = append(us, Update{Group: g, HardState: hardState(term, 2, st.LastIndex), Entries: ents})
			}
		}
		if compact != nil {
			// A compaction rides on the save behind it.
			if err := compact(model); err != nil {
				t.Fatal(err)
			}
			us = us[:0]
		}
		save(t, model, us...)
		s.saves, s.before = append(s.saves, us), append(s.before, compact)
		s.states = append(s.states, snapshotOf(model))
	}
	return s
}

func snapshotOf(l *memLog) *memLog { return &memLog{now: maps.Clone(l.now)} }

// run gives a store the saves; saved counts them.
func (s *script) run(l LogStore, started, saved *atomic.Int64) error {
	for i, us := range s.saves {
		started.Add(1)
		if f := s.before[i]; f != nil {
			if err := f(l); err != nil {
				return err
			}
		}
		if err := l.Save(us, true); err != nil {
			return err
		}
		saved.Add(1)
	}
	return nil
}

// After a power cut before any operation of the file system the store holds all
// that was acknowledged, and of the save in progress all or nothing.
func TestPebbleLogCrashEverywhere(t *testing.T) {
	type cut struct {
		fs   *vfs.MemFS
		save [2]int64 // acknowledged before, started after
	}
	for seed := range uint64(3) {
		mem := vfs.NewCrashableMem()
		s := newScript(t, seed, 120, 3000)
		var mu sync.Mutex
		var cuts []cut
		var started, saved atomic.Int64
		rnd := rand.New(rand.NewPCG(seed, 2))
		fs := errorfs.Wrap(mem, injector(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || testing.Short() && rnd.IntN(8) > 0 {
				return nil
			}
			c := cut{save: [2]int64{saved.Load(), 0}}
			part := 0
			if started.Load() > 0 {
				// Not while the store is made: new names would survive in any order,
				// which no journaling file system does (FORMAT.md).
				part = len(cuts) % 3 * 40
			}
			c.fs = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: part, RNG: rnd})
			c.save[1] = started.Load()
			cuts = append(cuts, c)
			return nil
		}))
		l := openPebbleMem(t, fs)
		if err := errors.Join(s.run(l, &started, &saved), l.Close()); err != nil {
			t.Fatal(err)
		}
		t.Logf("seed %d: %d power cuts, %d flushes", seed, len(cuts), l.db.Metrics().Flush.Count)
		for i, c := range cuts {
			if err := s.check(c.fs, c.save[0], c.save[1]); err != nil {
				t.Fatalf("seed %d cut %d: %v", seed, i, err)
			}
		}
	}
}

// check opens what a crash left, and once more after a save and another crash.
func (s *script) check(fs *vfs.MemFS, from, to int64) error {
	l, err := OpenPebbleLog(PebbleConfig{Dir: "raft", fs: fs, memTable: 64 << 10})
	if err != nil {
		return err
	}
	defer l.Close()
	at := from
	for ; ; at++ {
		if err = sameLog(l, s.states[at]); err == nil {
			break
		} else if at == to {
			return fmt.Errorf("neither of the states %d to %d: %w", from, to, err)
		}
	}
	more := Update{Group: 9, Entries: entriesAt(1, 1, 1)}
	want := snapshotOf(s.states[at])
	if err := errors.Join(l.Save([]Update{more}, true), want.Save([]Update{more}, true)); err != nil {
		return err
	}
	again, err := OpenPebbleLog(PebbleConfig{Dir: "raft", fs: fs.CrashClone(vfs.CrashCloneCfg{})})
	if err != nil {
		return err
	}
	return errors.Join(sameLog(again, want), again.Close())
}

// Any error of the disk ends the store, whether a Save meets it or a flush behind
// its back, and what was acknowledged is there afterwards.
func TestPebbleLogDiskErrors(t *testing.T) {
	eio := errors.New("EIO")
	for _, c := range []struct {
		ext  string
		kind errorfs.OpKind
	}{
		{".log", errorfs.OpFileSyncData}, {".log", errorfs.OpFileWrite},
		{".sst", errorfs.OpCreate}, {".sst", errorfs.OpFileWrite}, {".sst", errorfs.OpFileSyncData},
	} {
		var armed atomic.Bool
		mem := vfs.NewCrashableMem()
		fs := errorfs.Wrap(mem, injector(func(op errorfs.Op) error {
			if armed.Load() && op.Kind == c.kind && filepath.Ext(op.Path) == c.ext {
				return eio
			}
			return nil
		}))
		l := openPebbleMem(t, fs)
		s := newScript(t, 1, 300, 3000)
		var started, saved atomic.Int64
		save(t, l, s.saves[0]...)
		armed.Store(true)
		rest := &script{saves: s.saves[1:], before: s.before[1:]}
		err := rest.run(l, &started, &saved)
		for err == nil { // the flush goes on behind it
			err = l.Save(nil, true)
		}
		if !strings.Contains(err.Error(), "EIO") {
			t.Fatalf("%v: %v", c, err)
		}
		for _, sync := range []bool{true, false} {
			if err := l.Save(nil, sync); err == nil {
				t.Fatalf("%v: went on after a failure", c)
			}
		}
		armed.Store(false)
		left := mem.CrashClone(vfs.CrashCloneCfg{})
		_ = l.Close() // says again what failed
		if err := s.check(left, saved.Load()+1, min(started.Load()+1, int64(len(s.saves)))); err != nil {
			t.Fatalf("%v: %v", c, err)
		}
	}
}

// An open store that does nothing leaves nothing behind when it is closed, and a
// second Close is harmless.
func TestPebbleLogClose(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // Pebble leaks a writer when a table fails
	dir := filepath.Join(t.TempDir(), "raft")
	for range 2 {
		l, err := OpenPebbleLog(PebbleConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if other, err := OpenPebbleLog(PebbleConfig{Dir: dir}); err == nil {
			t.Error("opened twice", other.Close())
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
