package replica

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/zeebo/xxh3"
)

// kvImage is the state of the tests' state machine: registers that are swapped,
// with the results by request id, so that a repeated request applies once.
type kvImage struct {
	At   Applied
	KV   map[string]string
	Done map[string]string // request id -> result
	Runs int               // commands that took effect
}

func (im kvImage) clone() kvImage {
	im.KV, im.Done = maps.Clone(im.KV), maps.Clone(im.Done)
	return im
}

// kvDisk holds what survives a crash: in memory, or in a file if path is set.
type kvDisk struct {
	path  string
	image kvImage
	// harmed: what is open on it fails from now on. The next life finds garbage.
	harmed bool
}

func (d *kvDisk) check() error {
	if d.harmed {
		return fmt.Errorf("kv: %w", ErrDamaged)
	}
	return nil
}

func (d *kvDisk) load() error {
	d.image.KV, d.image.Done = map[string]string{}, map[string]string{}
	if d.path == "" {
		return nil
	}
	b, err := os.ReadFile(d.path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(b) < 8 || binary.BigEndian.Uint64(b) != xxh3.Hash(b[8:]) {
		return fmt.Errorf("%s: %w", d.path, ErrDamaged)
	}
	return json.Unmarshal(b[8:], &d.image)
}

func (d *kvDisk) store(im kvImage) error {
	d.image = im.clone()
	if d.path == "" {
		return nil
	}
	b, err := json.Marshal(im)
	if err != nil {
		return err
	}
	b = append(binary.BigEndian.AppendUint64(nil, xxh3.Hash(b)), b...)
	tmp := d.path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, d.path)
}

// kv is the state machine: a command is "id key value", a query is a key.
type kv struct {
	mu   sync.RWMutex
	disk *kvDisk
	now  kvImage
}

func openKV(d *kvDisk) *kv { return &kv{disk: d, now: d.image.clone()} }

func command(id, key, value string) []byte { return []byte(id + " " + key + " " + value) }

func (m *kv) ApplyBatch(entries []Entry, conf []byte) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.disk.check(); err != nil {
		return nil, err
	}
	out := make([][]byte, len(entries))
	for i, e := range entries {
		if e.Index != m.now.At.Index+1 {
			return nil, fmt.Errorf("kv: entry %d after %d", e.Index, m.now.At.Index)
		}
		m.now.At.Index, m.now.At.Term = e.Index, e.Term
		if e.Data == nil {
			continue
		}
		var id, key, value string
		if _, err := fmt.Sscanf(string(e.Data), "%s %s %s", &id, &key, &value); err != nil {
			return nil, fmt.Errorf("kv: %q: %w", e.Data, ErrHalt)
		}
		old, again := m.now.Done[id]
		if !again {
			old = m.now.KV[key]
			m.now.KV[key], m.now.Done[id] = value, old
			m.now.Runs++
		}
		out[i] = []byte(old)
	}
	if conf != nil {
		m.now.At.ConfState = conf
	}
	return out, nil
}

func (m *kv) Query(q []byte) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.disk.check(); err != nil {
		return nil, err
	}
	if len(q) == 0 {
		return nil, fmt.Errorf("kv: empty query")
	}
	return []byte(m.now.KV[string(q)]), nil
}

func (m *kv) Applied() Applied { return m.now.At }
func (m *kv) Durable() Applied { return m.disk.image.At }

func (m *kv) Flush() (Applied, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.disk.check(); err != nil {
		return Applied{}, err
	}
	return m.now.At, m.disk.store(m.now)
}

func (m *kv) StreamSnapshot(w io.Writer) (Applied, error) {
	m.mu.RLock()
	im, err := m.disk.image.clone(), m.disk.check()
	m.mu.RUnlock()
	if err != nil {
		return Applied{}, err
	}
	return im.At, json.NewEncoder(w).Encode(im)
}

func (m *kv) InstallSnapshot(path string) (Applied, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Applied{}, err
	}
	var im kvImage
	if err := json.Unmarshal(b, &im); err != nil {
		return Applied{}, fmt.Errorf("kv: %w: %w", ErrBadSnapshot, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.disk.store(im); err != nil {
		return Applied{}, err
	}
	m.disk.harmed = false
	m.now = im.clone()
	return im.At, os.Remove(path)
}

// restoreKV replaces what the disk holds.
func restoreKV(d *kvDisk, path string) (StateMachine, error) {
	m := openKV(d)
	if _, err := m.InstallSnapshot(path); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *kv) image() kvImage {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.now.clone()
}

func (m *kv) Close() error { return nil }

// openKVFile is a NewStateMachine over files in dir.
func openKVFile(dir string) func(GroupID) (StateMachine, error) {
	return func(g GroupID) (StateMachine, error) {
		d := &kvDisk{path: filepath.Join(dir, fmt.Sprintf("kv-%d.json", g))}
		if err := d.load(); err != nil {
			return nil, err
		}
		return openKV(d), nil
	}
}

func restoreKVFile(dir string) func(GroupID, string) (StateMachine, error) {
	return func(g GroupID, path string) (StateMachine, error) {
		return restoreKV(&kvDisk{path: filepath.Join(dir, fmt.Sprintf("kv-%d.json", g))}, path)
	}
}
