package boltfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// checker walks one file. Every page is visited once at most, so the work is
// bounded by the size of the file whatever it holds.
type checker struct {
	r     io.ReaderAt
	size  uint64
	visit Visit
	meta  meta
	seen  []uint64 // a bit for each page
}

// maxDepth of a tree: far more levels than a file could fill.
const maxDepth = 64

func damaged(format string, v ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, v...)...)
}

func (c *checker) file() error {
	if err := c.metas(); err != nil {
		return err
	}
	if c.meta.high < 3 || c.meta.high > c.size/uint64(c.meta.pageSize) {
		return damaged("%d pages do not fit %d bytes", c.meta.high, c.size)
	}
	c.seen = make([]uint64, c.meta.high/64+1)
	c.mark(0)
	c.mark(1)
	if err := c.tree(c.meta.root, nil, nil, nil, 0); err != nil {
		return err
	}
	return c.freelist()
}

// metas reads both meta pages and takes the newer one. bbolt is content with one
// that checks. A torn write cannot have spoilt the other, for what counts of it
// lies in one sector, so the transaction that it confirmed may be lost.
func (c *checker) metas() error {
	var b [headerBytes + metaBytes]byte
	if err := c.read(b[:], 0); err != nil {
		return err
	}
	first, err := parseMeta(b[:], 0)
	if err != nil {
		return damaged("%w", err)
	}
	if err := c.read(b[:], int64(first.pageSize)); err != nil {
		return err
	}
	second, err := parseMeta(b[:], 1)
	if err != nil {
		return damaged("%w", err)
	}
	if first.pageSize != second.pageSize || first.txid == second.txid {
		return damaged("meta pages contradict each other")
	}
	if c.meta = first; second.txid > first.txid {
		c.meta = second
	}
	return nil
}

func (c *checker) read(b []byte, at int64) error {
	_, err := c.r.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		return damaged("it ends before byte %d", at+int64(len(b)))
	}
	return err
}

// mark reports false for a page that was met before.
func (c *checker) mark(id uint64) bool {
	bit := uint64(1) << (id % 64)
	if c.seen[id/64]&bit != 0 {
		return false
	}
	c.seen[id/64] |= bit
	return true
}

// page reads a page with its overflow and marks it.
func (c *checker) page(id uint64) ([]byte, uint16, error) {
	if id < 2 || id >= c.meta.high {
		return nil, 0, damaged("page %d of %d", id, c.meta.high)
	}
	size := uint64(c.meta.pageSize)
	b := make([]byte, size)
	if err := c.read(b, int64(id*size)); err != nil {
		return nil, 0, err
	}
	if have := order.Uint64(b); have != id {
		return nil, 0, damaged("page %d says that it is %d", id, have)
	}
	more := uint64(order.Uint32(b[12:]))
	if more >= c.meta.high-id {
		return nil, 0, damaged("page %d runs over by %d pages", id, more)
	}
	for i := id; i <= id+more; i++ {
		if !c.mark(i) {
			return nil, 0, damaged("page %d is in use twice", i)
		}
	}
	if more > 0 {
		b = append(b, make([]byte, more*size)...)
		if err := c.read(b[size:], int64((id+1)*size)); err != nil {
			return nil, 0, err
		}
	}
	return b, order.Uint16(b[8:]), nil
}

// tree walks the pages below id; bucket is nil in the root, which holds buckets.
func (c *checker) tree(id uint64, bucket, lo, hi []byte, depth int) error {
	b, flags, err := c.page(id)
	if err != nil {
		return err
	}
	if flags != flagBranch && flags != flagLeaf || depth > maxDepth {
		return damaged("page %d has flags %#x at depth %d", id, flags, depth)
	}
	elements, err := parseElements(b, lo, hi)
	if err != nil {
		return damaged("page %d: %w", id, err)
	}
	if flags == flagLeaf {
		return c.leaf(bucket, elements)
	}
	if len(elements) == 0 {
		return damaged("page %d: a branch without a child", id)
	}
	for i, e := range elements {
		// The bound that a child must keep is the next key, or our own.
		end := hi
		if i+1 < len(elements) {
			end = elements[i+1].key
		}
		if err := c.tree(e.child, bucket, e.key, end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) leaf(bucket []byte, elements []element) error {
	for _, e := range elements {
		if e.bucket != (bucket == nil) {
			return damaged("record %x of bucket %q is of the wrong kind", e.key, bucket)
		}
		if bucket != nil {
			if err := c.visit(bucket, e.key, e.value); err != nil {
				return err
			}
			continue
		}
		if err := c.bucket(e); err != nil {
			return err
		}
	}
	return nil
}

// bucket walks one bucket, which may be a page within its own head.
func (c *checker) bucket(e element) error {
	if len(e.value) < bucketBytes {
		return damaged("bucket %q has a head of %d bytes", e.key, len(e.value))
	}
	if root := order.Uint64(e.value); root != 0 {
		return c.tree(root, e.key, nil, nil, 0)
	}
	b := e.value[bucketBytes:]
	if len(b) < headerBytes || order.Uint16(b[8:]) != flagLeaf {
		return damaged("bucket %q holds no page", e.key)
	}
	elements, err := parseElements(b, nil, nil)
	if err != nil {
		return damaged("bucket %q: %w", e.key, err)
	}
	return c.leaf(e.key, elements)
}

// freelist checks that the free pages are exactly those that were not met. A file
// without one has it made up from the tree when bbolt opens it.
func (c *checker) freelist() error {
	if c.meta.freelist == noFreelist {
		return nil
	}
	b, flags, err := c.page(c.meta.freelist)
	if err != nil {
		return err
	}
	if flags != flagFreelist {
		return damaged("free list has flags %#x", flags)
	}
	ids, err := parseFreelist(b)
	if err != nil {
		return damaged("%w", err)
	}
	for _, id := range ids {
		if id >= c.meta.high || !c.mark(id) {
			return damaged("page %d is free and in use", id)
		}
	}
	for id := range c.meta.high {
		if c.mark(id) {
			return damaged("page %d is neither free nor in use", id)
		}
	}
	return nil
}

func syncDirOf(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
