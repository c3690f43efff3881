package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"golang.org/x/sys/unix"
)

// rooted is the operating system's file system below one directory, reached
// through its descriptor and not by its name.
type rooted struct {
	root *os.Root
	self *os.File // the directory
	dir  string
}

var (
	_ Pinned = (*rooted)(nil)
	_ Opener = (*rooted)(nil)
)

// Pin implements FS.
func (Real) Pin(dir string) (Pinned, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return newRooted(root, dir)
}

func newRooted(root *os.Root, dir string) (*rooted, error) {
	self, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &rooted{root, self, filepath.Clean(dir)}, nil
}

// below is the name as seen from the directory.
func (r *rooted) below(name string) (string, error) {
	rel, err := filepath.Rel(r.dir, name)
	if err != nil || !filepath.IsLocal(rel) {
		return "", &os.PathError{Op: "open", Path: name, Err: errors.New("not in the pinned directory " + r.dir)}
	}
	return rel, nil
}

// OpenFile implements Opener.
func (r *rooted) OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	rel, err := r.below(name)
	if err != nil {
		return nil, err
	}
	return r.root.OpenFile(rel, flag|unix.O_CLOEXEC, perm)
}

func (r *rooted) open(name string, flag int) (File, error) {
	f, err := r.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return newRealFile(f, flag), nil
}

func (r *rooted) Create(name string) (File, error) {
	return r.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (r *rooted) OpenRead(name string) (File, error) { return r.open(name, os.O_RDONLY) }

func (r *rooted) OpenDirect(name string) (File, error) {
	return refusedDirect(r.open(name, os.O_RDONLY|unix.O_DIRECT))
}

func (r *rooted) OpenWrite(name string, direct bool) (File, error) {
	if !direct {
		return r.open(name, os.O_RDWR)
	}
	return refusedDirect(r.open(name, os.O_RDWR|unix.O_DIRECT))
}

func (r *rooted) Remove(name string) error {
	rel, err := r.below(name)
	if err != nil {
		return err
	}
	return r.root.Remove(rel)
}

func (r *rooted) Rename(oldName, newName string) error {
	from, err := r.below(oldName)
	if err != nil {
		return err
	}
	to, err := r.below(newName)
	if err != nil {
		return err
	}
	return r.root.Rename(from, to)
}

func (r *rooted) MkdirAll(dir string) error {
	rel, err := r.below(dir)
	if err != nil {
		return err
	}
	return r.root.MkdirAll(rel, 0o700)
}

func (r *rooted) SyncDir(dir string) error {
	if filepath.Clean(dir) == r.dir {
		return r.self.Sync()
	}
	d, err := r.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (r *rooted) ReadDir(dir string) ([]string, error) {
	d, err := r.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	sort.Strings(names)
	return names, errors.Join(err, d.Close())
}

func (r *rooted) Lock(name string) (io.Closer, error) {
	f, err := r.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return lockFile(f)
}

func (r *rooted) Space(dir string) (capacity, free int64, err error) {
	return space(dir, func(st *unix.Statfs_t) error { return unix.Fstatfs(int(r.self.Fd()), st) })
}

func (r *rooted) Pin(dir string) (Pinned, error) {
	rel, err := r.below(dir)
	if err != nil {
		return nil, err
	}
	root, err := r.root.OpenRoot(rel)
	if err != nil {
		return nil, err
	}
	return newRooted(root, dir)
}

func (r *rooted) InPlace() error {
	held, err := r.self.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(r.dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: %w", ErrMoved, err)
	}
	if err != nil {
		return err
	}
	if !os.SameFile(held, now) {
		return fmt.Errorf("%w: another is at %s", ErrMoved, r.dir)
	}
	return nil
}

func (r *rooted) Close() error { return errors.Join(r.self.Close(), r.root.Close()) }
