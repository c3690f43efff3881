package vfs

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
)

// sector is the unit that a power cut keeps or loses whole.
const sector = 512

// MemFS is a strict file system in memory. A Crash forgets what was not synced:
// bytes without SyncData or Sync, directory entries without SyncDir, removals
// and renames too. Unlike real ones it never makes a directory entry durable
// because the file was synced.
type MemFS struct {
	mu       sync.Mutex
	life     int // counts crashes; handles and locks of an earlier life are dead
	capacity int64
	noDirect bool
	dirs     map[string]bool
	names    map[string]*inode // as seen now
	durable  map[string]*inode // as of the last SyncDir of each directory
	pending  []dirOp           // since then, in order
	locks    map[string]int    // name -> life
}

type inode struct {
	data   []byte
	synced []byte
	dirty  map[int64]struct{} // sectors written since the last sync
	holes  map[int64]struct{} // pages that take no space
}

// dirOp sets to, removes from, or both at once (a rename).
type dirOp struct {
	from, to string
	node     *inode
}

var _ FS = (*MemFS)(nil)

// NewMemFS is an empty file system of the given size; direct tells whether it
// takes O_DIRECT.
func NewMemFS(capacity int64, direct bool) *MemFS {
	return &MemFS{
		capacity: capacity, noDirect: !direct, dirs: map[string]bool{},
		names: map[string]*inode{}, durable: map[string]*inode{}, locks: map[string]int{},
	}
}

// Crash cuts the power. Of each unsynced sector and each unsynced directory
// operation it is random whether it had reached the disk; keep in 0..1 is how
// likely. Open files and locks are dead after it.
func (m *MemFS) Crash(rng *rand.Rand, keep float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life++
	for _, op := range m.pending {
		if rng.Float64() < keep {
			op.apply(m.durable)
		}
	}
	m.pending = nil
	m.names = make(map[string]*inode, len(m.durable))
	names := make([]string, 0, len(m.durable))
	for name := range m.durable {
		names = append(names, name)
	}
	sort.Strings(names) // so that a seed replays
	done := map[*inode]bool{}
	for _, name := range names {
		n := m.durable[name]
		m.names[name] = n
		if !done[n] {
			done[n] = true
			n.crash(rng, keep)
		}
	}
}

func (n *inode) crash(rng *rand.Rand, keep float64) {
	size := len(n.synced)
	if len(n.data) != size && rng.Float64() < keep {
		size = len(n.data)
	}
	after := make([]byte, size)
	copy(after, n.synced)
	dirty := make([]int64, 0, len(n.dirty))
	for s := range n.dirty {
		dirty = append(dirty, s)
	}
	sort.Slice(dirty, func(i, j int) bool { return dirty[i] < dirty[j] })
	// Sometimes whole pages go together, as the kernel writes them back.
	group := int64(1)
	if rng.IntN(2) == 0 {
		group = 8
	}
	last, take := int64(-1), false
	for _, s := range dirty {
		if s/group != last {
			last, take = s/group, rng.Float64() < keep
		}
		from := s * sector
		if take && from < int64(size) && from < int64(len(n.data)) {
			copy(after[from:], n.data[from:min(from+sector, int64(len(n.data)))])
		}
	}
	n.data, n.synced, n.dirty, n.holes = after, bytes.Clone(after), nil, nil
}

func (op dirOp) apply(names map[string]*inode) {
	if op.from != "" {
		delete(names, op.from)
	}
	if op.to != "" {
		names[op.to] = op.node
	}
}

func (m *MemFS) change(op dirOp) {
	op.apply(m.names)
	m.pending = append(m.pending, op)
}

func notExist(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// Create implements FS.
func (m *MemFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	n := &inode{}
	m.change(dirOp{to: name, node: n})
	return &memFile{fs: m, node: n, life: m.life, name: name, write: true}, nil
}

func (m *MemFS) open(name string, write bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[name]
	if n == nil {
		return nil, notExist("open", name)
	}
	return &memFile{fs: m, node: n, life: m.life, name: name, write: write}, nil
}

// OpenRead implements FS.
func (m *MemFS) OpenRead(name string) (File, error) { return m.open(name, false) }

// OpenDirect implements FS.
func (m *MemFS) OpenDirect(name string) (File, error) {
	if m.noDirect {
		return nil, ErrDirect
	}
	f, err := m.open(name, false)
	if err == nil {
		f.(*memFile).direct = true
	}
	return f, err
}

// OpenWrite implements FS.
func (m *MemFS) OpenWrite(name string, direct bool) (File, error) {
	if direct && m.noDirect {
		return nil, ErrDirect
	}
	f, err := m.open(name, true)
	if err == nil {
		f.(*memFile).direct = direct
	}
	return f, err
}

// Remove implements FS.
func (m *MemFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names[name] == nil {
		return notExist("remove", name)
	}
	m.change(dirOp{from: name})
	return nil
}

// Rename implements FS.
func (m *MemFS) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[oldName]
	if n == nil {
		return notExist("rename", oldName)
	}
	m.change(dirOp{from: oldName, to: newName, node: n})
	return nil
}

// MkdirAll implements FS. Directories are durable at once.
func (m *MemFS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dirs[filepath.Clean(dir)] = true
	return nil
}

// SyncDir implements FS.
func (m *MemFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := m.pending[:0]
	for _, op := range m.pending {
		name := op.to
		if name == "" {
			name = op.from
		}
		if filepath.Dir(name) == filepath.Clean(dir) {
			op.apply(m.durable)
		} else {
			left = append(left, op)
		}
	}
	m.pending = left
	return nil
}

// ReadDir implements FS.
func (m *MemFS) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[filepath.Clean(dir)] {
		return nil, notExist("readdir", dir)
	}
	var names []string
	for name := range m.names {
		if filepath.Dir(name) == filepath.Clean(dir) {
			names = append(names, filepath.Base(name))
		}
	}
	sort.Strings(names)
	return names, nil
}

type memLock struct {
	m    *MemFS
	name string
	life int
}

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.life == l.life {
		delete(l.m.locks, l.name)
	}
	return nil
}

// Lock implements FS.
func (m *MemFS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if life, held := m.locks[name]; held && life == m.life {
		return nil, ErrLocked
	}
	m.locks[name] = m.life
	return memLock{m, name, m.life}, nil
}

func (m *MemFS) used() int64 {
	var used int64
	seen := map[*inode]bool{}
	for _, n := range m.names {
		if !seen[n] {
			seen[n] = true
			used += int64(len(n.data)) - holePage*int64(len(n.holes))
		}
	}
	return used
}

// SetCapacity changes the size of the file system.
func (m *MemFS) SetCapacity(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = n
}

// Space implements FS.
func (m *MemFS) Space(string) (capacity, free int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.capacity, max(0, m.capacity-m.used()), nil
}

// errNoSpace is what a full file system answers.
var errNoSpace error = syscall.ENOSPC

// Pin implements FS. Nothing is ever mounted over a directory in memory, so the
// name stays where it is until Inject says otherwise.
func (m *MemFS) Pin(dir string) (Pinned, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[filepath.Clean(dir)] {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist}
	}
	return memPinned{m}, nil
}

type memPinned struct{ *MemFS }

func (memPinned) InPlace() error { return nil }
func (memPinned) Close() error   { return nil }
