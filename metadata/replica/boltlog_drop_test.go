package replica

import (
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
)

var writeSample = flag.Bool("sample.v2", false, "write testdata/v2 anew")

// What a log with replicas made later holds, the one of group 7 dropped.
func sampleV2(l LogStore) error {
	self := NewReplicaID(4, 1234)
	return errors.Join(
		l.Claim(4),
		l.Save([]Update{{Group: 0, HardState: hardState(3, 2, 9), Reset: &Mark{Index: 9, Term: 2, Epoch: 6, Self: self}},
			{Group: 7, HardState: hardState(4, 1, 20), Entries: entriesAt(1, 1, 30)}}, true),
		l.Save([]Update{{Group: 0, Entries: entriesAt(3, 10, 40)}}, true),
		l.Compact(0, 20),
		l.Save([]Update{{Group: 0, HardState: hardState(3, 2, 22)}}, true),
		l.Drop(7), l.Drop(8))
}

// TestLogSampleV2: a mark with the replica's id keeps it through resets and cuts, and
// a dropped group stays dropped; the released sample opens.
func TestLogSampleV2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	l := openBolt(t, path)
	if err := errors.Join(sampleV2(l), l.Close()); err != nil {
		t.Fatal(err)
	}
	const sample = "testdata/v2/raft.db.gz"
	if *writeSample {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(sample)
		if err != nil {
			t.Fatal(err)
		}
		z := gzip.NewWriter(f)
		_, err = z.Write(raw)
		if err := errors.Join(err, z.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(sample)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	released := filepath.Join(t.TempDir(), "raft.db")
	if err := os.WriteFile(released, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	want := newMemLog()
	if err := sampleV2(want); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, released} {
		l := openBolt(t, path)
		if err := sameLog(l, want); err != nil {
			t.Error(err)
		}
		st, err := l.InitialState(0)
		if err != nil || st.Mark != (Mark{Index: 20, Term: 3, Epoch: 6, Self: NewReplicaID(4, 1234)}) {
			t.Errorf("mark %+v: %v", st.Mark, err)
		}
		if _, err := l.InitialState(7); !errors.Is(err, ErrNoGroup) {
			t.Errorf("the dropped group: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A group whose records are damaged can be dropped; the others go on.
func TestDropDamagedGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	l := openBolt(t, path)
	if err := errors.Join(l.Save([]Update{{Group: 1, HardState: hardState(1, 1, 1), Entries: entriesAt(1, 1, 3)},
		{Group: 2, HardState: hardState(1, 1, 1), Entries: entriesAt(1, 1, 3)}}, true), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = openBolt(t, path)
	l.groups[1].bad = ErrCorrupt
	if err := l.Save([]Update{{Group: 1, HardState: hardState(2, 1, 1)}}, true); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if err := errors.Join(l.Drop(1), l.Save([]Update{{Group: 1, HardState: hardState(0, 0, 0), Reset: &Mark{Self: NewReplicaID(1, 1)}},
		{Group: 2, Entries: entriesAt(1, 4, 1)}}, true), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = openBolt(t, path)
	defer l.Close()
	if st, err := l.InitialState(1); err != nil || st.LastIndex != 0 || st.Mark.Self == 0 {
		t.Errorf("%+v %v", st, err)
	}
	if st, err := l.InitialState(2); err != nil || st.LastIndex != 4 {
		t.Errorf("%+v %v", st, err)
	}
}
