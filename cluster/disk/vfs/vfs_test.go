package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, f File, off int64, s string) {
	t.Helper()
	if n, err := f.WriteVec([][]byte{[]byte(s[:1]), nil, []byte(s[1:])}, off); err != nil || n != len(s) {
		t.Fatal(n, err)
	}
}

func get(t *testing.T, fsys FS, name string) string {
	t.Helper()
	f, err := fsys.OpenRead(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	must(t, err)
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	if _, err := f.ReadVec([][]byte{b}, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	must(t, f.Close())
	return string(b)
}

// Both file systems do the same, as far as one can see without a crash.
func TestBoth(t *testing.T) {
	for name, fsys := range map[string]FS{"real": Real{}, "memory": NewMemFS(1<<20, true)} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "x")
			must(t, fsys.MkdirAll(dir))
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			f, err := fsys.Create(a)
			must(t, err)
			if _, err := fsys.Create(a); !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			put(t, f, 0, "hello world")
			put(t, f, 5, "-")
			must(t, f.SyncData())
			must(t, f.Preallocate(11, 8181))
			must(t, f.PunchHole(0, 4096))
			put(t, f, 8000, "end")
			if at, err := f.NextData(0); err != nil || at < 4096 || at > 8000 {
				t.Fatal(at, err)
			}
			if at, err := f.NextData(8192); err != nil || at != 8192 {
				t.Fatal(at, err)
			}
			must(t, f.Truncate(8003))
			part, rest := make([]byte, 2), make([]byte, 3)
			if n, err := f.ReadVec([][]byte{part, rest}, 8000); n != 3 || err != io.EOF || string(part)+string(rest[:1]) != "end" {
				t.Fatal(n, err, part, rest)
			}
			must(t, f.Sync())
			must(t, f.Close())
			must(t, fsys.Rename(a, b))
			must(t, fsys.SyncDir(dir))
			if names, err := fsys.ReadDir(dir); err != nil || len(names) != 1 || names[0] != "b" {
				t.Fatal(names, err)
			}
			lock, err := fsys.Lock(filepath.Join(dir, "lock"))
			must(t, err)
			if _, err := fsys.Lock(filepath.Join(dir, "lock")); !errors.Is(err, ErrLocked) {
				t.Fatal(err)
			}
			must(t, lock.Close())
			if capacity, free, err := fsys.Space(dir); err != nil || capacity <= 0 || free <= 0 || free > capacity {
				t.Fatal(capacity, free, err)
			}
			must(t, fsys.Remove(b))
			if _, err := fsys.OpenWrite(b, false); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		})
	}
}

// A vector longer than the kernel takes at once, and empty parts in it.
func TestLongVector(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f, err := Real{}.Create(name)
	must(t, err)
	var bufs [][]byte
	var want []byte
	for i := range 3000 {
		b := bytes.Repeat([]byte{byte(i)}, i%5)
		bufs, want = append(bufs, b), append(want, b...)
	}
	if n, err := f.WriteVec(bufs, 0); err != nil || n != len(want) {
		t.Fatal(n, err)
	}
	if get(t, Real{}, name) != string(want) {
		t.Fatal("bytes differ")
	}
	for i := range bufs {
		bufs[i] = make([]byte, len(bufs[i]))
	}
	if n, err := f.ReadVec(bufs, 0); err != nil || !bytes.Equal(bytes.Join(bufs, nil), want) {
		t.Fatal(n, err)
	}
	must(t, f.Close())
}

func TestCrashForgets(t *testing.T) {
	m := NewMemFS(1<<20, true)
	must(t, m.MkdirAll("/d"))
	rng := rand.New(rand.NewPCG(1, 1))
	synced, err := m.Create("/d/synced")
	must(t, err)
	put(t, synced, 0, "kept")
	must(t, synced.Sync())
	noDir, err := m.Create("/d/nodir")
	must(t, err)
	must(t, m.SyncDir("/d"))
	must(t, m.Remove("/d/nodir"))
	put(t, noDir, 0, "x")
	put(t, synced, 4, " lost")
	late, err := m.Create("/d/late")
	must(t, err)
	put(t, late, 0, "synced, but its name is not")
	must(t, late.Sync())
	must(t, m.Rename("/d/synced", "/d/renamed"))
	m.Crash(rng, 0)
	if got := get(t, m, "/d/synced"); got != "kept" {
		t.Errorf("synced: %q", got)
	}
	if got := get(t, m, "/d/nodir"); got != "" { // the unlink came back, empty
		t.Errorf("nodir: %q", got)
	}
	if get(t, m, "/d/late") != "absent" || get(t, m, "/d/renamed") != "absent" {
		t.Error("names that were not synced are there")
	}
	if _, err := synced.WriteVec([][]byte{{1}}, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("handle of before the crash: %v", err)
	}
}

