package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/zeebo/xxh3"
	"go.etcd.io/bbolt"
)

// bbolt keeps no checksums of its pages, so every record carries one that also
// covers its key and its table. The digest of the file is all of them in one
// number: it misses a record that is gone as well as one that is not the same.

const sumBytes = 8

// table is one bucket of the open transaction. A record that does not check is
// a panic, as a page is that bbolt cannot read: guard makes both an error.
type table struct {
	name   string
	b      *bbolt.Bucket
	digest *uint64
	reads  *atomic.Uint64 // counts the records looked at; tests measure work by it, nil elsewhere
}

// damage is what a table panics with.
type damage struct{ text string }

func (d damage) String() string { return d.text }

// recordSum of a record; the length of the key is in its own hash.
func recordSum(table, key, value []byte) uint64 {
	return xxh3.HashSeed(value, xxh3.HashSeed(key, xxh3.Hash(table)))
}

// openRecord splits a stored value into its content and its sum.
func openRecord(table, key, stored []byte) (value []byte, sum uint64, ok bool) {
	n := len(stored) - sumBytes
	if n < 0 {
		return nil, 0, false
	}
	sum = binary.BigEndian.Uint64(stored[n:])
	return stored[:n:n], sum, recordSum(table, key, stored[:n]) == sum
}

func (t table) open(k, stored []byte) (value []byte, sum uint64) {
	if t.reads != nil {
		t.reads.Add(1)
	}
	value, sum, ok := openRecord([]byte(t.name), k, stored)
	if !ok {
		panic(damage{fmt.Sprintf("record %x of table %s does not check", k, t.name)})
	}
	return value, sum
}

// Get is nil for a key that is not there. What it returns is valid until the
// next change.
func (t table) Get(k []byte) []byte {
	stored := t.b.Get(k)
	if stored == nil {
		t.absent(k)
		return nil
	}
	v, _ := t.open(k, stored)
	return v
}

// absent proves, as far as sums can, that no record is at k: the records on both
// sides of its place check and stand where they should. A page that was spoilt may
// hide a record from a search, and what bbolt has taken apart of it to change it goes
// on pointing into the page.
func (t table) absent(k []byte) {
	if t.name == string(tableMeta) {
		return // one of its records has no sum
	}
	c := t.b.Cursor()
	after, stored := c.Seek(k)
	before, prior := []byte(nil), []byte(nil)
	if after != nil {
		t.open(after, stored)
		before, prior = c.Prev()
	} else {
		before, prior = last(c)
	}
	if before != nil {
		t.open(before, prior)
	}
	if after != nil && bytes.Compare(after, k) <= 0 || before != nil && bytes.Compare(before, k) >= 0 {
		panic(damage{fmt.Sprintf("the neighbours of %x in table %s are not in order", k, t.name)})
	}
}

// last is Cursor.Last, which looks for a page that is not empty and never returns when
// the open transaction has emptied them all.
func last(c *bbolt.Cursor) (key, value []byte) {
	if first, _ := c.First(); first == nil {
		return nil, nil
	}
	return c.Last()
}

// Put keeps neither slice.
func (t table) Put(k, v []byte) error {
	t.leave(k)
	sum := recordSum([]byte(t.name), k, v)
	*t.digest ^= sum
	return t.b.Put(k, binary.BigEndian.AppendUint64(append(make([]byte, 0, len(v)+sumBytes), v...), sum))
}

func (t table) Delete(k []byte) error {
	t.leave(k)
	return t.b.Delete(k)
}

// leave takes the record at k, if there is one, out of the digest.
func (t table) leave(k []byte) {
	if stored := t.b.Get(k); stored != nil {
		_, sum := t.open(k, stored)
		*t.digest ^= sum
	}
}

// Cursor walks in the order of the keys; it does not survive a change.
func (t table) Cursor() records { return records{t, t.b.Cursor()} }

type records struct {
	t table
	c *bbolt.Cursor
}

func (r records) checked(k, stored []byte) (key, value []byte) {
	if k == nil {
		return nil, nil
	}
	v, _ := r.t.open(k, stored)
	return k, v
}

func (r records) First() (key, value []byte)           { return r.checked(r.c.First()) }
func (r records) Last() (key, value []byte)            { return r.checked(last(r.c)) }
func (r records) Next() (key, value []byte)            { return r.checked(r.c.Next()) }
func (r records) Seek(from []byte) (key, value []byte) { return r.checked(r.c.Seek(from)) }
