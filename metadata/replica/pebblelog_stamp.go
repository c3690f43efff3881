package replica

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"
)

// Pebble alone cuts its write-ahead log at the first record that does not fit when
// nothing in a later 32 KiB block speaks against it, and its MANIFEST at the first
// bad record in any case: a flipped bit there would silently take acknowledged
// saves away. So the saves are numbered. Each one
//
//   - carries its number, as a stamp that can be found in the raw bytes of a
//     write-ahead log, at its beginning and at its end;
//   - has a key of its own, so that a missing one is a gap.
//
// A save is synced before the next one is written. Hence, at open: a stamp with a
// number two or more beyond the last save that Pebble brought back means that a
// synced save was lost from the end of the log; a gap in the keys means that one
// was lost before it. Only damage to the very last save looks like a torn one.

// savesKept is how many saves keep their keys: more than the write-ahead logs that
// wait for a flush can hold, so that what they follow is always among them.
const savesKept = 1 << 17

const (
	stampMagic = "bvsave\x01\xe7"
	stampBytes = len(stampMagic) + 8 + 8 + 8
)

// encodeStamp: magic, store, save, sum of all before.
func encodeStamp(store, save uint64) []byte {
	b := append(make([]byte, 0, stampBytes), stampMagic...)
	b = binary.BigEndian.AppendUint64(b, store)
	b = binary.BigEndian.AppendUint64(b, save)
	return binary.BigEndian.AppendUint64(b, xxh3.Hash(b))
}

// findStamps reports the highest save that the write-ahead logs speak of, for each
// store: clients choose part of the bytes there, but do not know a store's number.
func findStamps(fs vfs.FS, dir string) (map[uint64]uint64, error) {
	seen := map[uint64]uint64{}
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return seen, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if path.Ext(name) != ".log" {
			continue
		}
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		collectStamps(data, seen)
	}
	return seen, nil
}

func collectStamps(data []byte, seen map[uint64]uint64) {
	for {
		at := bytes.Index(data, []byte(stampMagic))
		if at < 0 || len(data)-at < stampBytes {
			return
		}
		s := data[at : at+stampBytes]
		if xxh3.Hash(s[:stampBytes-8]) == binary.BigEndian.Uint64(s[stampBytes-8:]) {
			store := binary.BigEndian.Uint64(s[len(stampMagic):])
			seen[store] = max(seen[store], binary.BigEndian.Uint64(s[len(stampMagic)+8:]))
		}
		data = data[at+len(stampMagic):]
	}
}

// stamp numbers the save that fill makes of b.
func (l *PebbleLog) stamp(b *pebble.Batch, fill func(*pebble.Batch) error) error {
	n := l.saves + 1
	s := encodeStamp(l.store, n)
	if err := b.LogData(s, nil); err != nil { // in the write-ahead log only
		return err
	}
	if err := fill(b); err != nil {
		return err
	}
	if err := b.Set(saveKey(n), nil, nil); err != nil {
		return err
	}
	if n-l.oldest >= 2*l.kept {
		oldest := n - l.kept
		if err := errors.Join(
			b.DeleteRange(saveKey(l.oldest), saveKey(oldest), nil),
			b.Set(keyOldest, encodeNumber(keyOldest, oldest), nil),
		); err != nil {
			return err
		}
		l.oldest = oldest
	}
	l.saves = n
	return b.LogData(s, nil)
}

// loadStore reads the store's number, or draws one.
func (l *PebbleLog) loadStore(seen map[uint64]uint64) error {
	l.oldest = 1
	v, err := l.get(keyStore)
	if errors.Is(err, pebble.ErrNotFound) {
		for _, save := range seen {
			if save > 1 {
				return fmt.Errorf("%d saves are gone: %w", save-1, ErrCorrupt)
			}
		}
		var b [8]byte
		_, _ = rand.Read(b[:]) // does not fail
		l.store = binary.BigEndian.Uint64(b[:])
		return nil
	}
	if err != nil {
		return err
	}
	if l.store, err = decodeNumber(keyStore, v); err != nil {
		return err
	}
	if v, err = l.get(keyOldest); errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err == nil {
		l.oldest, err = decodeNumber(keyOldest, v)
	}
	return err
}

// checkSaves finds the last save and whether one was lost; seen is the last one
// that the write-ahead logs speak of.
func (l *PebbleLog) checkSaves(seen uint64) error {
	it, err := l.db.NewIter(prefixBounds(prefixSave))
	if err != nil {
		return err
	}
	next := l.oldest
	for it.First(); it.Valid(); it.Next() {
		if !bytes.Equal(it.Key(), saveKey(next)) {
			return errors.Join(fmt.Errorf("save %d is missing: %w", next, ErrCorrupt), it.Close())
		}
		next++
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	l.saves = next - 1
	if seen > l.saves+1 {
		return fmt.Errorf("saves up to %d were synced, %d are left: %w", seen-1, l.saves, ErrCorrupt)
	}
	return nil
}

func saveKey(n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixSave}, n)
}

// encodeNumber: version, number, sum of the key and both.
func encodeNumber(key []byte, n uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{recordVersion}, n)
	return binary.BigEndian.AppendUint64(b, numberSum(key, b))
}

func numberSum(key, b []byte) uint64 { return xxh3.HashSeed(b, xxh3.Hash(key)) }

func decodeNumber(key, b []byte) (uint64, error) {
	if len(b) != 17 || numberSum(key, b[:9]) != binary.BigEndian.Uint64(b[9:]) {
		return 0, fmt.Errorf("%s: %w", key, ErrCorrupt)
	}
	if b[0] != recordVersion {
		return 0, fmt.Errorf("%s: version %d: %w", key, b[0], ErrFormat)
	}
	return binary.BigEndian.Uint64(b[1:]), nil
}
