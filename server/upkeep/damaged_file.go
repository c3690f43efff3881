package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bivalve/cluster"
)

// A disk's list of damaged shards ends with the process. What stays on it is kept
// in the file <disk>.damaged.json: at most maxKept of them, written when they
// changed, but not again within keepEvery.
const (
	maxKept   = 10_000
	keepEvery = 10 * time.Second
)

// kept is that file.
type kept struct {
	m    *Mender
	disk MendDisk
	keys []cluster.ShardKey // in the file
	at   time.Time          // when it was written
}

// recall has a disk that was just opened check what could not be mended before.
func (m *Mender) recall(ctx context.Context, d MendDisk) *kept {
	k := &kept{m: m, disk: d}
	var err error
	if k.keys, err = loadDamaged(m.cfg.Dir, d.ID()); err != nil {
		m.cfg.Logger.Warn("the scrub must find again what was damaged", "disk", d.ID().String(), "err", err)
	}
	for _, key := range k.keys {
		_ = d.Check(ctx, key) // what is still damaged is on its list now
	}
	return k
}

// keep writes the disk's list if it changed, or tells how long to wait with that.
func (k *kept) keep(now bool) time.Duration {
	var keys []cluster.ShardKey
	for _, s := range k.disk.Damaged(maxKept) {
		keys = append(keys, s.Key)
	}
	if slices.Equal(keys, k.keys) {
		return 0
	}
	if wait := k.at.Add(keepEvery).Sub(k.m.cfg.Now()); wait > 0 && !now {
		return wait
	}
	k.at = k.m.cfg.Now()
	if err := saveDamaged(k.m.cfg.Dir, k.disk.ID(), keys); err != nil {
		k.m.cfg.Logger.Warn("the list of damaged shards could not be written", "disk", k.disk.ID().String(), "err", err)
		return keepEvery
	}
	k.keys = keys
	return 0
}

func damagedFile(dir string, id cluster.DiskID) string {
	return filepath.Join(dir, id.String()+".damaged.json")
}

// loadDamaged lists the shards of a disk that could not be mended when the node
// ended. They are hints: the disk checks them.
func loadDamaged(dir string, id cluster.DiskID) (keys []cluster.ShardKey, err error) {
	raw, err := os.ReadFile(damagedFile(dir, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &keys)
	}
	if err != nil {
		return nil, fmt.Errorf("list of damaged shards: %w", err)
	}
	return keys, nil
}

// saveDamaged replaces the list; an empty one has no file.
func saveDamaged(dir string, id cluster.DiskID, keys []cluster.ShardKey) error {
	if len(keys) == 0 {
		if err := os.Remove(damagedFile(dir, id)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return syncDir(dir)
	}
	return WriteJSON(damagedFile(dir, id), keys)
}

// WriteJSON replaces a file as a whole, durably.
func WriteJSON(name string, v any) error {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
