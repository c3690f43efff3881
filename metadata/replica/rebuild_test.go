package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func roleOf(h *Host, g GroupID) Role {
	for _, s := range h.Status() {
		if s.Group == g {
			return s.Role
		}
	}
	return ""
}

// harms are what may happen to a file while nobody has it open.
var harms = map[string]func(path string, rnd *rand.Rand) error{
	"deleted": func(path string, _ *rand.Rand) error { return os.Remove(path) },
	"garbage": func(path string, _ *rand.Rand) error { return os.WriteFile(path, bytes.Repeat([]byte{7}, 5000), 0o600) },
	"cut-short": func(path string, rnd *rand.Rand) error {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, rnd.Int64N(st.Size()))
	},
	"bit-flipped": func(path string, rnd *rand.Rand) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		return os.WriteFile(path, b, 0o600)
	},
}

// load writes to every group through a node until stop, and remembers what was
// acknowledged.
type load struct {
	stop  context.CancelFunc
	wg    sync.WaitGroup
	mu    sync.Mutex
	acked map[GroupID]map[string]string
}

func startLoad(t *testing.T, r *region, via ReplicaID, name string, groups int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel, acked: map[GroupID]map[string]string{}}
	for g := range GroupID(groups) {
		l.acked[g] = map[string]string{}
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprint(name, i)
				if _, err := r.node(via).router.Propose(ctx, g, command(key, key, fmt.Sprint(i))); err == nil {
					l.mu.Lock()
					l.acked[g][key] = fmt.Sprint(i)
					l.mu.Unlock()
				} else if ctx.Err() == nil {
					t.Errorf("group %d: %v", g, err)
				}
			}
		})
	}
	return l
}

func (l *load) count(g GroupID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked[g])
}

// end stops the load and reads everything back through a node's own replicas.
func (l *load) end(t *testing.T, n *node) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	for g, acked := range l.acked {
		for key, want := range acked {
			if got, err := n.host.Query(testContext(t), g, []byte(key)); err != nil || string(got) != want {
				t.Fatalf("group %d key %s: %q %v", g, key, got, err)
			}
		}
	}
}

// A state that is damaged or lost while its node is down comes from a peer. All
// other groups of the node run from the start, and nothing acknowledged is lost.
func TestDamagedStateComesFromAPeer(t *testing.T) {
	defer goleak.VerifyNone(t)
	for tail, some := range map[uint64][]string{ // beyond the end of the own log, and within it
		20: {"deleted", "bit-flipped"}, 5000: {"garbage", "cut-short"},
	} {
		r := newRegion(t, 3, 3, func(c *Config) { c.TailEntries, c.PinFactor = tail, 2 })
		rnd := rand.New(rand.NewPCG(tail, 4))
		for _, what := range some {
			victim := r.leader(1)
			via := victim%3 + 1
			put(t, r.node(via).router, 1, what+"-before", what, "before")
			l := startLoad(t, r, via, what, 3)
			dir := r.stop(victim)
			if err := harms[what](filepath.Join(dir, "kv-1.json"), rnd); err != nil {
				t.Fatal(err)
			}
			for n := l.count(1) + 60; l.count(1) < n; {
				put(t, r.node(via).router, 2, fmt.Sprint(what, "-", l.count(1)), "x", "y")
			}
			nd := r.open(victim, dir)
			if got := roleOf(nd.host, 1); got != RoleRebuilding {
				t.Fatalf("%s: group 1 is %s", what, got)
			}
			for _, g := range []GroupID{0, 2} {
				if got := roleOf(nd.host, g); got != RoleFollower {
					t.Fatalf("%s: group %d is %s", what, g, got)
				}
			}
			var absent *AbsentError
			if _, err := nd.host.Query(testContext(t), 1, []byte(what)); !errors.As(err, &absent) || !errors.Is(err, ErrUnavailable) {
				t.Fatalf("%s: %v", what, err)
			}
			r.run(nd)
			// While it is away others answer for it.
			if got := get(t, nd.router, 1, what); got != "before" {
				t.Fatalf("%s: read %q", what, got)
			}
			eventually(t, "the group to be back", func() bool { return roleOf(nd.host, 1) == RoleFollower || roleOf(nd.host, 1) == RoleLeader })
			l.end(t, nd)
		}
		r.close()
	}
}

