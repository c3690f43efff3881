package replica

import (
	"fmt"
	"testing"
)

// propose commits one write at the leader and moves the clock until it is
// acknowledged.
func (s *sim) propose(g GroupID, id, key, value string) {
	deadline := s.now + 30000
	for s.failure == nil {
		if s.now > deadline {
			s.check(fmt.Errorf("write %s was not acknowledged:%s", id, s.describe()))
			return
		}
		n := s.leader(g)
		if n == nil {
			s.advance(s.now+simStep, nil)
			continue
		}
		p := &proposal{group: g, seq: n.host.seq.Add(1), done: make(chan outcome, 1)}
		p.data = encodeEntry(n.id, p.seq, command(id, key, value))
		n.host.in.addProposal(p)
		for tries := 0; tries < 200 && n.host != nil; tries++ {
			s.advance(s.now+simStep, nil)
			select {
			case out := <-p.done:
				if out.err == nil {
					return
				}
				tries = 200
			default:
			}
		}
	}
}

// read asks one node for a linearizable value.
func (s *sim) read(id ReplicaID, g GroupID, key string) string {
	deadline := s.now + 30000
	for s.now < deadline && s.failure == nil {
		n := s.nodes[id]
		r := &readWaiter{group: g, done: make(chan error, 1)}
		n.host.in.addRead(r)
		for range 600 {
			s.advance(s.now+simStep, nil)
			select {
			case err := <-r.done:
				if err == nil {
					out, err := n.host.QueryLocal(g, []byte(key))
					s.check(err)
					return string(out)
				}
			default:
				continue
			}
			break
		}
	}
	s.check(fmt.Errorf("node %d gave no answer:%s", id, s.describe()))
	return ""
}

// runScene runs f on a bootstrapped simulation for a number of seeds.
func runScene(t *testing.T, seeds int, f func(s *sim)) {
	dir := tempSimDir(t)
	for seed := 1; seed <= seeds; seed++ {
		withSeed(uint64(seed), func() {
			s := newSim(uint64(seed), fmt.Sprint(dir, "/", seed), 1)
			s.start()
			f(s)
			if s.failure != nil {
				t.Fatalf("seed %d: %v", seed, s.failure)
			}
		})
	}
}

func (s *sim) down(ids ...ReplicaID) {
	for _, id := range ids {
		s.crash(s.nodes[id], 1<<30)
	}
}

// Zone B is away; writes are acknowledged by A1, A2 and the witness; zone A
// dies; B returns. Only the witness can tell B what was acknowledged.
func TestLag(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes int // more than the tail means a snapshot, less the log
	}{{"log", 5}, {"snapshot", 60}} {
		t.Run(c.name, func(t *testing.T) {
			runScene(t, 30, func(s *sim) {
				a, b := []ReplicaID{1, 2}, []ReplicaID{3, 4}
				s.propose(0, "first", "k", "v")
				s.cut(b, []ReplicaID{1, 2, 5}, true, true)
				for i := range c.writes {
					s.propose(0, fmt.Sprint("w", i), fmt.Sprint("k", i), fmt.Sprint(i))
				}
				s.down(a...)
				s.cut(b, []ReplicaID{1, 2, 5}, false, true)
				s.propose(0, "after", "k", "again")
				for _, id := range []ReplicaID{3, 4, 5} {
					for i := range c.writes {
						if got := s.read(id, 0, fmt.Sprint("k", i)); got != fmt.Sprint(i) {
							s.check(fmt.Errorf("replica %d: acknowledged write %d reads as %q", id, i, got))
						}
					}
					if got := s.read(id, 0, "k"); got != "again" {
						s.check(fmt.Errorf("replica %d reads %q after the failover", id, got))
					}
				}
			})
		})
	}
}

// The witness leads if it must, and not for longer than it must.
func TestWitnessHandsOver(t *testing.T) {
	runScene(t, 20, func(s *sim) {
		s.propose(0, "first", "k", "v")
		s.cut([]ReplicaID{3, 4}, []ReplicaID{1, 2, 5}, true, true)
		s.propose(0, "second", "k", "w") // only A and the witness have it
		s.down(1, 2)
		s.cut([]ReplicaID{3, 4}, []ReplicaID{1, 2, 5}, false, true)
		s.propose(0, "third", "k", "x")
		s.advance(s.now+5000, nil)
		if l := s.leader(0); l == nil || l.id == simWitness {
			s.check(fmt.Errorf("the witness still leads:%s", s.describe()))
		}
	})
}

