package boltfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrDamaged: the file is not as bbolt wrote it.
	ErrDamaged = errors.New("file is damaged")
	// ErrInUse: another process holds the file.
	ErrInUse = errors.New("file is in use")
)

// lockWait is how long a file that another process holds is waited for.
const lockWait = 5 * time.Second

// Visit is called for every record of every bucket, in order. It keeps nothing
// of what it is given. Its error ends Check, which returns it as it is.
type Visit func(bucket, key, value []byte) error

// Check verifies the closed bbolt file at path; visit may be nil. ErrDamaged says
// that bbolt must not open it. A file that is missing is the error of os.Open,
// one of no bytes is damaged. Buckets within buckets are not expected here and
// count as damage.
func Check(path string, visit Visit) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	if err := lock(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	st, err := f.Stat()
	if err == nil {
		err = check(f, st.Size(), visit)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func check(r io.ReaderAt, size int64, visit Visit) error {
	if visit == nil {
		visit = func(_, _, _ []byte) error { return nil }
	}
	c := checker{r: r, size: uint64(size), visit: visit}
	return c.file()
}

// lock takes the lock that bbolt takes, until f is closed.
func lock(f *os.File) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(deadline) {
			return ErrInUse
		}
	}
}

// Create makes an empty bbolt file at path, which must not exist: either all of
// it is there after a crash, or none.
func Create(path string) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, nil) // which syncs it
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	return Replace(tmp, path)
}

// Replace moves a synced file to path, over what is there, for good.
func Replace(from, path string) error {
	if err := os.Rename(from, path); err != nil {
		return err
	}
	return syncDirOf(path)
}

// SetAside keeps the file at path under the name of Aside as well, in place of an
// earlier one there, so that what is moved over path next does not destroy it.
func SetAside(path string) error {
	if err := os.Remove(Aside(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Link(path, Aside(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// NoRoom tells whether a commit failed because a write found no room. bbolt then
// has not come to the meta page that makes a transaction true: the file is as it
// was, and the commit may be tried again. A sync that failed for whatever reason
// is not among these, since nobody knows what it has left.
func NoRoom(err error) bool {
	var p *fs.PathError
	return errors.Is(err, berrors.ErrMaxSizeReached) ||
		errors.As(err, &p) && p.Op == "write" && (errors.Is(p.Err, syscall.ENOSPC) || errors.Is(p.Err, syscall.EDQUOT))
}

// Aside is where a damaged file is kept.
func Aside(path string) string { return path + ".damaged" }
