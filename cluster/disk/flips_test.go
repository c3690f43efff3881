package disk

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// everyFlip makes the flip tests take every bit of every page and payload.
var everyFlip = os.Getenv("BIVALVE_FLIPS") == "all"

// spot is a stretch of a file and what lies there.
type spot struct {
	file     string
	from, to int64
	what     part
	key      cluster.ShardKey // of the record
	lives    bool             // it is what counts of its key
}

type part string

const (
	partHeader  part = "header"
	partPayload part = "payload"
	partTomb    part = "tombstone"
	partPadding part = "padding"
	partPage    part = "superblock"
	partCopies  part = "page that is there twice"
)

// flipStore is a closed disk in memory of which every byte is known.
type flipStore struct {
	mem    *vfs.MemFS
	cfg    Config
	index  *memTable
	shards map[cluster.ShardKey]cluster.Shard
	older  map[cluster.ShardKey][]byte // generations that were replaced
	gone   []cluster.ShardKey
	buf    [160 << 10]byte
	looks  int
	files  map[string][]byte
	spots  []spot
}

// flipSizes are those of the shards; the last two are deleted again.
var flipSizes = []int{1, 100, 7000, LargeBytes - 1, LargeBytes, 2*cluster.BlockBytes + 5000, 50, LargeBytes + 500}

