package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Real is the operating system's file system. Files are 0600, directories 0700.
type Real struct{}

var _ FS = Real{}

func (Real) open(name string, flags int) (File, error) {
	f, err := os.OpenFile(name, flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return newRealFile(f, flags), nil
}

func newRealFile(f *os.File, flags int) *realFile {
	return &realFile{f: f, fd: int(f.Fd()), direct: flags&unix.O_DIRECT != 0}
}

// Create implements FS.
func (r Real) Create(name string) (File, error) {
	return r.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// OpenRead implements FS.
func (r Real) OpenRead(name string) (File, error) { return r.open(name, os.O_RDONLY) }

// OpenWrite implements FS.
func (r Real) OpenWrite(name string, direct bool) (File, error) {
	if !direct {
		return r.open(name, os.O_RDWR)
	}
	return refusedDirect(r.open(name, os.O_RDWR|unix.O_DIRECT))
}

// OpenDirect implements FS.
func (r Real) OpenDirect(name string) (File, error) {
	return refusedDirect(r.open(name, os.O_RDONLY|unix.O_DIRECT))
}

// refusedDirect names the error of file systems without O_DIRECT.
func refusedDirect(f File, err error) (File, error) {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("%w: %w", ErrDirect, err)
	}
	return f, err
}

// Remove implements FS.
func (Real) Remove(name string) error { return os.Remove(name) }

// Rename implements FS.
func (Real) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

// MkdirAll implements FS.
func (Real) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// SyncDir implements FS.
func (Real) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadDir implements FS.
func (Real) ReadDir(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	sort.Strings(names)
	return names, errors.Join(err, d.Close())
}

// Lock implements FS.
func (Real) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return lockFile(f)
}

func lockFile(f *os.File) (io.Closer, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %s", ErrLocked, f.Name())
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Space implements FS.
func (Real) Space(dir string) (capacity, free int64, err error) {
	return space(dir, func(st *unix.Statfs_t) error { return unix.Statfs(dir, st) })
}

func space(dir string, statfs func(*unix.Statfs_t) error) (capacity, free int64, err error) {
	var st unix.Statfs_t
	if err := retry(func() error { return statfs(&st) }); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	capacity, free = room(&st)
	return capacity, free, nil
}

// room is what statfs says. Where no further file can be made there is no room,
// whatever is free: a segment or a manifest is a new file. A file system without
// a table of inodes counts none.
func room(st *unix.Statfs_t) (capacity, free int64) {
	capacity, free = int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	if st.Files > 0 && st.Ffree == 0 {
		free = 0
	}
	return capacity, free
}

// realFile keeps the descriptor beside the *os.File, so that every call is one
// system call and an error still names the file.
type realFile struct {
	f      *os.File
	fd     int
	direct bool
}

func (r *realFile) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: r.f.Name(), Err: err}
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// maxVec is Linux's IOV_MAX.
const maxVec = 1024

// vec is advanced over the buffers of one call, whose kernel form it keeps.
type vec struct {
	bufs [][]byte
	skip int // bytes done of bufs[0]
}

func (v *vec) advance(n int) {
	for len(v.bufs) > 0 && n >= len(v.bufs[0])-v.skip {
		n -= len(v.bufs[0]) - v.skip
		v.bufs, v.skip = v.bufs[1:], 0
	}
	v.skip += n
}

// left tells whether any buffer is not done yet.
func (v *vec) left() bool {
	v.advance(0)
	return len(v.bufs) > 0
}

func (v *vec) iovecs(into []unix.Iovec) []unix.Iovec {
	into = into[:0]
	for i, b := range v.bufs {
		if i == 0 {
			b = b[v.skip:]
		}
		if len(b) == 0 {
			continue
		}
		if len(into) == maxVec {
			break
		}
		iov := unix.Iovec{Base: unsafe.SliceData(b)}
		iov.SetLen(len(b))
		into = append(into, iov)
	}
	return into
}

func (r *realFile) transfer(trap uintptr, bufs [][]byte, off int64) (int, error) {
	var room [16]unix.Iovec
	v, iov, done := vec{bufs: bufs}, room[:0], 0
	for {
		v.advance(0)
		if iov = v.iovecs(iov); len(iov) == 0 {
			return done, nil
		}
		at := off + int64(done)
		n, _, errno := unix.Syscall6(trap, uintptr(r.fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)),
			uintptr(at), uintptr(uint64(at)>>32), 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return done, errno
		case n == 0:
			return done, io.EOF
		default:
			done += int(n)
			v.advance(int(n))
			if r.direct && done%4096 != 0 && trap == unix.SYS_PREADV {
				// Only the end of the file cuts a direct read there, and the rest could not be
				// asked for: it would begin off the boundary.
				if v.left() {
					return done, io.EOF
				}
				return done, nil
			}
		}
	}
}

func (r *realFile) ReadVec(bufs [][]byte, off int64) (int, error) {
	n, err := r.transfer(unix.SYS_PREADV, bufs, off)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, r.fail("read", err)
}

func (r *realFile) WriteVec(bufs [][]byte, off int64) (int, error) {
	n, err := r.transfer(unix.SYS_PWRITEV, bufs, off)
	if err == io.EOF {
		err = io.ErrShortWrite
	}
	return n, r.fail("write", err)
}

func (r *realFile) SyncData() error {
	return r.fail("fdatasync", retry(func() error { return unix.Fdatasync(r.fd) }))
}

func (r *realFile) Sync() error {
	return r.fail("fsync", retry(func() error { return unix.Fsync(r.fd) }))
}

func (r *realFile) Size() (int64, error) {
	st, err := r.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (r *realFile) Truncate(size int64) error { return r.f.Truncate(size) }

func (r *realFile) Preallocate(off, n int64) error {
	before, err := r.Size()
	if err != nil {
		return err
	}
	err = retry(func() error { return unix.Fallocate(r.fd, 0, off, n) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = r.zeroFill(off, n)
	}
	if err != nil {
		if now, serr := r.Size(); serr == nil && now > before {
			err = errors.Join(err, r.Truncate(before))
		}
		return r.fail("preallocate", err)
	}
	return nil
}

// zeroFill takes the space on file systems without fallocate, so that a disk
// that fills says so here and not in the middle of a record.
func (r *realFile) zeroFill(off, n int64) error {
	zeros, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ, unix.MAP_ANON|unix.MAP_PRIVATE) // page aligned, for O_DIRECT
	if err != nil {
		return err
	}
	for n > 0 && err == nil {
		part := min(n, int64(len(zeros)))
		_, err = r.WriteVec([][]byte{zeros[:part]}, off)
		off, n = off+part, n-part
	}
	return errors.Join(err, unix.Munmap(zeros))
}

func (r *realFile) PunchHole(off, n int64) error {
	err := retry(func() error {
		return unix.Fallocate(r.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: punch hole", ErrNotSupported)
	}
	return r.fail("punch hole", err)
}

func (r *realFile) NextData(off int64) (int64, error) {
	at, err := unix.Seek(r.fd, off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return r.Size()
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return off, nil // no such call here: any byte may be data
	}
	return at, r.fail("seek data", err)
}

func (r *realFile) Close() error { return r.f.Close() }
