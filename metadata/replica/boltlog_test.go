package replica

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func entriesAt(term, from uint64, n int) (out []*raftpb.Entry) {
	for i := range uint64(n) {
		out = append(out, &raftpb.Entry{
			Type: raftpb.EntryNormal.Enum(), Term: proto.Uint64(term), Index: proto.Uint64(from + i),
			Data: fmt.Appendf(nil, "t%d-%d", term, from+i),
		})
	}
	return out
}

func openBolt(t testing.TB, path string) *BoltLog {
	t.Helper()
	l, err := OpenBoltLog(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sameLog compares two stores group by group, entry by entry.
func sameLog(a, b LogStore) error {
	ga, err := a.Groups()
	if err != nil {
		return err
	}
	gb, err := b.Groups()
	if err != nil {
		return err
	}
	if fmt.Sprint(ga) != fmt.Sprint(gb) {
		return fmt.Errorf("groups %v and %v", ga, gb)
	}
	for _, g := range ga {
		sa, err := a.InitialState(g)
		if err != nil {
			return err
		}
		sb, err := b.InitialState(g)
		if err != nil {
			return err
		}
		if sa.Mark != sb.Mark || sa.LastIndex != sb.LastIndex || !proto.Equal(sa.HardState, sb.HardState) {
			return fmt.Errorf("group %d: %+v and %+v", g, sa, sb)
		}
		for i := sa.Mark.Index; i <= sa.LastIndex; i++ {
			ta, erra := a.Term(g, i)
			tb, errb := b.Term(g, i)
			if ta != tb || erra != nil || errb != nil {
				return fmt.Errorf("group %d entry %d: terms %d %v, %d %v", g, i, ta, erra, tb, errb)
			}
		}
		if sa.LastIndex > sa.Mark.Index {
			ea, erra := a.Entries(g, sa.Mark.Index+1, sa.LastIndex+1, 1<<30)
			eb, errb := b.Entries(g, sa.Mark.Index+1, sa.LastIndex+1, 1<<30)
			if erra != nil || errb != nil || len(ea) != len(eb) {
				return fmt.Errorf("group %d: %d entries %v, %d entries %v", g, len(ea), erra, len(eb), errb)
			}
			for i := range ea {
				if !proto.Equal(ea[i], eb[i]) {
					return fmt.Errorf("group %d: %v and %v", g, ea[i], eb[i])
				}
			}
		}
	}
	return nil
}

// Any sequence of saves, compactions and reopenings leaves the file and the
// plain model with the same log.
func TestBoltLogAgainstModel(t *testing.T) {
	dir := t.TempDir()
	files := 0
	rapid.Check(t, func(rt *rapid.T) {
		files++
		path := filepath.Join(dir, fmt.Sprint(files, ".db"))
		file, model := openBolt(t, path), newMemLog()
		defer func() { _ = file.Close() }()
		terms := map[GroupID]uint64{}
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			var us []Update
			for _, g := range []GroupID{0, 7} {
				st, err := model.InitialState(g)
				exists := err == nil
				switch rapid.IntRange(0, 6).Draw(rt, "op") {
				case 0:
					if exists && st.LastIndex > st.Mark.Index {
						upTo := rapid.Uint64Range(st.Mark.Index+1, st.LastIndex).Draw(rt, "upTo")
						if errors.Join(file.Compact(g, upTo), model.Compact(g, upTo)) != nil {
							rt.Fatal("compact")
						}
					}
				case 1:
					at := st.LastIndex + rapid.Uint64Range(1, 50).Draw(rt, "jump")
					terms[g]++
					us = append(us, Update{Group: g, HardState: hardState(terms[g], 1, at), Reset: &Mark{Index: at, Term: terms[g], Epoch: 3}})
				case 2:
				default:
					from := rapid.Uint64Range(st.Mark.Index+1, st.LastIndex+1).Draw(rt, "from")
					terms[g]++
					us = append(us, Update{Group: g, HardState: hardState(terms[g], 2, 0),
						Entries: entriesAt(terms[g], from, rapid.IntRange(1, 2000).Draw(rt, "n"))})
				}
			}
			if err := errors.Join(file.Save(us, true), model.Save(us, true)); err != nil {
				rt.Fatal(err)
			}
			if rapid.IntRange(0, 3).Draw(rt, "reopen") == 0 {
				if err := file.Close(); err != nil {
					rt.Fatal(err)
				}
				file = openBolt(t, path)
			}
			if err := sameLog(file, model); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func TestBoltLogKeepsUnsyncedCommitForLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l := openBolt(t, path)
	if err := l.Save([]Update{{Group: 1, HardState: hardState(1, 0, 1), Entries: entriesAt(1, 1, 3)}}, true); err != nil {
		t.Fatal(err)
	}
	if err := l.Save([]Update{{Group: 1, HardState: hardState(1, 0, 3)}}, false); err != nil {
		t.Fatal(err)
	}
	if err := l.Save([]Update{{Group: 1, Entries: entriesAt(1, 4, 1)}}, false); err == nil {
		t.Fatal("took entries without a sync")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openBolt(t, path)
	defer l.Close()
	if st, err := l.InitialState(1); err != nil || st.HardState.GetCommit() != 3 || st.LastIndex != 3 {
		t.Fatalf("%+v %v", st, err)
	}
	if _, err := l.InitialState(2); !errors.Is(err, ErrNoGroup) {
		t.Fatal(err)
	}
	if _, err := l.Entries(1, 4, 5, 1); !errors.Is(err, raft.ErrUnavailable) {
		t.Fatal(err)
	}
}

func TestBoltLogBelongsToOneReplica(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l := openBolt(t, path)
	if err := errors.Join(l.Claim(4), l.Claim(4), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = openBolt(t, path)
	defer l.Close()
	if err := l.Claim(5); err == nil {
		t.Fatal("another replica took the log over")
	}
}

// Every byte of every record is covered: a flipped bit is reported when the log
// is opened, and nothing is cut away.
func TestBoltLogSeesDamage(t *testing.T) {
	dir := t.TempDir()
	n := 0
	for _, key := range [][]byte{keyHardState, keyMark, entryKey(2)} {
		size := 1
		for at := 0; at < size; at++ {
			n++
			path := filepath.Join(dir, fmt.Sprint(n, ".db"))
			l := openBolt(t, path)
			err := l.Save([]Update{{Group: 9, HardState: hardState(1, 0, 1), Entries: entriesAt(1, 1, 3)}}, true)
			err = errors.Join(err, l.db.Update(func(tx *bolt.Tx) error {
				b := tx.Bucket(bucketName(9))
				v := append([]byte(nil), b.Get(key)...)
				size = len(v)
				v[at] ^= 0x10
				return b.Put(key, v)
			}), l.db.Close())
			if err != nil {
				t.Fatal(err)
			}
			l = openBolt(t, path)
			if _, err := l.InitialState(9); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("key %q byte %d: %v", key, at, err)
			}
			if err := l.Save([]Update{{Group: 9, HardState: hardState(7, 0, 0)}}, true); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("a damaged log was written to: %v", err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestBoltLogSeesHole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l := openBolt(t, path)
	err := l.Save([]Update{{Group: 9, Entries: entriesAt(1, 1, 5)}}, true)
	err = errors.Join(err, l.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketName(9)).Delete(entryKey(3))
	}), l.db.Close())
	if err != nil {
		t.Fatal(err)
	}
	l = openBolt(t, path)
	defer l.Close()
	if _, err := l.InitialState(9); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestBoltLogStaysBrokenAfterAFailedSave(t *testing.T) {
	l := openBolt(t, filepath.Join(t.TempDir(), "log.db"))
	if err := l.Save([]Update{{Group: 1, Entries: entriesAt(1, 5, 1)}}, true); err == nil {
		t.Fatal("took entries behind a gap")
	}
	if err := l.Save([]Update{{Group: 1, Entries: entriesAt(1, 1, 1)}}, true); err == nil {
		t.Fatal("went on after a failed save")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
