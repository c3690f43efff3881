package replica

import (
	"errors"
	"fmt"
	"io"
	"path"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashed is a store of many saves after a power cut. The last saves are small, so
// that several of them share the last block of the write-ahead log.
func crashed(t *testing.T) (*vfs.MemFS, *script) {
	fs := vfs.NewCrashableMem()
	l := openPebbleMem(t, fs)
	s := newScript(t, 3, 150, 3000)
	small := newMemLog()
	small.now = s.states[len(s.states)-1].now
	for i := range uint64(40) {
		us := []Update{{Group: 8, HardState: hardState(1, 1, i), Entries: entriesAt(1, i+1, 1)}}
		save(t, small, us...)
		s.saves, s.before = append(s.saves, us), append(s.before, nil)
		s.states = append(s.states, snapshotOf(small))
	}
	var n atomic.Int64
	if err := s.run(l, &n, &n); err != nil {
		t.Fatal(err)
	}
	left := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return left, s
}

func readMem(t testing.TB, fs *vfs.MemFS, name string) []byte {
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func writeMem(t testing.TB, fs *vfs.MemFS, name string, b []byte) {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// openDamaged opens a store that may be damaged. Pebble panics at some damage; that
// it does so is a report too.
func openDamaged(fs *vfs.MemFS) (l *PebbleLog, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return OpenPebbleLog(PebbleConfig{Dir: "raft", fs: fs, memTable: 64 << 10})
}

// A flipped bit anywhere in any file is reported, or nothing is missing. The one
// exception is the very last save: a damaged one is like a torn one.
func TestPebbleLogSeesDamage(t *testing.T) {
	left, s := crashed(t)
	names, err := left.List("raft")
	if err != nil {
		t.Fatal(err)
	}
	full, short := s.states[len(s.states)-1], s.states[len(s.states)-2]
	for _, name := range names {
		name = "raft/" + name
		data := readMem(t, left, name)
		step := max(1, len(data)/100)
		if testing.Short() {
			step *= 8
		}
		found := map[string]int{}
		for at := len(data) - 1; at >= 0; at -= step {
			fs := left.CrashClone(vfs.CrashCloneCfg{})
			bad := append([]byte(nil), data...)
			bad[at] ^= 1 << (at % 8)
			writeMem(t, fs, name, bad)
			l, err := openDamaged(fs)
			if err != nil {
				found["reported"]++
				continue
			}
			switch {
			case sameLog(l, full) == nil:
				found["harmless"]++
			case path.Ext(name) == ".log" && sameLog(l, short) == nil:
				found["last save"]++
			default:
				t.Errorf("%s byte %d: %v", name, at, sameLog(l, full))
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		t.Log(name, len(data), found)
	}
}

// Every byte of every record is covered by its own sum, and a hole is seen.
func TestPebbleLogSeesBadRecords(t *testing.T) {
	change := func(key []byte, f func(b *pebble.Batch, v []byte) error) error {
		fs := vfs.NewCrashableMem()
		l := openPebbleMem(t, fs)
		save(t, l, Update{Group: 9, HardState: hardState(1, 0, 1), Entries: entriesAt(1, 1, 5)})
		v, err := l.get(key)
		if err != nil {
			t.Fatal(err)
		}
		b := l.db.NewBatch()
		if err := errors.Join(f(b, v), b.Commit(pebble.Sync), l.Close()); err != nil {
			t.Fatal(err)
		}
		l, err = openDamaged(fs)
		if err == nil {
			_ = l.Close()
		}
		return err
	}
	keys := [][]byte{groupKey(9, kindHardState), groupKey(9, kindMark), entryKey(9, 2), keyStore}
	for _, key := range keys {
		size := 1
		for at := 0; at < size; at++ {
			err := change(key, func(b *pebble.Batch, v []byte) error {
				size = len(v)
				v[at] ^= 0x10
				return b.Set(key, v, nil)
			})
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("key %q byte %d: %v", key, at, err)
			}
		}
	}
	for _, key := range [][]byte{groupKey(9, kindHardState), groupKey(9, kindMark), entryKey(9, 3), saveKey(1)} {
		err := change(key, func(b *pebble.Batch, _ []byte) error { return b.Delete(key, nil) })
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("without key %q: %v", key, err)
		}
	}
}

// The keys of old saves go, and their absence is not a gap.
func TestPebbleLogForgetsOldSaves(t *testing.T) {
	c := PebbleConfig{Dir: "raft", fs: vfs.NewCrashableMem(), savesKept: 100}
	var last uint64
	for range 3 {
		l, err := OpenPebbleLog(c)
		if err != nil {
			t.Fatal(err)
		}
		if l.saves != last+1 || l.saves-l.oldest > 200 {
			t.Fatal(l.saves, last, l.oldest)
		}
		for i := range uint64(250) {
			save(t, l, Update{Group: 1, HardState: hardState(1, 1, i)})
		}
		last = l.saves
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
