package keyring

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"bivalve/server/object/seal"
)

// lookEvery is how often the file is looked at for a change, at most; for a key
// that is not known at once, but not more often than lookAgain.
const (
	lookEvery = 5 * time.Second
	lookAgain = time.Second
)

// Ring is an open keyring. It is safe for concurrent use.
type Ring struct {
	path, secret string
	logger       *slog.Logger
	now          func() time.Time

	mu     sync.Mutex
	keys   map[string]seal.Key
	active string
	looked time.Time
	stamp  os.FileInfo
}

// Open reads the keyring at path. secret is keyring_key of the secrets file.
func Open(path, secret string, logger *slog.Logger, now func() time.Time) (*Ring, error) {
	r := &Ring{path: path, secret: secret, logger: logger, now: now}
	return r, r.read()
}

// read is called with the lock held, or before anybody else knows the ring.
func (r *Ring) read() error {
	r.looked = r.now()
	stamp, err := os.Stat(r.path)
	if err != nil {
		return err
	}
	if r.stamp != nil && os.SameFile(stamp, r.stamp) && stamp.ModTime().Equal(r.stamp.ModTime()) {
		return nil
	}
	f, err := Load(r.path)
	if err != nil {
		return err
	}
	keys, err := f.open(r.secret)
	if err != nil {
		return err
	}
	r.keys, r.active, r.stamp = keys, f.Active, stamp
	return nil
}

// look reads the file again if it has changed and was not looked at lately. A file
// that cannot be read leaves the keys that are known.
func (r *Ring) look(every time.Duration) {
	if r.now().Sub(r.looked) < every {
		return
	}
	was := r.active
	if err := r.read(); err != nil {
		r.logger.Error("the keyring has changed and cannot be read; the keys read before stay", "file", r.path, "err", err)
		return
	}
	if r.active != was {
		r.logger.Info("another master key is active", "key", r.active)
	}
}

// Seal seals a data key with the active master key and answers its id.
func (r *Ring) Seal(k seal.Key, context []byte) (id string, sealed []byte, err error) {
	r.mu.Lock()
	r.look(lookEvery)
	id, master := r.active, r.keys[r.active]
	r.mu.Unlock()
	sealed, err = seal.Wrap(master[:], k, context, random)
	return id, sealed, err
}

// Open opens a data key that was sealed with the master key of that id.
func (r *Ring) Open(id string, sealed, context []byte) (seal.Key, error) {
	r.mu.Lock()
	master, known := r.keys[id]
	if !known {
		r.look(lookAgain)
		master, known = r.keys[id]
	}
	r.mu.Unlock()
	if !known {
		return seal.Key{}, fmt.Errorf("keyring: master key %q is not in %s", id, r.path)
	}
	return seal.Unwrap(master[:], sealed, context)
}

// Active is the id of the key that seals now.
func (r *Ring) Active() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active
}
