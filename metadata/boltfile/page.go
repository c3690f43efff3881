package boltfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

// The layout of bbolt's pages; numbers are in the byte order of the machine.
const (
	headerBytes  = 16 // id u64, flags u16, count u16, overflow u32
	metaBytes    = 64 // behind the header of pages 0 and 1
	elementBytes = 16
	bucketBytes  = 16 // root page u64, sequence u64; then a page if root is 0

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	magic       = 0xED0CDAED
	fileVersion = 2
	noFreelist  = ^uint64(0)
)

var order = binary.NativeEndian

// meta is what a meta page says.
type meta struct {
	pageSize             int
	root, freelist, high uint64
	txid                 uint64
}

// parseMeta checks meta page id; b begins with its header.
func parseMeta(b []byte, id uint64) (meta, error) {
	if len(b) < headerBytes+metaBytes {
		return meta{}, fmt.Errorf("meta page of %d bytes", len(b))
	}
	if f := order.Uint16(b[8:]); f != flagMeta || order.Uint64(b) != id {
		return meta{}, fmt.Errorf("meta page %d says that it is %d, with flags %#x", id, order.Uint64(b), f)
	}
	m := b[headerBytes:]
	h := fnv.New64a()
	_, _ = h.Write(m[:56]) // a hash does not fail
	if order.Uint32(m) != magic || order.Uint32(m[4:]) != fileVersion || order.Uint64(m[56:]) != h.Sum64() {
		return meta{}, fmt.Errorf("meta page %d does not check", id)
	}
	out := meta{pageSize: int(order.Uint32(m[8:])), root: order.Uint64(m[16:]), freelist: order.Uint64(m[32:]),
		high: order.Uint64(m[40:]), txid: order.Uint64(m[48:])}
	if out.pageSize < 512 || out.pageSize > 1<<20 || out.pageSize&(out.pageSize-1) != 0 {
		return meta{}, fmt.Errorf("page size %d", out.pageSize)
	}
	return out, nil
}

// element is one entry of a branch or leaf page.
type element struct {
	key, value []byte
	child      uint64 // of a branch
	bucket     bool   // the value is a bucket's head
}

// parseElements reads all entries of a page and checks that they lie in it, in
// order and within [lo, hi); nil bounds are open.
func parseElements(b []byte, lo, hi []byte) ([]element, error) {
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if headerBytes+count*elementBytes > len(b) {
		return nil, fmt.Errorf("%d entries do not fit", count)
	}
	out := make([]element, 0, count)
	for i := range count {
		at := headerBytes + i*elementBytes
		raw := b[at:]
		var e element
		var pos, ksize, vsize uint64
		if flags == flagBranch {
			pos, ksize, e.child = uint64(order.Uint32(raw)), uint64(order.Uint32(raw[4:])), order.Uint64(raw[8:])
		} else {
			kind := order.Uint32(raw)
			if kind > 1 {
				return nil, fmt.Errorf("entry %d is of kind %#x", i, kind)
			}
			e.bucket = kind == 1
			pos, ksize, vsize = uint64(order.Uint32(raw[4:])), uint64(order.Uint32(raw[8:])), uint64(order.Uint32(raw[12:]))
		}
		from := uint64(at) + pos
		if from < uint64(headerBytes+count*elementBytes) || from+ksize+vsize > uint64(len(b)) || ksize == 0 {
			return nil, fmt.Errorf("entry %d lies outside the page", i)
		}
		e.key, e.value = b[from:from+ksize:from+ksize], b[from+ksize:from+ksize+vsize:from+ksize+vsize]
		if i == 0 && lo != nil && bytes.Compare(e.key, lo) < 0 || i > 0 && bytes.Compare(e.key, out[i-1].key) <= 0 ||
			hi != nil && bytes.Compare(e.key, hi) >= 0 {
			return nil, fmt.Errorf("entry %d is out of order", i)
		}
		out = append(out, e)
	}
	return out, nil
}

// parseFreelist lists the free pages; b is the whole page with its overflow.
func parseFreelist(b []byte) ([]uint64, error) {
	count, ids := uint64(order.Uint16(b[10:])), b[headerBytes:]
	if count == 0xFFFF {
		if len(ids) < 8 {
			return nil, fmt.Errorf("free list without its length")
		}
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return nil, fmt.Errorf("free list of %d pages does not fit", count)
	}
	out := make([]uint64, count)
	for i := range out {
		out[i] = order.Uint64(ids[8*i:])
	}
	return out, nil
}
