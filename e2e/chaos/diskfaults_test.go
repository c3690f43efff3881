//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mendWithin is how long a damaged disk may take until it is whole again.
const mendWithin = 60 * time.Second

// corruptDisk flips bytes in the segments of one disk, and has the region verify
// everything at the end. A disk that was damaged earlier is whole before another is
// damaged: two damaged disks in a zone may be more than the code survives.
func corruptDisk(t *turn) (func() error, error) {
	n := t.anyNode()
	dir := pick(t.rng, n.disks)
	if err := t.undamaged(t.ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotNow, err)
	}
	flips, err := flip(t.rng, dir)
	return t.begun(func() error { return t.scrubbed() }, err, "%d bytes of %s of %s", flips, filepath.Base(dir), n.id)
}

// errNotNow says that a fault's turn came when it would have broken more than the
// region promises to survive.
var errNotNow = errors.New("not now")

// undamaged waits until no disk is known to be damaged.
func (r *region) undamaged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return until(ctx, 250*time.Millisecond, func() error {
		s, err := r.status(ctx)
		if err != nil {
			return err
		}
		return wellness(s)
	})
}

// flip changes a few bytes in each segment of a disk, beyond its superblock.
func flip(rng *rand.Rand, dir string) (int, error) {
	var segments []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "seg-") {
			segments = append(segments, path)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if len(segments) == 0 {
		return 0, fmt.Errorf("%s has no segments", dir)
	}
	slices.Sort(segments)
	flips := 0
	for _, path := range segments {
		n, err := flipFile(rng, path)
		flips += n
		if err != nil {
			return flips, err
		}
	}
	return flips, nil
}

const superblock = 4096

func flipFile(rng *rand.Rand, path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // compacted away meanwhile
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	end, err := dataEnd(f)
	if err != nil || end <= superblock {
		return 0, err
	}
	const perFile = 8
	for range perFile {
		at := superblock + rng.Int64N(end-superblock)
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return 0, err
		}
		b[0] ^= byte(1 + rng.IntN(255))
		if _, err := f.WriteAt(b[:], at); err != nil {
			return 0, err
		}
	}
	return perFile, nil
}

// dataEnd is where the data of a preallocated file ends: what lies behind holds
// nothing that could be damaged.
func dataEnd(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const step = 64 << 10
	buf := make([]byte, step)
	for end := info.Size(); end > 0; end -= min(end, step) {
		from := max(0, end-step)
		if _, err := f.ReadAt(buf[:end-from], from); err != nil {
			return 0, err
		}
		if slices.ContainsFunc(buf[:end-from], func(b byte) bool { return b != 0 }) {
			return end, nil
		}
	}
	return 0, nil
}

// scrubbed has every node that runs verify its disks.
func (r *region) scrubbed() error {
	ctx, cancel := context.WithTimeout(context.Background(), mendWithin)
	defer cancel()
	return until(ctx, time.Second, func() error {
		var errs []error
		for _, n := range r.zone("") {
			if n.pid() == 0 {
				continue
			}
			if _, err := n.ask(ctx, http.MethodPost, "/v1/scrub"); err != nil {
				errs = append(errs, err)
				continue
			}
			return nil // it tells the others
		}
		return errors.Join(append(errs, errNotRunning)...)
	})
}

func needSmallDisks(r *region) error {
	if len(r.small) == 0 {
		return errors.New("no disk is on a file system of its own")
	}
	return nil
}

// fillDisk leaves a disk less room than its reserve.
func fillDisk(t *turn) (func() error, error) {
	zone, _ := t.anyZone()
	var n *node
	for id := range t.small {
		if t.node(id).zone == zone {
			n = t.node(id)
		}
	}
	filler := filepath.Join(t.small[n.id], "filler")
	undo := func() error { return os.Remove(filler) }
	var fs unix.Statfs_t
	if err := unix.Statfs(t.small[n.id], &fs); err != nil {
		return nil, err
	}
	f, err := os.Create(filler)
	if err != nil {
		return nil, err
	}
	take := int64(fs.Bavail)*fs.Bsize - smallReserve/2
	if take > 0 {
		err = unix.Fallocate(int(f.Fd()), 0, 0, take)
	}
	return t.begun(undo, errors.Join(err, f.Close()), "d1 of %s", n.id)
}