// Nobody is there to ask at first.
func TestRebuildWaitsForPeers(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := newRegion(t, 3, 2, nil)
	defer r.close()
	put(t, r.node(1).router, 1, "a", "k", "v")
	dirs := map[ReplicaID]string{}
	for _, id := range r.ids {
		dirs[id] = r.stop(id)
	}
	if err := os.Remove(filepath.Join(dirs[1], "kv-1.json")); err != nil {
		t.Fatal(err)
	}
	r.run(r.open(1, dirs[1]))
	// One more is no majority without node 1, but it has the state.
	r.run(r.open(2, dirs[2]))
	for _, id := range []ReplicaID{1, 2} {
		if got := get(t, r.node(id).router, 1, "k"); got != "v" {
			t.Fatalf("node %d reads %q", id, got)
		}
	}
}

// A state goes bad while its group leads: another leads, the state is fetched, and
// the node and its other groups never stop.
func TestStateGoesBadAtRunTime(t *testing.T) {
	defer goleak.VerifyNone(t)
	var mu sync.Mutex
	disks := map[string]*kvDisk{}
	open := func(dir string) func(GroupID) (StateMachine, error) {
		return func(g GroupID) (StateMachine, error) {
			d := &kvDisk{path: filepath.Join(dir, fmt.Sprintf("kv-%d.json", g))}
			mu.Lock()
			disks[d.path] = d
			mu.Unlock()
			if err := d.load(); err != nil {
				return nil, err
			}
			return openKV(d), nil
		}
	}
	r := newRegionWith(t, 3, 2, 10_000_000, open)
	defer r.close()
	for round := range 3 {
		victim := r.leader(1)
		nd := r.node(victim)
		l := startLoad(t, r, victim, fmt.Sprint("r", round, "-"), 2)
		put(t, nd.router, 1, fmt.Sprint("before", round), "k", fmt.Sprint(round))
		g := nd.host.group(1)
		sm := g.ap.sm.(*kv)
		sm.mu.Lock()
		sm.disk.harmed = true
		sm.mu.Unlock()
		eventually(t, "the group to leave", func() bool { return nd.host.group(1) != g })
		n := l.count(0)
		eventually(t, "the other group to go on", func() bool { return l.count(0) > n+10 })
		eventually(t, "the group to be back", func() bool { return nd.host.group(1) != nil })
		l.end(t, nd)
	}
}

// A peer that cannot help is not believed: its state ends before our log begins.
func TestStateThatIsTooOldIsRefused(t *testing.T) {
	log := newMemLog()
	conf, err := marshalConf(confOf(1, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Save([]Update{{Group: 0, HardState: hardState(4, 2, 30), Reset: &Mark{Index: 30, Term: 4}, Entries: entriesAt(4, 31, 5)}}, true); err != nil {
		t.Fatal(err)
	}
	disk := &kvDisk{}
	h := mustSingle(t, log, disk, nil)
	for _, c := range []struct {
		at   Applied
		last uint64 // of the log once the state is in; 0 if it is refused
	}{
		{Applied{29, 4, conf}, 0},
		{Applied{33, 4, conf}, 35},
	} {
		image := filepath.Join(t.TempDir(), "image")
		if err := (&kvDisk{path: image}).store(kvImage{At: c.at}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(image, b[8:], 0o600); err != nil {
			t.Fatal(err)
		}
		a := h.absentGroup(0)
		sm, err := a.restore(image)
		if err != nil {
			t.Fatal(err)
		}
		err = a.join(sm)
		if c.last == 0 {
			if !errors.Is(err, ErrDamaged) || roleOf(h, 0) != RoleRebuilding {
				t.Fatal(err, roleOf(h, 0))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		g := h.group(0)
		if hs := g.st.hs; g.st.last != c.last || hs.GetTerm() != 4 || hs.GetVote() != 2 || hs.GetCommit() != 33 {
			t.Fatalf("log ends at %d, hard state %v", g.st.last, hs)
		}
	}
}
