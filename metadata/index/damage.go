package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"

	"bivalve/metadata"
	"bivalve/metadata/boltfile"
)

var (
	// ErrDamaged: the file is not what was written to it, or what a write has left
	// of it is not known. The index answers nothing any more; its state comes back
	// from another replica.
	ErrDamaged = errors.New("index: damaged")
	// ErrNoSpace: a commit found no room. The file is as it was before; the index
	// must be opened again, and the log has what it then lacks.
	ErrNoSpace = errors.New("index: no space")
)

// guard ends a method that touches the file: it makes a panic the error of the
// method, and any damage the end of the index. A page of a mapped file that cannot
// be read (the file was cut short, the disk fails) is a fault, which Go turns into
// a panic if asked to. Use: defer ix.guard(&err)()
func (ix *Index) guard(err *error) func() {
	faults := debug.SetPanicOnFault(true)
	return func() {
		if r := recover(); r != nil {
			*err = fmt.Errorf("index %s: %w: %v", ix.path, ErrDamaged, r)
		}
		debug.SetPanicOnFault(faults)
		if errors.Is(*err, ErrDamaged) || errors.Is(*err, ErrNoSpace) {
			why := *err
			ix.failed.CompareAndSwap(nil, &why)
		}
	}
}

// failure is why the index answers nothing any more.
func (ix *Index) failure() error {
	if err := ix.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// commitFailed sorts an error of a commit: only a lack of room leaves the file as
// it was.
func commitFailed(err error) error {
	kind := ErrDamaged
	if boltfile.NoRoom(err) {
		kind = ErrNoSpace
	}
	return fmt.Errorf("%w: commit: %w", kind, err)
}

// checkFile reads a closed index file whole: its pages, every record, and that
// none is missing. place is whether it says which entries it holds.
func checkFile(path string) (place bool, err error) {
	var format, digest []byte
	var records int
	var bad error
	sum := uint64(0)
	err = boltfile.Check(path, func(table, key, stored []byte) error {
		if bytes.Equal(table, tableMeta) && bytes.Equal(key, keyFormat) {
			format = bytes.Clone(stored)
			return nil
		}
		records++
		value, s, ok := openRecord(table, key, stored)
		switch {
		case !ok && bad == nil:
			bad = fmt.Errorf("record %x of table %s does not check", key, table)
		case bytes.Equal(table, tableMeta):
			place = place || bytes.Equal(key, keyApplied)
			if bytes.Equal(key, keyDigest) {
				digest = bytes.Clone(value)
			}
		default:
			sum ^= s
		}
		return nil
	})
	switch {
	case errors.Is(err, boltfile.ErrDamaged), errors.Is(err, syscall.EIO):
		return false, fmt.Errorf("%w: %w", ErrDamaged, err)
	case err != nil:
		return false, err
	case format == nil && records == 0:
		return false, nil // made, and never committed to
	case bytes.Equal(format, formatOne):
		return true, nil // its records carry no sums
	case len(format) != 2 || format[0] != ^format[1]:
		return false, fmt.Errorf("%s: %w: format %x", path, ErrDamaged, format)
	case format[0] > formatVersion || format[0] < 2:
		return false, fmt.Errorf("%s: %w: version %d", path, ErrFormat, format[0])
	case bad != nil:
		return false, fmt.Errorf("%s: %w: %w", path, ErrDamaged, bad)
	case len(digest) != 8 || binary.BigEndian.Uint64(digest) != sum:
		return false, fmt.Errorf("%s: %w: records are missing, or too many", path, ErrDamaged)
	}
	return place, nil
}

// Restore makes the synced image at from the index at path, and opens it. What is
// at path, damaged or not, is kept aside (boltfile.Aside). Nothing changes if the
// image does not check, which is ErrBadSnapshot.
func Restore(path, from string) (*Index, error) {
	if err := checkSnapshot(from); err != nil {
		return nil, err
	}
	if err := boltfile.SetAside(path); err != nil {
		return nil, fmt.Errorf("index %s: keep the damaged file: %w", path, err)
	}
	if err := boltfile.Replace(from, path); err != nil {
		return nil, fmt.Errorf("index %s: restore: %w", path, err)
	}
	return Open(path)
}

// checkSnapshot refuses an image before the good state is given up for it.
func checkSnapshot(path string) error {
	place, err := checkFile(path)
	if err == nil && !place {
		err = fmt.Errorf("snapshot %s holds no state", path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	return err
}

// decodeRow reads a row of a table. One that cannot be read is damage, never an answer
// to a command or query, though what read it says that it is malformed.
func decodeRow(raw []byte, into any) error {
	if err := metadata.DecodeBody(raw, into); err != nil {
		return fmt.Errorf("%w: a row cannot be read: %v", ErrDamaged, err)
	}
	return nil
}
