package vfs

import (
	"io"
)

// Op names a call that Wrap sees and Inject can fail.
type Op string

// The operations, one per method of FS, Pinned and File; Close is left alone.
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
	OpPin         Op = "pin"
	OpInPlace     Op = "in-place"
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

// Around makes one call of a file system, or does not; what it returns is what
// the caller sees. It must be safe for concurrent use.
type Around func(op Op, name string, call func() error) error

// Wrap puts a function around every call. Unwrap undoes it.
func Wrap(fs FS, around Around) FS { return wrapped{fs, around} }

type wrapped struct {
	fs     FS
	around Around
}

// WrapPinned is Wrap for a pinned directory.
func WrapPinned(p Pinned, around Around) Pinned { return wrappedPinned{wrapped{p, around}, p} }

type wrappedPinned struct {
	wrapped
	pinned Pinned
}

func (p wrappedPinned) InPlace() error { return p.around(OpInPlace, "", p.pinned.InPlace) }
func (p wrappedPinned) Close() error   { return p.pinned.Close() }

// Unwrap is the file system under any number of wrappings.
func Unwrap(fs FS) FS {
	for {
		switch w := fs.(type) {
		case wrapped:
			fs = w.fs
		case wrappedPinned:
			fs = w.fs
		default:
			return fs
		}
	}
}

func (w wrapped) file(op Op, name string, open func() (File, error)) (File, error) {
	var f File
	err := w.around(op, name, func() (err error) { f, err = open(); return err })
	if err == nil && f == nil {
		err = io.ErrUnexpectedEOF // an open file cannot be faked
	}
	if err != nil {
		if f != nil {
			_ = f.Close() // the call is reported as failed; nothing was written
		}
		return nil, err
	}
	return &wrappedFile{f, w.around, name}, nil
}

func (w wrapped) Create(name string) (File, error) {
	return w.file(OpCreate, name, func() (File, error) { return w.fs.Create(name) })
}

func (w wrapped) OpenRead(name string) (File, error) {
	return w.file(OpOpenRead, name, func() (File, error) { return w.fs.OpenRead(name) })
}

func (w wrapped) OpenDirect(name string) (File, error) {
	return w.file(OpOpenDirect, name, func() (File, error) { return w.fs.OpenDirect(name) })
}

func (w wrapped) OpenWrite(name string, direct bool) (File, error) {
	return w.file(OpOpenWrite, name, func() (File, error) { return w.fs.OpenWrite(name, direct) })
}

func (w wrapped) Remove(name string) error {
	return w.around(OpRemove, name, func() error { return w.fs.Remove(name) })
}

func (w wrapped) Rename(oldName, newName string) error {
	return w.around(OpRename, newName, func() error { return w.fs.Rename(oldName, newName) })
}

func (w wrapped) MkdirAll(dir string) error {
	return w.around(OpMkdir, dir, func() error { return w.fs.MkdirAll(dir) })
}

func (w wrapped) SyncDir(dir string) error {
	return w.around(OpSyncDir, dir, func() error { return w.fs.SyncDir(dir) })
}

func (w wrapped) ReadDir(dir string) (names []string, err error) {
	err = w.around(OpReadDir, dir, func() (err error) { names, err = w.fs.ReadDir(dir); return err })
	return names, err
}

func (w wrapped) Lock(name string) (c io.Closer, err error) {
	err = w.around(OpLock, name, func() (err error) { c, err = w.fs.Lock(name); return err })
	if err == nil && c == nil {
		err = io.ErrUnexpectedEOF // nor can a lock
	}
	if err != nil && c != nil {
		_ = c.Close() // reported as failed, so nobody may hold it
	}
	return c, err
}

func (w wrapped) Space(dir string) (capacity, free int64, err error) {
	err = w.around(OpSpace, dir, func() (err error) { capacity, free, err = w.fs.Space(dir); return err })
	return capacity, free, err
}

func (w wrapped) Pin(dir string) (p Pinned, err error) {
	err = w.around(OpPin, dir, func() (err error) { p, err = w.fs.Pin(dir); return err })
	if err == nil && p == nil {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		if p != nil {
			_ = p.Close() // reported as failed; nothing was written
		}
		return nil, err
	}
	return WrapPinned(p, w.around), nil
}

type wrappedFile struct {
	File
	around Around
	name   string
}

func (f *wrappedFile) ReadVec(bufs [][]byte, off int64) (n int, err error) {
	err = f.around(OpRead, f.name, func() (err error) { n, err = f.File.ReadVec(bufs, off); return err })
	return n, err
}

func (f *wrappedFile) WriteVec(bufs [][]byte, off int64) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	err = f.around(OpWrite, f.name, func() (err error) { n, err = f.File.WriteVec(bufs, off); return err })
	return n, err
}

func (f *wrappedFile) SyncData() error { return f.around(OpSyncData, f.name, f.File.SyncData) }
func (f *wrappedFile) Sync() error     { return f.around(OpSync, f.name, f.File.Sync) }

func (f *wrappedFile) Size() (n int64, err error) {
	err = f.around(OpSize, f.name, func() (err error) { n, err = f.File.Size(); return err })
	return n, err
}

func (f *wrappedFile) Truncate(size int64) error {
	return f.around(OpTruncate, f.name, func() error { return f.File.Truncate(size) })
}

func (f *wrappedFile) Preallocate(off, n int64) error {
	return f.around(OpPreallocate, f.name, func() error { return f.File.Preallocate(off, n) })
}

func (f *wrappedFile) PunchHole(off, n int64) error {
	return f.around(OpPunch, f.name, func() error { return f.File.PunchHole(off, n) })
}

func (f *wrappedFile) NextData(off int64) (n int64, err error) {
	err = f.around(OpNextData, f.name, func() (err error) { n, err = f.File.NextData(off); return err })
	return n, err
}
