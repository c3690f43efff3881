package vfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"unsafe"
)

// memFile is one handle on an inode of a MemFS.
type memFile struct {
	fs            *MemFS
	node          *inode
	life          int
	name          string
	write, direct bool
	closed        bool
}

// enter locks the file system and tells whether the handle still lives.
func (f *memFile) enter(op string, write bool) error {
	f.fs.mu.Lock()
	var err error
	switch {
	case f.closed || f.life != f.fs.life:
		err = &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	case write && !f.write:
		err = &fs.PathError{Op: op, Path: f.name, Err: fs.ErrPermission}
	}
	if err != nil {
		f.fs.mu.Unlock()
	}
	return err
}

func (f *memFile) ReadVec(bufs [][]byte, off int64) (int, error) {
	if err := f.enter("read", false); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	done := 0
	for _, b := range bufs {
		at := off + int64(done)
		if err := f.checkAligned("read", b, at); err != nil {
			return done, err
		}
		if at >= int64(len(f.node.data)) {
			if len(b) > 0 {
				return done, io.EOF
			}
			continue
		}
		n := copy(b, f.node.data[at:])
		done += n
		if n < len(b) {
			return done, io.EOF
		}
	}
	return done, nil
}

func (f *memFile) WriteVec(bufs [][]byte, off int64) (int, error) {
	if err := f.enter("write", true); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	done := 0
	for _, b := range bufs {
		at := off + int64(done)
		if err := f.checkAligned("write", b, at); err != nil {
			return done, err
		}
		if err := f.grow(at + int64(len(b))); err != nil {
			return done, err
		}
		copy(f.node.data[at:], b)
		f.dirty(at, int64(len(b)))
		done += len(b)
	}
	return done, nil
}

// checkAligned holds direct I/O to what the kernel asks of it.
func (f *memFile) checkAligned(op string, b []byte, at int64) error {
	if f.direct && (at%4096 != 0 || len(b)%4096 != 0 || len(b) > 0 && uintptr(unsafe.Pointer(&b[0]))%4096 != 0) {
		return fmt.Errorf("direct %s of %d bytes at %d is not aligned", op, len(b), at)
	}
	return nil
}

func (f *memFile) grow(size int64) error {
	more := size - int64(len(f.node.data))
	if more <= 0 {
		return nil
	}
	if f.fs.used()+more > f.fs.capacity {
		return &fs.PathError{Op: "write", Path: f.name, Err: errNoSpace}
	}
	f.node.data = append(f.node.data, make([]byte, more)...)
	return nil
}

func (f *memFile) dirty(off, n int64) {
	if f.node.dirty == nil {
		f.node.dirty = map[int64]struct{}{}
	}
	for s := off / sector; s*sector < off+n; s++ {
		f.node.dirty[s] = struct{}{}
	}
	for p := off / holePage; len(f.node.holes) > 0 && p*holePage < off+n; p++ {
		delete(f.node.holes, p)
	}
}

// holePage is the unit in which a hole gives space back.
const holePage = 4096

func (f *memFile) SyncData() error { return f.Sync() }

func (f *memFile) Sync() error {
	if err := f.enter("sync", false); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	n := f.node
	if len(n.synced) > len(n.data) {
		n.synced = n.synced[:len(n.data)]
	}
	for len(n.synced) < len(n.data) {
		n.synced = append(n.synced, make([]byte, len(n.data)-len(n.synced))...)
	}
	for s := range n.dirty {
		if from := s * sector; from < int64(len(n.data)) {
			copy(n.synced[from:], n.data[from:min(from+sector, int64(len(n.data)))])
		}
	}
	n.dirty = nil
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.enter("stat", false); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.enter("truncate", true); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	was := int64(len(f.node.data))
	if size > was {
		return f.grow(size)
	}
	clear(f.node.data[size:])
	f.dirty(size, was-size)
	f.node.data = f.node.data[:size]
	return nil
}

func (f *memFile) Preallocate(off, n int64) error {
	if err := f.enter("preallocate", true); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	return f.grow(off + n)
}

func (f *memFile) PunchHole(off, n int64) error {
	if err := f.enter("punch", true); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	end := min(off+n, int64(len(f.node.data)))
	if off < end {
		clear(f.node.data[off:end])
		f.dirty(off, end-off)
		if f.node.holes == nil {
			f.node.holes = map[int64]struct{}{}
		}
		for p := (off + holePage - 1) / holePage; (p+1)*holePage <= end; p++ {
			f.node.holes[p] = struct{}{}
		}
	}
	return nil
}

func (f *memFile) NextData(off int64) (int64, error) {
	if err := f.enter("next data", false); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	var zeros [4096]byte
	size := int64(len(f.node.data))
	for off < size {
		n := min(size-off, int64(len(zeros)))
		if !bytes.Equal(f.node.data[off:off+n], zeros[:n]) {
			return off, nil
		}
		off += n
	}
	return size, nil
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.closed = true
	return nil
}