func newFlipStore(t *testing.T) *flipStore {
	s := &flipStore{mem: vfs.NewMemFS(1<<30, true), index: &memTable{}, shards: map[cluster.ShardKey]cluster.Shard{}, files: map[string][]byte{}, older: map[cluster.ShardKey][]byte{}}
	s.cfg = testConfig(t, s.mem)
	s.cfg.SegmentBytes = 256 << 10 // some are sealed
	mustFormat(t, s.cfg)
	s.cfg.table = s.index
	d := mustOpen(t, s.cfg)
	for i, size := range flipSizes {
		sh := disktest.Shard(disktest.Key(1, i), size, uint64(i))
		add(t, d, sh)
		switch {
		case i >= len(flipSizes)-2:
			s.gone = append(s.gone, sh.Key)
			if err := d.Delete(t.Context(), []cluster.ShardKey{sh.Key}); err != nil {
				t.Fatal(err)
			}
			continue
		case i == 2:
			s.older[sh.Key] = sh.Payload
			sh = disktest.Shard(sh.Key, size, 99)
			sh.Generation = 1
			add(t, d, sh)
		}
		s.shards[sh.Key] = sh
	}
	s.map_(t, d)
	mustClose(t, d)
	names, err := s.mem.ReadDir(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		s.files[s.cfg.Dir+"/"+name], err = readFile(s.mem, s.cfg.Dir+"/"+name)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{identityName, manifestName} {
		s.spots = append(s.spots, spot{file: s.cfg.Dir + "/" + name, to: 2 * pageBytes, what: partCopies})
	}
	return s
}

// map_ notes what lies where in the segments.
func (s *flipStore) map_(t *testing.T, d *Disk) {
	for _, seg := range d.segments {
		s.spots = append(s.spots, spot{file: seg.path, to: pageBytes, what: partPage})
		f, err := s.mem.OpenRead(seg.path)
		if err != nil {
			t.Fatal(err)
		}
		sc := scanner{f: f, s: seg, size: seg.end}
		err = sc.each(pageBytes, func(h header, off int64) error {
			head, payload := off+int64(headerBytes(len(h.sums))), off+seg.shape.payloadAt(h.length)
			end, next := payload+int64(h.length), off+seg.shape.size(h.length)
			p, found, err := d.lookup(h.key)
			sp := spot{file: seg.path, key: h.key, lives: found && p.offset == off && p.segment == seg.number}
			put := func(from, to int64, what part) {
				if sp.from, sp.to, sp.what = from, to, what; from < to {
					s.spots = append(s.spots, sp)
				}
			}
			if h.kind == kindTombstone {
				put(off, head, partTomb)
				return err
			}
			put(off, head, partHeader)
			put(head, payload, partPadding)
			put(payload, end, partPayload)
			put(end, next, partPadding)
			return err
		}, nil)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// bits are those to flip of a spot: all of headers and tombstones, of the rest
// one in each stretch, unless all are asked for.
func (s *flipStore) bits(sp spot, rng *rand.Rand) (bits []int64) {
	stretch := int64(1)
	switch {
	case raceEnabled || testing.Short():
		stretch = 1024
	case sp.what == partHeader || sp.what == partTomb || everyFlip:
	case sp.what == partPayload || sp.what == partPadding:
		stretch = 64 * 8
	default:
		stretch = 8 * 8
	}
	for at := sp.from * 8; at < sp.to*8; at += stretch {
		bits = append(bits, min(at+rng.Int64N(stretch), sp.to*8-1))
	}
	return bits
}

func (s *flipStore) flip(name string, bit int64) error {
	f, err := s.mem.OpenWrite(name, false)
	if err != nil {
		return err
	}
	var b [1]byte
	if _, err := f.ReadVec([][]byte{b[:]}, bit/8); err != nil {
		return err
	}
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteVec([][]byte{b[:]}, bit/8)
	return errors.Join(err, f.Sync(), f.Close())
}

// One flipped bit anywhere on a disk is found by whoever reads there, on the open
// disk, after a restart, and after one without the index; no other shard is
// harmed, nothing is lost in silence, and nothing is cut off or written over.
func TestEveryFlip(t *testing.T) {
	s := newFlipStore(t)
	rng := rand.New(rand.NewPCG(1, 1))
	flips := map[part]int{}
	open := mustOpen(t, s.cfg)
	type one struct {
		spot
		bit int64
	}
	var all []one
	for _, sp := range s.spots {
		for _, bit := range s.bits(sp, rng) {
			all = append(all, one{sp, bit})
			flips[sp.what]++
		}
	}
	check := func(how string, f one, look func() error) {
		err := errors.Join(s.flip(f.file, f.bit), look())
		if f.what == partCopies && how != "open" {
			// The other copy took its place.
			now, rerr := readFile(s.mem, f.file)
			half := len(now) / 2
			if rerr != nil || !bytes.Equal(now[:half], now[half:]) || // the manifest counts openings
				filepath.Base(f.file) != manifestName && !bytes.Equal(now, s.files[f.file]) {
				err = errors.Join(err, rerr, errors.New("it was not repaired"))
			}
		} else {
			err = errors.Join(err, s.flip(f.file, f.bit))
		}
		if err != nil {
			t.Fatalf("%s, bit %d of %s (%s from %d): %v", how, f.bit, f.file, f.what, f.from, err)
		}
	}
	for _, f := range all {
		check("open", f, func() error { return s.look(t, open, f.spot, false, true) })
	}
	mustClose(t, open)
	for i, f := range all {
		// A payload is not looked at by a restart: some of them will do.
		if (f.what == partPayload || f.what == partPadding) && i%16 != 0 && !everyFlip {
			continue
		}
		if (f.what == partHeader || f.what == partTomb) && i%3 != 0 && !everyFlip {
			continue
		}
		// With its index it does nothing that the open disk did not.
		if i%16 == 0 || f.what == partPage || f.what == partCopies || everyFlip {
			check("opened again", f, func() error { return s.reopen(t, f.spot, s.index) })
		}
		check("opened without its index", f, func() error { return s.reopen(t, f.spot, &memTable{}) })
	}
	for name, was := range s.files {
		if filepath.Base(name) == manifestName {
			continue // it counts openings
		}
		if now, err := readFile(s.mem, name); err != nil || !bytes.Equal(was, now) {
			t.Errorf("%s is not as it was: %v", name, err)
		}
	}
	t.Logf("flips: %v", flips)
}

func (s *flipStore) reopen(t *testing.T, f spot, index *memTable) error {
	a := &alarms{}
	s.cfg.table, s.cfg.Logger = index, slog.New(a)
	d, err := Open(s.cfg)
	if err != nil {
		return err
	}
	reported := a.err(func(string) bool { return false }) != nil
	lost := index != s.index
	err = s.look(t, d, f, lost, reported)
	wanted := f.what == partPage || lost && (f.what == partHeader || f.what == partTomb)
	if err == nil && reported != wanted {
		err = fmt.Errorf("reported %v, wanted %v", reported, wanted)
	}
	return errors.Join(err, d.Close())
}

// look reads the shard that was hit, sometimes the others, and what was deleted.
func (s *flipStore) look(t *testing.T, d *Disk, f spot, lost, reported bool) error {
	s.looks++
	for k, want := range s.shards {
		if k != f.key && s.looks%8 != 0 {
			continue
		}
		got, err := s.read(t, d, k)
		broken := k == f.key && f.lives && (f.what == partHeader || f.what == partPayload)
		// What was reported as lost, or an older generation of it.
		may := lost && reported && f.what == partHeader
		switch {
		case err == nil && !bytes.Equal(got, want.Payload) && !(may && broken && bytes.Equal(got, s.older[k])):
			return fmt.Errorf("%s: wrong bytes", k)
		case !broken && err != nil:
			return fmt.Errorf("%s: %w", k, err)
		case broken && err == nil && bytes.Equal(got, want.Payload), broken && err != nil && !errors.Is(err, cluster.ErrCorrupt) && !(may && errors.Is(err, cluster.ErrNotFound)):
			return fmt.Errorf("%s: not noticed: %v", k, err)
		}
	}
	for _, k := range s.gone {
		if _, err := d.Stat(k); !errors.Is(err, cluster.ErrNotFound) && !(f.what == partTomb && k == f.key && lost && reported) {
			return fmt.Errorf("%s is back: %v", k, err)
		}
	}
	return nil
}

// read reads and verifies as a server does, into one buffer.
func (s *flipStore) read(t *testing.T, d *Disk, k cluster.ShardKey) ([]byte, error) {
	r, err := d.Read(t.Context(), k, cluster.BlockRange{}, s.buf[:])
	if err == nil {
		if _, ok := verifyPayload(s.buf[:r.Bytes], r.Sums); !ok {
			err = cluster.ErrCorrupt
		}
	}
	return s.buf[:r.Bytes], err
}
