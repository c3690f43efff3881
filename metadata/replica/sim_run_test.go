package replica

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

var (
	simSeeds = flag.Int("sim.seeds", 200, "how many seeds the simulation runs")
	simSeed  = flag.Uint64("sim.seed", 0, "the one seed to run, as printed by a failure")
)

var crashPoints = []string{
	pointBeforeSave, pointAfterSave, pointBeforeFlush, pointAfterFlush,
	pointBeforeInstall, pointAfterInstall, pointBeforeCompact, pointSnapshotQueued,
}

// fault lets one of the faults happen, and perhaps another one heal.
func (s *sim) fault() {
	zoneA, zoneB, w := []ReplicaID{1, 2}, []ReplicaID{3, 4}, []ReplicaID{5}
	n := s.nodes[pick(s.rnd, s.ids)]
	switch k := s.rnd.IntN(17); k {
	case 0, 1: // a crash at a persist point, when it next comes by
		if n.host != nil {
			n.armed[pick(s.rnd, crashPoints)] = true
		}
	case 2: // where snapshots are taken in
		for _, id := range s.ids {
			if s.nodes[id].host != nil {
				s.nodes[id].armed[pick(s.rnd, []string{pointAfterInstall, pointBeforeInstall})] = true
			}
		}
	case 3: // a crash between turns, perhaps long enough to need a snapshot
		if n.host != nil {
			s.crash(n, 50+s.rnd.IntN(6000))
			if s.rnd.IntN(3) == 0 && s.whole(n) {
				s.loseStates(n)
			}
		}
	case 4: // everything loses power at once
		for _, id := range s.ids {
			if s.nodes[id].host != nil {
				s.crash(s.nodes[id], 50+s.rnd.IntN(500))
			}
		}
	case 5: // the leader stops for a while, and does not know it
		if l := s.leader(0); l != nil {
			l.paused = s.now + 500 + s.rnd.IntN(3000)
		}
	case 6:
		s.cut([]ReplicaID{n.id}, without(s.ids, n.id), true, true)
	case 7: // it hears nobody, or nobody hears it
		if s.rnd.IntN(2) == 0 {
			s.cut([]ReplicaID{n.id}, without(s.ids, n.id), true, false)
		} else {
			s.cut(without(s.ids, n.id), []ReplicaID{n.id}, true, false)
		}
	case 8: // zones cut, the witness with one of them
		s.cut(zoneA, append(zoneB, w...), true, true)
	case 9: // zones cut, both see the witness
		s.cut(zoneA, zoneB, true, true)
	case 10:
		s.loss, s.dup = s.rnd.Float64()*0.3, s.rnd.Float64()*0.2
	case 11:
		s.maxDelay = 20 + s.rnd.IntN(200)
	case 12:
		s.laggy = s.rnd.Float64()
	case 13: // a state goes bad while it is in use
		if d := n.disks[GroupID(s.rnd.IntN(s.groups))]; d != nil && n.host != nil && s.whole(n) {
			s.hits["harmed state"]++
			d.harmed = true
		}
	default:
		clear(s.blocked)
		s.loss, s.dup, s.maxDelay, s.laggy = 0, 0, 15, 0
	}
	s.note("fault")
}

// whole tells whether a majority keeps its states if this node loses its own.
func (s *sim) whole(but *simNode) bool {
	poor := 0
	for _, id := range without(s.ids, but.id) {
		for _, d := range s.nodes[id].disks {
			if d.harmed || d.image.At.Index == 0 {
				poor++
				break
			}
		}
	}
	return poor < len(s.ids)/2
}

// scenario is one seed: faults under load, then peace, then what must be true.
func (s *sim) scenario() (h *history) {
	h = &history{acked: map[GroupID]map[string]string{}}
	var clients []*simClient
	for i := range 5 {
		clients = append(clients, &simClient{s: s, id: i})
	}
	active := true
	each := func() {
		for _, c := range clients {
			c.step(h, active)
		}
	}
	s.start()
	s.advance(1500, each)
	for end := s.now + 9000; s.now < end && s.failure == nil; {
		s.fault()
		s.advance(s.now+50+s.rnd.IntN(900), each)
	}
	s.heal()
	active = false
	deadline := s.now + 60000
	for s.failure == nil {
		s.advance(s.now+200, each)
		idle := true
		for _, c := range clients {
			idle = idle && c.op == nil
		}
		if idle && s.converged() {
			break
		}
		if s.now > deadline {
			s.check(fmt.Errorf("not whole again a minute after the last fault:%s", s.describe()))
		}
	}
	if s.failure == nil {
		s.check(s.verify(h))
	}
	return h
}

