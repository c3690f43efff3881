package index

import (
	"fmt"
	"sync/atomic"
	"testing"

	"bivalve/metadata"
)

// crowd is a bucket with many rows: keys in directories, and behind each of the keys
// of the second half old versions, every other one of them under a delete marker.
type crowd struct {
	*harness
	dirs, perDir, old int
}

func (c *crowd) key(i int) string { return fmt.Sprintf("all/%05d/%03d", i/c.perDir, i%c.perDir) }

func (c *crowd) fill() {
	n := c.dirs * c.perDir
	var batch []Entry
	flush := func() {
		_, err := c.ix.ApplyBatch(batch, nil)
		c.must(err)
		_, err = c.ix.Flush()
		c.must(err)
		batch = batch[:0]
	}
	do := func(kind metadata.CommandKind, body any) {
		raw := c.command(kind, body)
		c.next++
		if batch = append(batch, Entry{Index: c.next, Term: 1, Data: raw}); len(batch) == 5000 {
			flush()
		}
	}
	random := func() (r metadata.Random) {
		for i := range r {
			r[i] = byte(c.rng.Uint32())
		}
		return r
	}
	do(metadata.CmdSetRules, metadata.SetRules{Bucket: bucketA, Revision: 1, Rules: metadata.BucketRules{Versioning: metadata.VersioningEnabled}})
	for i := range n {
		k := c.key(i)
		do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(k, "e"), Random: random()})
		if i < n/2 {
			continue
		}
		for range c.old {
			do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(k, "e"), Random: random()})
		}
		if i%2 == 1 {
			do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: k, Random: random()})
		}
	}
	flush()
}

// TestPageReadsWhatItAnswers: a page costs as many records as it has rows, wherever it
// begins, however many keys a directory has, and whatever lies behind the keys. It is
// counted, not timed.
func TestPageReadsWhatItAnswers(t *testing.T) {
	c := &crowd{newHarness(t), 200, 50, 3}
	c.fill()
	var reads atomic.Uint64
	for _, tab := range []*table{&c.ix.t.objects, &c.ix.t.versions} {
		tab.reads = &reads
	}
	n := c.dirs * c.perDir
	const limit = 40
	objects := func(prefix, delimiter, after string) (int, bool) {
		var got metadata.ObjectRows
		c.must(c.query(metadata.QueryObjects, metadata.ObjectPage{Bucket: bucketA, Prefix: prefix, Delimiter: delimiter, After: after, Limit: limit}, &got))
		return len(got.Rows), got.More
	}
	versions := func(prefix, delimiter, after string) (int, bool) {
		var got metadata.VersionRows
		c.must(c.query(metadata.QueryVersions, metadata.VersionPage{Bucket: bucketA, Prefix: prefix, Delimiter: delimiter, AfterKey: after, Limit: limit}, &got))
		return len(got.Rows), got.More
	}
	at := func(part float64) string { return c.key(int(part * float64(n))) }
	dir := func(part float64) string { return fmt.Sprintf("all/%05d/", int(part*float64(c.dirs))) }
	for _, s := range []struct {
		what              string
		list              func(prefix, delimiter, after string) (int, bool)
		prefix, delimiter string
		after             func(float64) string
		perRow            uint64 // records that a row may cost
	}{
		{"keys", objects, "", "", at, 1},
		{"keys of one directory", objects, "all/", "|", at, 1},
		{"directories", objects, "all/", "/", dir, 1},
		// Which version is the newest is asked of both tables, once for each key; that a
		// key is absent from one is proved by its neighbours.
		{"versions", versions, "", "", at, 8},
		{"directories of versions", versions, "all/", "/", dir, 2},
	} {
		for _, part := range []float64{0, 0.25, 0.5, 0.75, 0.95} {
			after := s.after(part)
			if part == 0 {
				after = ""
			}
			reads.Store(0)
			rows, more := s.list(s.prefix, s.delimiter, after)
			if !more && part < 0.75 || rows == 0 {
				t.Fatalf("%s behind %q: %d rows, more: %v", s.what, after, rows, more)
			}
			if got, most := reads.Load(), s.perRow*uint64(rows+1)+16; got > most {
				t.Errorf("%s behind %q: %d records for %d rows, want at most %d", s.what, after, got, rows, most)
			}
		}
	}
	// The one directory that holds all costs a look and a leap.
	for what, list := range map[string]func(prefix, delimiter, after string) (int, bool){"objects": objects, "versions": versions} {
		reads.Store(0)
		if rows, more := list("", "/", ""); rows != 1 || more || reads.Load() > 8 {
			t.Errorf("%s: %d rows, more: %v, for %d records", what, rows, more, reads.Load())
		}
		reads.Store(0)
		if rows, more := list("", "/", "all/"); rows != 0 || more || reads.Load() > 8 {
			t.Errorf("%s behind it: %d rows, more: %v, for %d records", what, rows, more, reads.Load())
		}
	}
}
