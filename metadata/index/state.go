package index

import (
	"encoding/binary"
	"fmt"

	"bivalve/metadata"

	"go.etcd.io/bbolt"
)

var (
	keyFormat  = []byte("format")
	keyApplied = []byte("applied")
	keyStats   = []byte("stats")
)

// save writes what is kept in memory into the open transaction.
func (ix *Index) save() error {
	buf := make([]byte, 24, 24+len(ix.applied.ConfState))
	binary.BigEndian.PutUint64(buf[0:], ix.applied.Index)
	binary.BigEndian.PutUint64(buf[8:], ix.applied.Term)
	binary.BigEndian.PutUint64(buf[16:], uint64(ix.lastTime))
	buf = append(buf, ix.applied.ConfState...)
	stats, err := metadata.EncodeBody(ix.stats)
	if err != nil {
		return err
	}
	for _, kv := range []struct{ k, v []byte }{
		{keyFormat, []byte{formatVersion}}, {keyApplied, buf}, {keyStats, stats},
	} {
		if err := ix.t.meta.Put(kv.k, kv.v); err != nil {
			return fmt.Errorf("index %s: %w", ix.path, err)
		}
	}
	return nil
}

// load reads it back after the file was opened.
func (ix *Index) load() error {
	ix.applied, ix.durable, ix.lastTime, ix.dirty = Applied{}, Applied{}, 0, false
	ix.stats = metadata.Stats{AtRisk: map[string]int64{}}
	ix.requests = map[metadata.RequestID]int64{}
	format := ix.t.meta.Get(keyFormat)
	if format == nil {
		ix.dirty = true // a new file: the first Flush makes it one of this format
		return nil
	}
	if len(format) != 1 || format[0] != formatVersion {
		return fmt.Errorf("index %s: %w: version %x", ix.path, ErrFormat, format)
	}
	var err error
	if ix.applied, ix.lastTime, err = readApplied(ix.t.meta); err != nil {
		return fmt.Errorf("index %s: %w", ix.path, err)
	}
	ix.durable = ix.applied
	if err := metadata.DecodeBody(ix.t.meta.Get(keyStats), &ix.stats); err != nil {
		return fmt.Errorf("index %s: stats: %w", ix.path, err)
	}
	if ix.stats.AtRisk == nil {
		ix.stats.AtRisk = map[string]int64{}
	}
	return ix.t.requests.ForEach(func(k, _ []byte) error {
		at, id, err := parseRequestKey(k)
		ix.requests[id] = at
		return err
	})
}

func readApplied(meta *bbolt.Bucket) (Applied, int64, error) {
	raw := meta.Get(keyApplied)
	if len(raw) < 24 {
		return Applied{}, 0, fmt.Errorf("%w: applied record of %d bytes", ErrFormat, len(raw))
	}
	return Applied{
		Index:     binary.BigEndian.Uint64(raw[0:]),
		Term:      binary.BigEndian.Uint64(raw[8:]),
		ConfState: append([]byte(nil), raw[24:]...),
	}, int64(binary.BigEndian.Uint64(raw[16:])), nil
}
