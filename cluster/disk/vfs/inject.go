package vfs

import "io"

// Op names a call that Inject can fail.
type Op string

// The operations, one per method of FS and File.
const (
	OpCreate      Op = "create"
	OpOpenRead    Op = "open-read"
	OpOpenDirect  Op = "open-direct"
	OpOpenWrite   Op = "open-write"
	OpRemove      Op = "remove"
	OpRename      Op = "rename"
	OpMkdir       Op = "mkdir"
	OpSyncDir     Op = "sync-dir"
	OpReadDir     Op = "read-dir"
	OpLock        Op = "lock"
	OpSpace       Op = "space"
	OpRead        Op = "read"
	OpWrite       Op = "write"
	OpSyncData    Op = "sync-data"
	OpSync        Op = "sync"
	OpSize        Op = "size"
	OpTruncate    Op = "truncate"
	OpPreallocate Op = "preallocate"
	OpPunch       Op = "punch"
	OpNextData    Op = "next-data"
)

// Hook is asked before each call. With apply the call is made, and a non-nil err
// is reported all the same: "done but reported failed" is another bug than
// "failed". Without apply a nil err reports success of what was not done.
type Hook func(op Op, name string) (apply bool, err error)

// Inject wraps a file system with a hook. The hook must be safe for concurrent
// use.
func Inject(fs FS, hook Hook) FS { return injected{fs, hook} }

type injected struct {
	fs   FS
	hook Hook
}

// Unwrap is the file system under any number of Inject.
func Unwrap(fs FS) FS {
	for {
		i, ok := fs.(injected)
		if !ok {
			return fs
		}
		fs = i.fs
	}
}

// do makes one call through the hook.
func do(hook Hook, op Op, name string, call func() error) error {
	apply, err := hook(op, name)
	if apply {
		if cerr := call(); cerr != nil {
			return cerr
		}
	}
	return err
}

func (i injected) file(op Op, name string, open func() (File, error)) (File, error) {
	var f File
	err := do(i.hook, op, name, func() (err error) { f, err = open(); return err })
	if err == nil && f == nil {
		err = io.ErrUnexpectedEOF // a hook cannot fake an open file
	}
	if err != nil {
		if f != nil {
			_ = f.Close() // the call is reported as failed; nothing was written
		}
		return nil, err
	}
	return &injectedFile{f, i.hook, name}, nil
}

func (i injected) Create(name string) (File, error) {
	return i.file(OpCreate, name, func() (File, error) { return i.fs.Create(name) })
}

func (i injected) OpenRead(name string) (File, error) {
	return i.file(OpOpenRead, name, func() (File, error) { return i.fs.OpenRead(name) })
}

func (i injected) OpenDirect(name string) (File, error) {
	return i.file(OpOpenDirect, name, func() (File, error) { return i.fs.OpenDirect(name) })
}

func (i injected) OpenWrite(name string, direct bool) (File, error) {
	return i.file(OpOpenWrite, name, func() (File, error) { return i.fs.OpenWrite(name, direct) })
}

func (i injected) Remove(name string) error {
	return do(i.hook, OpRemove, name, func() error { return i.fs.Remove(name) })
}

func (i injected) Rename(oldName, newName string) error {
	return do(i.hook, OpRename, newName, func() error { return i.fs.Rename(oldName, newName) })
}

func (i injected) MkdirAll(dir string) error {
	return do(i.hook, OpMkdir, dir, func() error { return i.fs.MkdirAll(dir) })
}

func (i injected) SyncDir(dir string) error {
	return do(i.hook, OpSyncDir, dir, func() error { return i.fs.SyncDir(dir) })
}

func (i injected) ReadDir(dir string) (names []string, err error) {
	err = do(i.hook, OpReadDir, dir, func() (err error) { names, err = i.fs.ReadDir(dir); return err })
	return names, err
}

func (i injected) Lock(name string) (c io.Closer, err error) {
	if apply, err := i.hook(OpLock, name); !apply || err != nil {
		return nil, err
	}
	return i.fs.Lock(name)
}

func (i injected) Space(dir string) (capacity, free int64, err error) {
	err = do(i.hook, OpSpace, dir, func() (err error) { capacity, free, err = i.fs.Space(dir); return err })
	return capacity, free, err
}

type injectedFile struct {
	File
	hook Hook
	name string
}

func (f *injectedFile) ReadVec(bufs [][]byte, off int64) (n int, err error) {
	err = do(f.hook, OpRead, f.name, func() (err error) { n, err = f.File.ReadVec(bufs, off); return err })
	return n, err
}

func (f *injectedFile) WriteVec(bufs [][]byte, off int64) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	err = do(f.hook, OpWrite, f.name, func() (err error) { n, err = f.File.WriteVec(bufs, off); return err })
	return n, err
}

func (f *injectedFile) SyncData() error { return do(f.hook, OpSyncData, f.name, f.File.SyncData) }
func (f *injectedFile) Sync() error     { return do(f.hook, OpSync, f.name, f.File.Sync) }

func (f *injectedFile) Size() (n int64, err error) {
	err = do(f.hook, OpSize, f.name, func() (err error) { n, err = f.File.Size(); return err })
	return n, err
}

func (f *injectedFile) Truncate(size int64) error {
	return do(f.hook, OpTruncate, f.name, func() error { return f.File.Truncate(size) })
}

func (f *injectedFile) Preallocate(off, n int64) error {
	return do(f.hook, OpPreallocate, f.name, func() error { return f.File.Preallocate(off, n) })
}

func (f *injectedFile) PunchHole(off, n int64) error {
	return do(f.hook, OpPunch, f.name, func() error { return f.File.PunchHole(off, n) })
}

func (f *injectedFile) NextData(off int64) (n int64, err error) {
	err = do(f.hook, OpNextData, f.name, func() (err error) { n, err = f.File.NextData(off); return err })
	return n, err
}
