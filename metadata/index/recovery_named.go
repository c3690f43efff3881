package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"bivalve/metadata"
)

func (ix *Index) blobsNamed(home uint16, id metadata.RefID) (n metadata.Naming, named bool, err error) {
	raw := ix.t.named.Get(namedKey(home, id))
	if raw == nil {
		return n, false, nil
	}
	return n, true, decodeRow(raw, &n)
}

func (ix *Index) storeNamed(n metadata.Naming) error {
	raw, err := metadata.EncodeBody(n)
	if err != nil {
		return err
	}
	return ix.t.named.Put(namedKey(n.Ref.Home, n.Ref.ID), raw)
}

// beginNaming keeps which blobs the first record that names a reference has by it.
func (ix *Index) beginNaming(r metadata.Reference, parts []metadata.Part) error {
	n := metadata.Naming{Ref: r}
	for _, p := range parts {
		if p.Blob != nil && p.Ref != nil && p.Ref.ID == r.ID {
			n.Blobs = append(n.Blobs, *p.Blob)
		}
	}
	return ix.storeNamed(n)
}

func (ix *Index) endNaming(r metadata.Reference) error {
	n, named, err := ix.blobsNamed(r.Home, r.ID)
	if err == nil && !named {
		err = fmt.Errorf("%w: a record names reference %x, of which no blobs are kept", ErrDamaged, r.ID)
	}
	if err != nil {
		return err
	}
	ix.stats.Broken -= one(n.Broken)
	return ix.t.named.Delete(namedKey(r.Home, r.ID))
}

func (ix *Index) queryRecovery(struct{}) (any, error) {
	out := metadata.Recovery{Epoch: ix.stats.Epoch}
	cur := ix.t.peers.Cursor()
	for k, raw := cur.First(); len(k) == 2; k, raw = cur.Next() {
		var p metadata.PeerState
		if err := decodeRow(raw, &p); err != nil {
			return nil, err
		}
		if p.Awaited {
			out.Awaited = append(out.Awaited, binary.BigEndian.Uint16(k))
		}
		if p.Untold {
			out.Untold = append(out.Untold, binary.BigEndian.Uint16(k))
		}
	}
	return out, nil
}

func (ix *Index) queryNamings(q metadata.NamingPage) (any, error) {
	var out metadata.Namings
	parts, size := 0, 0
	cur := ix.t.named.Cursor()
	for k, raw := cur.Seek(append(namedKey(q.Home, q.After), 0)); bytes.HasPrefix(k, peerKey(q.Home)); k, raw = cur.Next() {
		if len(out.Refs) >= min(max(q.Limit, 1), metadata.MaxReferences) || parts >= namedParts || len(out.Refs) > 0 && size+len(raw) > namedBytes {
			out.More = true
			break
		}
		var n metadata.Naming
		if err := decodeRow(raw, &n); err != nil {
			return nil, err
		}
		parts, size = parts+len(n.Blobs), size+len(raw)
		out.Refs = append(out.Refs, n)
	}
	return out, nil
}

// deriveNamed makes what formats before the seventh did not keep of references.
func (ix *Index) deriveNamed() error {
	begin := func(parts []metadata.Part) error {
		refs, _ := namings(parts)
		for _, r := range refs {
			switch _, named, err := ix.blobsNamed(r.Home, r.ID); {
			case err != nil:
				return err
			case named:
				continue
			}
			if err := ix.beginNaming(r, parts); err != nil {
				return err
			}
		}
		return nil
	}
	for _, t := range []table{ix.t.objects, ix.t.versions} {
		cur := t.Cursor() // of a table that this does not change
		for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
			v, err := metadata.DecodeVersion(metadata.BucketID{}, "", raw)
			if err := errors.Join(err, begin(v.Parts)); err != nil {
				return err
			}
		}
	}
	cur := ix.t.parts.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var p metadata.Part
		if err := decodeRow(raw, &p); err != nil {
			return err
		}
		if err := begin([]metadata.Part{p}); err != nil {
			return err
		}
	}
	return nil
}