// Of what was not synced any subset of sectors may be there, never anything else.
func TestCrashTears(t *testing.T) {
	torn := false
	for seed := range uint64(50) {
		m := NewMemFS(1<<20, true)
		must(t, m.MkdirAll("/d"))
		f, err := m.Create("/d/f")
		must(t, err)
		before, after := bytes.Repeat([]byte{'a'}, 8192), bytes.Repeat([]byte{'b'}, 8192)
		put(t, f, 0, string(before))
		must(t, f.Sync())
		must(t, m.SyncDir("/d"))
		put(t, f, 0, string(after))
		m.Crash(rand.New(rand.NewPCG(seed, 1)), 0.5)
		got := get(t, m, "/d/f")
		for i := 0; i < len(got); i += sector {
			s := got[i : i+sector]
			if s != string(before[:sector]) && s != string(after[:sector]) {
				t.Fatalf("seed %d: sector %d is mixed", seed, i/sector)
			}
			torn = torn || s[0] != got[0]
		}
	}
	if !torn {
		t.Error("nothing was ever torn")
	}
}

func TestFull(t *testing.T) {
	m := NewMemFS(10_000, true)
	f, err := m.Create("/f")
	must(t, err)
	must(t, f.Preallocate(0, 9000))
	if err := f.Preallocate(9000, 9000); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if _, err := f.WriteVec([][]byte{make([]byte, 2000)}, 9000); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if n, err := f.Size(); err != nil || n != 9000 {
		t.Fatal(n, err)
	}
}

// "Failed" and "done but reported failed" are told apart, for every call.
func TestInject(t *testing.T) {
	mem := NewMemFS(1<<20, true)
	var apply bool
	var bad Op
	fsys := Inject(mem, func(op Op, _ string) (bool, error) {
		if op == bad {
			return apply, syscall.EIO
		}
		return true, nil
	})
	must(t, fsys.MkdirAll("/"))
	f, err := fsys.Create("/f")
	must(t, err)
	_, err = f.WriteVec([][]byte{{1}}, 0) // what is read below, in whatever order
	must(t, err)
	ops := map[Op]func() error{
		OpWrite:       func() error { _, err := f.WriteVec([][]byte{{1}}, 0); return err },
		OpRead:        func() error { _, err := f.ReadVec([][]byte{{1}}, 0); return err },
		OpSyncData:    f.SyncData,
		OpSync:        f.Sync,
		OpSize:        func() error { _, err := f.Size(); return err },
		OpTruncate:    func() error { return f.Truncate(1) },
		OpPreallocate: func() error { return f.Preallocate(0, 1) },
		OpPunch:       func() error { return f.PunchHole(0, 1) },
		OpNextData:    func() error { _, err := f.NextData(0); return err },
		OpSyncDir:     func() error { return fsys.SyncDir("/") },
		OpReadDir:     func() error { _, err := fsys.ReadDir("/"); return err },
		OpMkdir:       func() error { return fsys.MkdirAll("/") },
		OpSpace:       func() error { _, _, err := fsys.Space("/"); return err },
		OpOpenRead:    func() error { _, err := fsys.OpenRead("/f"); return err },
		OpOpenWrite:   func() error { _, err := fsys.OpenWrite("/f", false); return err },
		OpLock:        func() error { _, err := fsys.Lock("/l"); return err },
		OpCreate:      func() error { _, err := fsys.Create("/new"); return err },
	}
	for op, call := range ops {
		for _, apply = range []bool{false, true} {
			bad = op
			if err := call(); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s, applied %v: %v", op, apply, err)
			}
			if op == OpCreate && apply != (get(t, mem, "/new") != "absent") {
				t.Errorf("create, applied %v", apply)
			}
		}
		bad = ""
		if op != OpCreate {
			must(t, call())
		}
	}
	for _, apply = range []bool{false, true} {
		bad = OpRename
		if err := fsys.Rename("/f", "/g"); !errors.Is(err, syscall.EIO) || apply != (get(t, mem, "/f") == "absent") {
			t.Errorf("rename, applied %v: %v", apply, err)
		}
		bad = OpRemove
		if err := fsys.Remove("/new"); !errors.Is(err, syscall.EIO) || apply != (get(t, mem, "/new") == "absent") {
			t.Errorf("remove, applied %v: %v", apply, err)
		}
	}
	if Unwrap(fsys) != FS(mem) {
		t.Error("unwrap")
	}
}
