// Package vfs is the seam between a disk and the file system under it: the few
// calls that a durable store needs, and nothing that it should not use.
//
// There are two: Real is the operating system; MemFS is a strict file system in
// memory that forgets on Crash whatever was not synced, file data and directory
// entries alike. Wrap puts a function around every call of either: a disk
// watches its file system that way, and Inject fails calls by operation and path.
// Tests of the disk run on MemFS and Inject.
package vfs

import (
	"errors"
	"io"
	"os"
)

var (
	// ErrDirect: the file system refuses O_DIRECT for this file.
	ErrDirect = errors.New("vfs: direct i/o not supported")
	// ErrNotSupported: the file system has no such call (punch hole).
	ErrNotSupported = errors.New("vfs: not supported by this file system")
	// ErrMoved: the name of a pinned directory leads elsewhere now.
	ErrMoved = errors.New("vfs: directory is not where it was")
	// ErrLocked: another process (or Open) holds the lock.
	ErrLocked = errors.New("vfs: locked by another process")
)

// FS is a file system. Names are paths. It is safe for concurrent use. Errors
// answer to errors.Is with io/fs and syscall values.
type FS interface {
	// Create makes a new file for reading and writing; it fails if the name
	// exists. Durable only after Sync of the file and SyncDir of its directory.
	Create(name string) (File, error)
	// OpenRead opens for reading through the page cache.
	OpenRead(name string) (File, error)
	// OpenDirect opens for reading past the page cache, so that what is read comes
	// from the disk. Addresses, offsets and lengths are multiples of 4096; ErrDirect
	// if the file system cannot.
	OpenDirect(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing. With direct,
	// addresses, offsets and lengths of writes are multiples of 4096; ErrDirect if
	// the file system cannot.
	OpenWrite(name string, direct bool) (File, error)
	Remove(name string) error
	// Rename replaces newName atomically. Durable only after SyncDir.
	Rename(oldName, newName string) error
	MkdirAll(dir string) error
	SyncDir(dir string) error
	ReadDir(dir string) ([]string, error) // names, sorted
	// Lock takes an exclusive lock that dies with the process.
	Lock(name string) (io.Closer, error)
	// Space is the size of the file system under dir and what is free of it.
	Space(dir string) (capacity, free int64, err error)
	// Pin holds an existing directory open.
	Pin(dir string) (Pinned, error)
}

// Pinned is the file system below one directory that is held open. Whatever is
// mounted over it or unmounted later, names in it go to the directory that was
// there, and only names in it are known.
type Pinned interface {
	FS
	// InPlace fails with ErrMoved when the directory's name leads elsewhere now.
	InPlace() error
	Close() error
}

// Opener is what a file system can do that has files of the operating system;
// bbolt opens its own through it.
type Opener interface {
	OpenFile(name string, flag int, perm os.FileMode) (*os.File, error)
}

// File is an open file. ReadVec, WriteVec, SyncData may be called concurrently.
type File interface {
	// ReadVec fills the buffers, in order, from offset on. At the end of the file
	// it returns what it got and io.EOF.
	ReadVec(bufs [][]byte, off int64) (int, error)
	// WriteVec writes all of the buffers, in order, at offset, or fails. It may
	// use the bufs slice itself (not the bytes) as scratch space.
	WriteVec(bufs [][]byte, off int64) (int, error)
	// SyncData makes written bytes, and the size they need, durable (fdatasync).
	SyncData() error
	// Sync makes all of the file durable (fsync); not its directory entry.
	Sync() error
	Size() (int64, error)
	Truncate(size int64) error
	// Preallocate makes [off, off+n) part of the file, read as zeros, with space
	// of its own. It never leaves part of it done on error.
	Preallocate(off, n int64) error
	// PunchHole gives the space of [off, off+n) back; it reads as zeros.
	PunchHole(off, n int64) error
	// NextData is the first offset >= off that may hold other than zeros, or the
	// size of the file.
	NextData(off int64) (int64, error)
	Close() error
}
