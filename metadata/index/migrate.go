package index

import (
	"bytes"
	"encoding/binary"

	"bivalve/metadata"
)

// migrate makes a file of an earlier format one of this format, in one transaction.
// All that it adds follows from what is there, so replicas still agree.
func (ix *Index) migrate(format []byte) error {
	if bytes.Equal(format, formatOne) {
		if err := ix.seal(); err != nil {
			return err
		}
	} else if raw := ix.t.meta.Get(keyDigest); len(raw) == 8 {
		ix.digest = binary.BigEndian.Uint64(raw)
	}
	if err := ix.loadStats(); err != nil {
		return err
	}
	if bytes.Equal(format, formatOne) || bytes.Equal(format, formatTwo) {
		if err := ix.derive(); err != nil {
			return err
		}
	}
	if err := ix.deriveNamed(); err != nil {
		return err
	}
	if err := ix.deriveUsage(); err != nil {
		return err
	}
	if err := ix.saveUsage(); err != nil {
		return err
	}
	stats, err := metadata.EncodeBody(ix.stats)
	if err != nil {
		return err
	}
	if err := ix.t.meta.Put(keyStats, stats); err != nil {
		return err
	}
	if err := ix.t.meta.Put(keyDigest, binary.BigEndian.AppendUint64(nil, ix.digest)); err != nil {
		return err
	}
	if err := ix.t.meta.b.Put(keyFormat, formatNow); err != nil {
		return err
	}
	if err := ix.tx.Commit(); err != nil {
		return commitFailed(err)
	}
	return ix.begin()
}

// seal gives every record of a file of format 1 its sum.
func (ix *Index) seal() error {
	for _, t := range []table{ix.t.meta, ix.t.config, ix.t.buckets, ix.t.objects, ix.t.uploads, ix.t.parts,
		ix.t.finished, ix.t.finishedQ, ix.t.garbage, ix.t.fences, ix.t.requests} {
		var kept [][2][]byte // a cursor does not survive a change
		err := t.b.ForEach(func(k, v []byte) error {
			kept = append(kept, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
			return nil
		})
		if err != nil {
			return err
		}
		for _, kv := range kept {
			if err := t.b.Delete(kv[0]); err != nil { // or Put would expect a sum
				return err
			}
			if err := t.Put(kv[0], kv[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// derive fills the tables that formats 1 and 2 did not have: who owns which blob,
// and the queue of the healer.
func (ix *Index) derive() error {
	s := &ix.stats
	s.UnderProtected, s.UnderBytes, s.WithBlobs, s.AtRisk = 0, 0, 0, map[string]int64{}
	_, last, err := readApplied(ix.t.meta)
	if err != nil {
		return err
	}
	ix.lastTime = last // what lacks shards counts as if it did from then on
	cur := ix.t.objects.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		v, err := metadata.DecodeVersion(metadata.BucketID(k[:16]), string(k[16:]), raw)
		if err != nil {
			return err
		}
		if err := ix.hold(metadata.VersionOwner(&v), v.Parts, v.Bytes); err != nil {
			return err
		}
	}
	cur = ix.t.parts.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var p metadata.Part
		if err := decodeRow(raw, &p); err != nil {
			return err
		}
		if err := ix.hold(metadata.PartOwner(metadata.UploadID(k[:16]), p.Number), []metadata.Part{p}, p.Bytes); err != nil {
			return err
		}
	}
	cur = ix.t.garbage.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var b metadata.Blob
		if err := decodeRow(raw, &b); err != nil {
			return err
		}
		switch _, held, err := ix.holding(b.ID); {
		case err != nil:
			return err
		case held:
			continue
		}
		if err := ix.putHolding(b.ID, holding{}); err != nil {
			return err
		}
	}
	return nil
}
