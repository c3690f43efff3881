package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// A log without room stands still, says so, and goes on where it was.
func TestNoRoomInTheLog(t *testing.T) {
	log := &failingLog{memLog: newMemLog()}
	h := mustSingle(t, log, &kvDisk{}, nil)
	if err := h.Bootstrap(0, []ReplicaID{1}, nil); err != nil {
		t.Fatal(err)
	}
	elect(t, h)
	log.err = fmt.Errorf("%w: disk full", ErrNoSpace)
	first := offer(h, command("a", "k", "v"))
	if err := settle(h, true); err != nil {
		t.Fatal(err)
	}
	for range 3 * retrySave {
		h.in.tick()
		if err := settle(h, true); err != nil {
			t.Fatal(err)
		}
	}
	if st := h.Status()[0]; st.Role != RoleNoSpace || !errors.Is(st.Halted, ErrNoSpace) {
		t.Fatalf("%+v", st)
	}
	if _, err := h.Propose(context.Background(), 0, command("b", "k", "w")); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	if err := h.ReadIndex(context.Background(), 0); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	select {
	case out := <-first.done:
		t.Fatalf("answered without a log: %v", out)
	default:
	}
	log.err = nil
	for range retrySave {
		h.in.tick()
		if err := settle(h, true); err != nil {
			t.Fatal(err)
		}
	}
	if out := answerOf(t, first); out.err != nil {
		t.Fatal(out.err)
	}
	if got, err := h.QueryLocal(0, []byte("k")); err != nil || string(got) != "v" {
		t.Fatalf("%q %v", got, err)
	}
	if st := h.Status()[0]; st.Role != RoleLeader || log.now[0].last() != h.group(0).st.last {
		t.Fatalf("%+v", st)
	}
}

// A bbolt file that may not grow: the Save that failed left it as it was, and is
// good once there is room.
func TestBoltLogWithoutRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	l, m := openBolt(t, path), newMemLog()
	l.db.MaxSize = 1 << 20
	first := Update{Group: 3, HardState: hardState(1, 1, 0), Entries: entriesAt(1, 1, 10)}
	if err := errors.Join(l.Save([]Update{first}, true), m.Save([]Update{first}, true)); err != nil {
		t.Fatal(err)
	}
	big := Update{Group: 3, HardState: hardState(2, 1, 5), Entries: entriesAt(2, 8, 100)}
	for _, e := range big.Entries {
		e.Data = make([]byte, 64<<10)
	}
	for range 3 {
		if err := l.Save([]Update{big}, true); !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
		if err := sameLog(l, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openBolt(t, path)
	if err := sameLog(l, m); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Save([]Update{big}, true), m.Save([]Update{big}, true), sameLog(l, m), l.Close()); err != nil {
		t.Fatal(err)
	}
}

type fullFlush struct {
	*kv
	full func() bool
}

func (m fullFlush) Flush() (Applied, error) {
	if m.full() {
		return Applied{}, fmt.Errorf("flush: %w", ErrNoSpace)
	}
	return m.kv.Flush()
}

// A state that finds no room for its flush is opened again and again, and is whole
// once there is room.
func TestNoRoomForAState(t *testing.T) {
	defer goleak.VerifyNone(t)
	var mu sync.Mutex
	full := map[string]bool{}
	open := func(dir string) func(GroupID) (StateMachine, error) {
		return func(g GroupID) (StateMachine, error) {
			d := &kvDisk{path: filepath.Join(dir, fmt.Sprintf("kv-%d.json", g))}
			if err := d.load(); err != nil {
				return nil, err
			}
			return fullFlush{openKV(d), func() bool {
				mu.Lock()
				defer mu.Unlock()
				return g == 1 && full[dir]
			}}, nil
		}
	}
	r := newRegionWith(t, 3, 2, 10_000_000, open)
	defer r.close()
	put(t, r.node(1).router, 1, "first", "k", "v")
	victim := r.node(r.leader(1))
	l := startLoad(t, r, victim.id, "load", 2)
	setFull := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		full[victim.dir] = on
	}
	setFull(true)
	eventually(t, "no room", func() bool { return roleOf(victim.host, 1) == RoleNoSpace })
	n := l.count(1)
	eventually(t, "the others to go on", func() bool { return l.count(1) > n+10 })
	setFull(false)
	eventually(t, "the group to be back for good", func() bool {
		for _, s := range victim.host.Status() {
			if s.Group == 1 {
				return s.Durable > 0 && int(s.Durable) > n
			}
		}
		return false
	})
	l.end(t, victim)
}

// On a real file system that is full. BIVALVE_SMALL_DIR names a folder on one of
// some ten megabytes, as of: mount -t tmpfs -o size=24m tmpfs DIR
func TestBoltLogOnAFullDisk(t *testing.T) {
	dir := os.Getenv("BIVALVE_SMALL_DIR")
	if dir == "" {
		t.Skip("BIVALVE_SMALL_DIR is not set")
	}
	dir, err := os.MkdirTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "raft.db")
	l, m := openBolt(t, path), newMemLog()
	var failed Update
	for at := uint64(1); ; at += 16 {
		u := Update{Group: 3, HardState: hardState(1, 1, at-1), Entries: entriesAt(1, at, 16)}
		for _, e := range u.Entries {
			e.Data = make([]byte, 32<<10)
		}
		if err := l.Save([]Update{u}, true); errors.Is(err, ErrNoSpace) {
			failed = u
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if err := m.Save([]Update{u}, true); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := l.Save([]Update{failed}, true); !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
	}
	if err := sameLog(l, m); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil && !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	l = openBolt(t, path) // a start on a full disk
	if err := errors.Join(sameLog(l, m), os.Remove(filler)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Save([]Update{failed}, true), m.Save([]Update{failed}, true), sameLog(l, m), l.Close()); err != nil {
		t.Fatal(err)
	}
	l = openBolt(t, path)
	if err := errors.Join(sameLog(l, m), l.Close()); err != nil {
		t.Fatal(err)
	}
	t.Logf("full at entry %d", failed.Entries[0].GetIndex())
}
