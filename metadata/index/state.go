package index

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"bivalve/metadata"
)

var (
	keyFormat  = []byte("format")
	keyApplied = []byte("applied")
	keyStats   = []byte("stats")
	keyDigest  = []byte("digest")
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
	if err := ix.saveUsage(); err != nil {
		return err
	}
	// The format says how to read the rest, so it is the one record without a sum.
	if err := ix.t.meta.b.Put(keyFormat, formatNow); err != nil {
		return fmt.Errorf("index %s: %w", ix.path, err)
	}
	for _, kv := range []struct{ k, v []byte }{
		{keyApplied, buf}, {keyStats, stats}, {keyDigest, binary.BigEndian.AppendUint64(nil, ix.digest)},
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
	ix.requests, ix.buckets = map[metadata.RequestID]int64{}, 0
	ix.digest = 0
	ix.usage, ix.used = map[metadata.BucketID]*metadata.Usage{}, map[metadata.BucketID]bool{}
	format := ix.t.meta.b.Get(keyFormat)
	if format == nil {
		ix.dirty = true // a new file: the first Flush makes it one of this format
		return nil
	}
	if !bytes.Equal(format, formatNow) {
		if err := ix.migrate(format); err != nil {
			return fmt.Errorf("index %s: rewrite a file of an earlier format: %w", ix.path, err)
		}
	}
	if raw := ix.t.meta.Get(keyDigest); len(raw) == 8 {
		ix.digest = binary.BigEndian.Uint64(raw)
	}
	var err error
	if ix.applied, ix.lastTime, err = readApplied(ix.t.meta); err != nil {
		return fmt.Errorf("index %s: %w", ix.path, err)
	}
	ix.durable = ix.applied
	if err := ix.loadStats(); err != nil {
		return fmt.Errorf("index %s: stats: %w", ix.path, err)
	}
	if err := ix.loadUsage(); err != nil {
		return fmt.Errorf("index %s: usage: %w", ix.path, err)
	}
	cur := ix.t.buckets.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		ix.buckets++
	}
	cur = ix.t.requests.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		at, id, err := parseRequestKey(k)
		if err != nil {
			return fmt.Errorf("index %s: %w", ix.path, err)
		}
		ix.requests[id] = at
	}
	return nil
}

func (ix *Index) loadStats() error {
	if err := metadata.DecodeBody(ix.t.meta.Get(keyStats), &ix.stats); err != nil {
		return err
	}
	if ix.stats.AtRisk == nil {
		ix.stats.AtRisk = map[string]int64{}
	}
	return nil
}

func readApplied(meta table) (Applied, int64, error) {
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
