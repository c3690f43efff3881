package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"bivalve/cluster/disk/vfs"
)

// segment is one live segment file. What is not said to be guarded never changes.
type segment struct {
	number uint64
	kind   segmentKind
	shape  shape
	path   string
	seed   uint64

	// guarded by Disk.mu
	sealed   bool
	end      int64 // of the last record that is in the index
	live     int64 // bytes of records that are not dead, padding included
	tombs    int64 // bytes of tombstones
	punched  int64 // bytes given back inside dead records
	shards   int64 // live ones
	quarrels bool  // compaction met damage: leave it to heal
	swept    int   // Disk.drops+1 when its tombstones were last looked through
}

func segmentName(number uint64, kind segmentKind) string {
	return fmt.Sprintf("seg-%010d.%s", number, kind)
}

func parseSegmentName(name string) (number uint64, kind segmentKind, ok bool) {
	digits, ext, ok := strings.Cut(strings.TrimPrefix(name, "seg-"), ".")
	number, err := strconv.ParseUint(digits, 10, 64)
	switch ext {
	case "small":
		kind = smallSegment
	case "large":
		kind = largeSegment
	default:
		ok = false
	}
	return number, kind, ok && err == nil && name == segmentName(number, kind)
}

func (d *Disk) newSegment(number uint64, kind segmentKind) *segment {
	return &segment{
		number: number, kind: kind, shape: shapeOf(kind), end: pageBytes,
		path: filepath.Join(d.cfg.Dir, segmentName(number, kind)), seed: recordSeed(d.owner, number),
	}
}

// dead is how many bytes a compaction of the segment would give back.
func (s *segment) dead() int64 { return max(0, s.end-pageBytes-s.live-s.tombs-s.punched) }

// maxHandles bounds the open files of a disk's readers.
const maxHandles = 256

// handles keeps segment files open for reading. The least recently used idle one
// makes room; one in use is closed by its last user.
type handles struct {
	fs   vfs.FS
	mu   sync.Mutex
	open map[uint64]*handle
	tick uint64
}

type handle struct {
	file  vfs.File
	users int
	used  uint64
	drop  bool
}

func (h *handles) get(s *segment) (*handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tick++
	if f := h.open[s.number]; f != nil {
		f.users++
		f.used = h.tick
		return f, nil
	}
	// Opening under the lock keeps one file per segment; it touches no data.
	file, err := h.fs.OpenRead(s.path)
	if err != nil {
		return nil, err
	}
	if h.open == nil {
		h.open = map[uint64]*handle{}
	}
	if len(h.open) >= maxHandles {
		h.evict()
	}
	f := &handle{file: file, users: 1, used: h.tick}
	h.open[s.number] = f
	return f, nil
}

// evict drops the idle file that was used longest ago.
func (h *handles) evict() {
	var oldest uint64
	var found *handle
	for n, f := range h.open {
		if f.users == 0 && (found == nil || f.used < found.used) {
			oldest, found = n, f
		}
	}
	if found != nil {
		delete(h.open, oldest)
		_ = found.file.Close() // read only: nothing can be lost
	}
}

func (h *handles) put(f *handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.users--
	if f.drop && f.users == 0 {
		_ = f.file.Close() // read only: nothing can be lost
	}
}

// forget closes the file of a segment that is gone, now or after its last user.
func (h *handles) forget(number uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.open[number]
	if f == nil {
		return nil
	}
	delete(h.open, number)
	if f.drop = true; f.users == 0 {
		return f.file.Close()
	}
	return nil
}

func (h *handles) close() error {
	h.mu.Lock()
	numbers := make([]uint64, 0, len(h.open))
	for n := range h.open {
		numbers = append(numbers, n)
	}
	h.mu.Unlock()
	var errs []error
	for _, n := range numbers {
		errs = append(errs, h.forget(n))
	}
	return errors.Join(errs...)
}