// Zones cut from each other while both see the witness: one leader stays.
func TestNoElectionsWithoutNeed(t *testing.T) {
	runScene(t, 20, func(s *sim) {
		s.propose(0, "first", "k", "v")
		s.advance(s.now+2000, nil)
		s.cut([]ReplicaID{1, 2}, []ReplicaID{3, 4}, true, true)
		s.advance(s.now+5000, nil) // let the side that lost the leader settle
		before := s.leader(0).host.group(0).status.Load().Term
		s.advance(s.now+60000, nil)
		if after := s.leader(0).host.group(0).status.Load().Term; after > before+1 {
			s.check(fmt.Errorf("term went from %d to %d in a minute", before, after))
		}
	})
}

// A voter is lost for good; a new replica with a new id takes its place, while
// crashes and losses go on.
func TestReplaceVoter(t *testing.T) {
	const dead, fresh = ReplicaID(2), ReplicaID(6)
	runScene(t, 40, func(s *sim) {
		for i := range 30 {
			s.propose(0, fmt.Sprint("w", i), fmt.Sprint("k", i), fmt.Sprint(i))
		}
		s.down(dead)
		s.ids = append(without(s.ids, dead), fresh)
		n := &simNode{id: fresh, log: newMemLog(), disks: map[GroupID]*kvDisk{}, armed: map[string]bool{}}
		s.nodes[fresh] = n
		s.boot(n)
		s.check(n.host.Join(0, fresh, 0))
		if s.rnd.IntN(2) == 0 {
			n.armed[pick(s.rnd, crashPoints)] = true
		}
		s.loss = 0.05
		s.change(ConfChange{AddLearners: []ReplicaID{fresh}}, func(st *GroupStatus) bool {
			return len(st.Learners) == 1
		})
		s.propose(0, "between", "k", "v")
		for deadline := s.now + 60000; s.failure == nil; s.advance(s.now+50, nil) {
			l := s.leader(0)
			if l != nil && l.host.group(0).matches()[fresh].Index >= l.host.group(0).commit {
				break
			}
			if s.now > deadline {
				s.check(fmt.Errorf("the learner does not catch up:%s", s.describe()))
			}
		}
		if l := s.leader(0); l != nil && s.rnd.IntN(2) == 0 {
			l.armed[pick(s.rnd, []string{pointBeforeSave, pointAfterSave})] = true
		}
		s.change(ConfChange{Promote: []ReplicaID{fresh}, Remove: []ReplicaID{dead}}, func(st *GroupStatus) bool {
			return len(st.Voters) == 5 && len(st.Learners) == 0 && len(st.VotersOutgoing) == 0
		})
		s.heal()
		// The new member counts: with two others gone it is needed.
		s.propose(0, "whole", "k", "v2")
		s.advance(s.now+3000, nil)
		s.down(1, 3)
		s.propose(0, "last", "k", "v3")
		for i := range 30 {
			if got := s.read(fresh, 0, fmt.Sprint("k", i)); got != fmt.Sprint(i) {
				s.check(fmt.Errorf("the new replica reads %q for write %d", got, i))
			}
		}
	})
}

// change proposes until the leader shows the members wanted.
func (s *sim) change(c ConfChange, done func(*GroupStatus) bool) {
	for deadline := s.now + 60000; s.failure == nil; s.advance(s.now+100, nil) {
		if s.now > deadline {
			s.check(fmt.Errorf("members do not change to %+v:%s", c, s.describe()))
			return
		}
		n := s.leader(0)
		if n == nil {
			continue
		}
		g := n.host.group(0)
		g.publish()
		if done(g.status.Load()) {
			return
		}
		p := &proposal{group: 0, seq: n.host.seq.Add(1), conf: &c, done: make(chan outcome, 1)}
		n.host.in.addProposal(p)
	}
}
