package replica

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// A file of the first version opens and holds what it held.
func TestBoltLogVersionOne(t *testing.T) {
	f, err := os.Open("testdata/v1/raft.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "raft.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	want := newMemLog()
	err = errors.Join(
		want.Save([]Update{{Group: 0, HardState: hardState(3, 2, 9), Reset: &Mark{Index: 9, Term: 2, Epoch: 1}},
			{Group: 5, HardState: hardState(4, 1, 200), Entries: entriesAt(1, 1, 279)}}, true),
		want.Save([]Update{{Group: 0, Entries: entriesAt(3, 10, 40)}, {Group: 5, Entries: entriesAt(4, 280, 5)}}, true),
		want.Compact(5, 100))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time its owner is of this version
		l := openBolt(t, path)
		if err := l.Claim(5); err == nil {
			t.Fatal("another replica took the log over")
		}
		if err := errors.Join(l.Claim(4), sameLog(l, want), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// fillLog makes the same log in a file and in a model.
func fillLog(t *testing.T, path string) *memLog {
	l, m := openBolt(t, path), newMemLog()
	if err := l.Claim(1); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(6) {
		var us []Update
		for g := range GroupID(3) {
			us = append(us, Update{Group: g, HardState: hardState(i+1, 2, 30*i), Entries: entriesAt(i+1, 40*i+1, 40)})
		}
		if err := errors.Join(l.Save(us, true), m.Save(us, true)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Compact(1, 50), m.Compact(1, 50), l.Close()); err != nil {
		t.Fatal(err)
	}
	return m
}

// Whatever bit of the file is flipped: the file is refused, or one group is, or
// the log is what it was. It is never shorter.
func TestBoltLogFlippedBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	want := fillLog(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(whole, "\x00"))
	rnd := rand.New(rand.NewPCG(21, 2))
	var file, group, none int
	for range 500 {
		at := rnd.IntN(used)
		b := bytes.Clone(whole)
		b[at] ^= 1 << rnd.IntN(8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenBoltLog(path)
		if err == nil {
			if err = l.Claim(1); err != nil {
				err = errors.Join(err, l.Close())
			}
		}
		if errors.Is(err, ErrCorrupt) {
			file++
			continue
		}
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		bad := 0
		ids, err := l.Groups()
		if err != nil || len(ids) != 3 {
			t.Fatalf("byte %d: groups %v %v", at, ids, err)
		}
		for _, id := range ids {
			if _, err := l.InitialState(id); errors.Is(err, ErrCorrupt) {
				bad++
			}
		}
		if bad == 0 {
			none++
			err = sameLog(l, want)
		} else if group++; bad > 1 {
			err = fmt.Errorf("%d groups are damaged", bad)
		}
		if err = errors.Join(err, l.Close()); err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	t.Logf("flips that held the file %d, a group %d, nothing %d", file, group, none)
	if file == 0 || group == 0 {
		t.Error("the flips are not where they should be")
	}
}

// Damage that comes while the log is in use is an error, and ends what is read or
// written of it.
func TestBoltLogDamagedUnderUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	fillLog(t, path)
	l := openBolt(t, path)
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Entries(0, 1, 200, 1<<30); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if _, err := l.Term(2, 20); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if err := l.Save([]Update{{Group: 0, Entries: entriesAt(9, 241, 1)}}, true); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if err := l.Save([]Update{{Group: 0, Entries: entriesAt(9, 241, 1)}}, true); err == nil {
		t.Fatal("went on after a failed save")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// openLog is what a node does about its log.
func openLog(t testing.TB, path string) LogStore {
	if _, err := os.Stat(path + ".gone"); err == nil {
		return NoLog(fmt.Errorf("%s is missing", path))
	}
	l, err := OpenBoltLog(path)
	if errors.Is(err, ErrCorrupt) {
		return NoLog(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A log that is damaged as a whole holds all groups of its node, one record its
// group. The others go on, and answer for it.
func TestDamagedLogIsHeld(t *testing.T) {
	r := newRegion(t, 3, 3, nil)
	for what, harm := range map[string]func(path string) error{
		"file": func(path string) error { return harms["garbage"](path, nil) },
		"record": func(path string) error {
			db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
			if err != nil {
				return err
			}
			return errors.Join(db.Update(func(tx *bolt.Tx) error {
				b := tx.Bucket(bucketName(1))
				k, v := b.Cursor().Seek([]byte("e"))
				k, v = bytes.Clone(k), bytes.Clone(v)
				v[len(v)-1] ^= 4
				return b.Put(k, v)
			}), db.Close())
		},
	} {
		victim := r.leader(1)
		via := victim%3 + 1
		l := startLoad(t, r, via, "load-"+what, 3)
		for n := l.count(1) + 20; l.count(1) < n; {
			put(t, r.node(via).router, 2, fmt.Sprint(what, "-", l.count(1)), "x", "y")
		}
		dir := r.stop(victim)
		path := filepath.Join(dir, "raft.db")
		sound, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := harm(path); err != nil {
			t.Fatal(err)
		}
		damaged, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		nd := r.open(victim, dir)
		for g := range GroupID(3) {
			want := RoleFollower
			if what == "file" || g == 1 {
				want = RoleHeld
			}
			if want == RoleHeld && what == "file" {
				if err := nd.host.Hold(g, errors.New("no log")); err != nil {
					t.Fatal(err)
				}
			}
			if got := roleOf(nd.host, g); got != want {
				t.Fatalf("%s: group %d is %s, not %s", what, g, got, want)
			}
			if want == RoleHeld {
				if err := nd.host.Bootstrap(g, r.ids, nil); !errors.Is(err, ErrExists) {
					t.Fatalf("%s: a held group was made again: %v", what, err)
				}
			}
		}
		r.run(nd)
		put(t, nd.router, 1, "through-"+what, "k", what)
		if got := get(t, nd.router, 1, "k"); got != what {
			t.Fatalf("read %q", got)
		}
		n := l.count(1)
		eventually(t, "writes beside it", func() bool { return l.count(1) > n+20 })
		l.end(t, r.node(via))
		if got := roleOf(nd.host, 1); got != RoleHeld {
			t.Fatalf("group 1 is %s", got)
		}
		r.stop(victim)
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if what == "file" && !bytes.Equal(after, damaged) {
			t.Fatal("a damaged log was written to")
		}
		// It voted for nobody meanwhile, so it may go on from what it was: this is
		// only so that the test can go on.
		if what == "file" {
			err = os.WriteFile(path, sound, 0o600)
		} else {
			err = harm(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.run(r.open(victim, dir))
	}
}