// describe says where every replica stands.
func (s *sim) describe() (out string) {
	for _, id := range s.ids {
		n := s.nodes[id]
		if n.host == nil {
			out += fmt.Sprintf("\n  node %d is down", id)
			continue
		}
		for _, a := range n.host.absentGroups() {
			out += fmt.Sprintf("\n  node %d group %d: %s: %v", id, a.id, a.role, a.why)
		}
		for _, g := range n.host.all() {
			out += fmt.Sprintf("\n  node %d group %d: %s lead %d term %d log (%d, %d] commit %d applied %d halted %v matches %v", id, g.id,
				g.roleName(), g.lead, g.term, g.st.mark.Index, g.st.last, g.commit, g.ap.applied.Load().Index, g.halted, g.matches())
		}
	}
	return out
}

// verify compares the replicas with each other and with what clients were told.
func (s *sim) verify(h *history) error {
	for g := range s.groups {
		id := GroupID(g)
		first := s.nodes[s.ids[0]].host.group(id).ap.sm.(*kv).image()
		for _, r := range s.ids[1:] {
			im := s.nodes[r].host.group(id).ap.sm.(*kv).image()
			if !maps.Equal(im.KV, first.KV) || !maps.Equal(im.Done, first.Done) || im.At.Index != first.At.Index || im.At.Term != first.At.Term {
				return fmt.Errorf("group %d: replicas %d and %d differ: %+v %+v", g, s.ids[0], r, first, im)
			}
		}
		for req := range h.acked[id] {
			if _, ok := first.Done[req]; !ok {
				return fmt.Errorf("group %d: acknowledged write %s is lost", g, req)
			}
		}
		for key, v := range first.KV { // the last word on each register
			op := &simOp{group: id, key: key, called: int(h.tick())}
			h.add(99, op, simOutput{value: v})
		}
	}
	if r := porcupine.CheckOperationsTimeout(swapModel, h.ops, 20*time.Second); r != porcupine.Ok {
		return fmt.Errorf("history of %d operations: %v", len(h.ops), r)
	}
	return nil
}

// runSeed returns the simulation after its end; failure is in it.
func runSeed(seed uint64, dir string, tune func(*sim)) (s *sim, h *history) {
	withSeed(seed, func() {
		s = newSim(seed, fmt.Sprintf("%s/%d", dir, seed), 2)
		if tune != nil {
			tune(s)
		}
		h = s.scenario()
	})
	return s, h
}

// seeds to run: those of -sim.seed or BIVALVE_SIM_SEED alone, or a range.
func seedsToRun(t *testing.T) []uint64 {
	one := *simSeed
	if e := os.Getenv("BIVALVE_SIM_SEED"); e != "" {
		v, err := strconv.ParseUint(e, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		one = v
	}
	if one != 0 {
		return []uint64{one}
	}
	n := *simSeeds
	if testing.Short() {
		n = min(n, 40)
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = uint64(i + 1)
	}
	return out
}

func tempSimDir(t *testing.T) string {
	d := simDir(t.TempDir())
	t.Cleanup(func() {
		if err := os.RemoveAll(d); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestSimulation(t *testing.T) {
	dir := tempSimDir(t)
	hits := map[string]int{}
	ops, acked := 0, 0
	seeds := seedsToRun(t)
	for _, seed := range seeds {
		s, h := runSeed(seed, dir, nil)
		if s.failure != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./metadata/replica -run TestSimulation -sim.seed=%d", seed, s.failure, seed)
		}
		for k, v := range s.hits {
			hits[k] += v
		}
		ops += len(h.ops)
		for _, a := range h.acked {
			acked += len(a)
		}
	}
	t.Logf("seeds %d, operations %d, acknowledged writes %d, points hit %v", len(seeds), ops, acked, hits)
	if len(seeds) >= 100 {
		for _, p := range append(crashPoints, "snapshot", "lost state", "harmed state", "rebuilt") {
			if hits[p] == 0 {
				t.Errorf("no crash at point %s", p)
			}
		}
	}
}

// The same seed gives the same run, message for message.
func TestSimulationReplays(t *testing.T) {
	dir := tempSimDir(t)
	for _, seed := range []uint64{3, 4} {
		a, _ := runSeed(seed, dir+"/a", nil)
		b, _ := runSeed(seed, dir+"/b", nil)
		if a.trace.Sum64() != b.trace.Sum64() || a.seq != b.seq {
			t.Fatalf("seed %d ran differently the second time", seed)
		}
	}
}

// The checkers are worth something only if they see what is broken on purpose.
func TestSimulationSeesMissingBarrier(t *testing.T) {
	expectRed(t, func(s *sim) { s.noRead = true })
}

func TestSimulationSeesMissingSync(t *testing.T) {
	expectRed(t, func(s *sim) { s.noSync = true })
}

func expectRed(t *testing.T, broken func(*sim)) {
	dir := tempSimDir(t)
	for seed := uint64(1); seed <= 60; seed++ {
		if s, _ := runSeed(seed, dir, broken); s.failure != nil {
			t.Logf("seed %d: %v", seed, s.failure)
			return
		}
	}
	t.Fatal("no seed noticed")
}
