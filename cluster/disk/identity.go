package disk

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
)

// Names inside the directory of a disk.
const (
	identityName = "IDENTITY"
	manifestName = "MANIFEST"
	lockName     = "LOCK"
	indexName    = "index.bolt"
	tempSuffix   = ".tmp"
)

// Format makes an empty directory (or one that does not exist) a disk of the
// cluster and returns its new id, durable. It fails with ErrInvalid when the
// directory holds a disk already, or anything that could be part of one.
func Format(cfg Config) (cluster.DiskID, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return cluster.DiskID{}, err
	}
	if err := cfg.FS.MkdirAll(cfg.Dir); err != nil {
		return cluster.DiskID{}, fmt.Errorf("format %s: %w", cfg.Dir, err)
	}
	lock, err := cfg.FS.Lock(filepath.Join(cfg.Dir, lockName))
	if err != nil {
		return cluster.DiskID{}, fmt.Errorf("format %s: %w", cfg.Dir, err)
	}
	id, err := format(cfg)
	return id, errors.Join(err, lock.Close())
}

func format(cfg Config) (cluster.DiskID, error) {
	names, err := cfg.FS.ReadDir(cfg.Dir)
	if err != nil {
		return cluster.DiskID{}, fmt.Errorf("format %s: %w", cfg.Dir, err)
	}
	for _, name := range names {
		_, _, segment := parseSegmentName(name)
		// A manifest alone is what a Format that was cut short leaves.
		if segment || name == identityName || name == indexName {
			return cluster.DiskID{}, fmt.Errorf("format %s: %w: %s is there already", cfg.Dir, cluster.ErrInvalid, name)
		}
	}
	o := owner{cluster: cfg.Cluster, disk: cfg.ID}
	if o.disk.IsZero() {
		if _, err := rand.Read(o.disk[:]); err != nil {
			return cluster.DiskID{}, fmt.Errorf("format %s: %w", cfg.Dir, err)
		}
	}
	// The directory itself may be new.
	if err := cfg.FS.SyncDir(filepath.Dir(cfg.Dir)); err != nil {
		return cluster.DiskID{}, fmt.Errorf("format %s: %w", cfg.Dir, err)
	}
	// The identity comes last: with it the disk exists, with all that it needs.
	m := manifest{owner: o, next: 1}
	if err := replaceFile(cfg.FS, filepath.Join(cfg.Dir, manifestName), m.encode()); err != nil {
		return cluster.DiskID{}, fmt.Errorf("format %s: %w", cfg.Dir, err)
	}
	page := make([]byte, pageBytes)
	putPage(page, magicIdentity, o)
	binary.LittleEndian.PutUint64(page[pageHead:], uint64(cfg.Now().UnixMilli()))
	sealPage(page)
	if err := replaceFile(cfg.FS, filepath.Join(cfg.Dir, identityName), twice(page)); err != nil {
		return cluster.DiskID{}, fmt.Errorf("format %s: %w", cfg.Dir, err)
	}
	return o.disk, nil
}

// readIdentity checks that the directory is the disk that cfg expects.
func readIdentity(fsys vfs.FS, cfg Config) (owner, error) {
	var o owner
	_, _, err := readTwice(fsys, filepath.Join(cfg.Dir, identityName), parseIdentity(&o))
	if err != nil {
		return owner{}, err
	}
	if o.cluster != cfg.Cluster {
		return owner{}, fmt.Errorf("%w: disk of cluster %x, want %x", cluster.ErrInvalid, o.cluster, cfg.Cluster)
	}
	if !cfg.ID.IsZero() && o.disk != cfg.ID {
		return owner{}, fmt.Errorf("%w: disk %s, want %s", cluster.ErrInvalid, o.disk, cfg.ID)
	}
	return o, nil
}

// twice doubles b, so that one damaged sector does not take the disk away.
func twice(b []byte) []byte { return append(append(make([]byte, 0, 2*len(b)), b...), b...) }

func parseIdentity(o *owner) func([]byte) error {
	return func(page []byte) (err error) { *o, err = checkPage(page, magicIdentity); return err }
}

// readTwice gives parse the first copy in a file of two, then the second if that
// fails. good is the copy that was taken; alike tells whether the other is the
// same.
func readTwice(fsys vfs.FS, path string, parse func([]byte) error) (good []byte, alike bool, err error) {
	b, err := readFile(fsys, path)
	if err != nil {
		return nil, false, err
	}
	half := len(b) / 2
	if half < pageBytes {
		return nil, false, fmt.Errorf("%s: %w: %d bytes", filepath.Base(path), cluster.ErrCorrupt, len(b))
	}
	good = b[:half]
	if err := parse(good); err != nil {
		good = b[half : 2*half]
		if err := parse(good); err != nil {
			return nil, false, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	return good, bytes.Equal(b[:half], b[half:]), nil
}

// readOwn is readTwice of a file of this disk. A copy that is damaged is written
// again from the other, so that the next damage does not meet a single one.
func (d *Disk) readOwn(name string, parse func([]byte) error) error {
	path := filepath.Join(d.cfg.Dir, name)
	good, alike, err := readTwice(d.fs, path, parse)
	if err != nil || alike {
		return err
	}
	// Nothing is lost if it fails: what is there is still good for once.
	err = replaceFile(d.fs, path, twice(good))
	d.log.Warn("one copy was damaged; written again", "file", name, "err", err)
	return nil
}

// replaceFile puts content under name, durably and atomically: a crash leaves
// the old or the new. It is the only place that renames.
func replaceFile(fsys vfs.FS, name string, content []byte) error {
	temp := name + tempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteVec([][]byte{content}, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// maxSmallFile bounds what readFile takes into memory.
const maxSmallFile = 64 << 20

func readFile(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.OpenRead(name)
	if err != nil {
		return nil, err
	}
	b, err := func() ([]byte, error) {
		size, err := f.Size()
		if err != nil {
			return nil, err
		}
		if size > maxSmallFile {
			return nil, fmt.Errorf("%w: %s has %d bytes", cluster.ErrCorrupt, name, size)
		}
		b := make([]byte, size)
		n, err := f.ReadVec([][]byte{b}, 0)
		if err == io.EOF {
			err = nil
		}
		return b[:n], err
	}()
	return b, errors.Join(err, f.Close())
}
