package replica

import (
	"errors"
	"fmt"
	"testing"
)

// survivors inspects nodes that are down.
func (s *sim) survivors(ids ...ReplicaID) (out []Survivor) {
	for _, id := range ids {
		n := s.nodes[id]
		have, err := Inspect(n.log, id, func(g GroupID) (StateMachine, error) { return openKV(n.disks[g]), nil })
		s.check(err)
		out = append(out, have...)
	}
	return out
}

// recover carries a verdict out on nodes that are down, and starts them.
func (s *sim) recover(v Verdict, ids ...ReplicaID) {
	for _, id := range ids {
		n := s.nodes[id]
		if id == v.Winner {
			// Cut off before the log is touched, it is done again.
			last := command("recovered", "force", "used")
			if s.rnd.IntN(2) == 0 {
				s.check(Recover(noSaves{n.log}, openKV(n.disks[0]), v, last, func(uint64, uint64) {}))
			}
			s.check(Recover(n.log, openKV(n.disks[0]), v, last, func(uint64, uint64) {}))
		} else {
			delete(n.disks, 0)
			s.check(n.log.Drop(0))
		}
		n.upAt = s.now
	}
}

type noSaves struct{ LogStore }

func (noSaves) Save([]Update, bool) error { return nil }

// Zone A and the witness are lost for good. Zone B is recovered by force with all that
// either of its nodes had. Then the lost nodes come back from their old files, a
// majority of the old members, and go on among themselves: nothing of theirs is ever
// heard by the recovered side, and nothing of the recovered side is undone. Once they
// are told they are held, and come back as new members.
func TestForcedRecovery(t *testing.T) {
	runScene(t, 60, func(s *sim) {
		for i := range 20 {
			s.propose(0, fmt.Sprint("w", i), fmt.Sprint("k", i), fmt.Sprint(i))
		}
		s.propose(0, "shared", "k", "before")
		s.advance(s.now+1000, nil) // zone B has it
		if s.rnd.IntN(2) == 0 {    // it may be behind, by some writes that it may have in its logs
			s.laggy, s.loss = 0.8, 0.2
			for i := range s.rnd.IntN(20) {
				s.propose(0, fmt.Sprint("late", i), "late", fmt.Sprint(i))
			}
		}
		s.laggy, s.loss = 0, 0
		s.down(1, 2, 3, 4, 5)
		v := JudgeRecovery(0, s.survivors(3, 4))
		if v.Winner != 3 && v.Winner != 4 || v.Epoch != 1 || len(v.Lost) != 3 || len(v.Archive) != 1 {
			s.check(fmt.Errorf("verdict %+v", v))
			return
		}
		other := v.Archive[0]
		s.recover(v, 3, 4)
		s.ids = []ReplicaID{v.Winner}
		s.propose(0, "after", "k", "recovered")
		if got := s.read(v.Winner, 0, "force"); got != "used" {
			s.check(fmt.Errorf("the recovered state does not know of it: %q", got))
		}
		for i := range 20 {
			if got := s.read(v.Winner, 0, fmt.Sprint("k", i)); got != fmt.Sprint(i) {
				s.check(fmt.Errorf("write %d reads %q after the recovery", i, got))
			}
		}
		// The other survivor, as a new voter.
		back := NewReplicaID(other, 1)
		s.ids = append(s.ids, other)
		s.advance(s.now+50, nil)
		s.check(s.nodes[other].host.Join(0, back, 1))
		s.change(ConfChange{AddLearners: []ReplicaID{back}}, func(st *GroupStatus) bool { return len(st.Learners) == 1 })
		s.change(ConfChange{Promote: []ReplicaID{back}}, func(st *GroupStatus) bool { return len(st.Voters) == 2 })

		// The old side: a majority of its own.
		old := []ReplicaID{1, 2, 5}
		for _, id := range old {
			s.nodes[id].upAt = s.now
		}
		s.ids = append(s.ids, old...)
		s.advance(s.now+5000, nil)
		for _, id := range old {
			h := s.nodes[id].host
			if h == nil {
				continue
			}
			h.in.addProposal(&proposal{group: 0, seq: h.seq.Add(1), data: encodeEntry(id, h.seq.Load(), command("ghost", "k", "ghost")), done: make(chan outcome, 1)})
		}
		s.advance(s.now+3000, nil)
		s.propose(0, "later", "k2", "w")
		for _, id := range []ReplicaID{v.Winner, other} {
			if got := s.read(id, 0, "k"); got != "recovered" {
				s.check(fmt.Errorf("replica on %d reads %q", id, got))
			}
		}
		for _, id := range old {
			n := s.nodes[id]
			if n.host == nil {
				s.boot(n)
			}
			if held, err := n.host.HoldOld(0, 1); err != nil || !held {
				s.check(fmt.Errorf("node %d: held %v: %w", id, held, err))
			}
			s.check(n.host.Drop(0, id, errors.New("declared dead")))
			fresh := NewReplicaID(id, 1)
			s.check(n.host.Join(0, fresh, 1))
			s.change(ConfChange{AddLearners: []ReplicaID{fresh}}, func(st *GroupStatus) bool { return len(st.Learners) == 1 })
			s.change(ConfChange{Promote: []ReplicaID{fresh}}, func(st *GroupStatus) bool { return len(st.Learners) == 0 })
		}
		for _, id := range old {
			if got := s.read(id, 0, "k"); got != "recovered" {
				s.check(fmt.Errorf("the old side's node %d reads %q", id, got))
			}
		}
	})
}

func TestJudgeRecovery(t *testing.T) {
	five := []ReplicaID{1, 2, 3, 4, 5}
	s := func(id ReplicaID, epoch uint32, term, last uint64) Survivor {
		return Survivor{Self: id, Epoch: epoch, Term: term + 1, LastTerm: term, LastIndex: last, Voters: five}
	}
	bad := func(s Survivor) Survivor { s.Damage = "torn"; return s }
	alone := func(s Survivor) Survivor { s.Voters = []ReplicaID{s.Self}; return s }
	for _, c := range []struct {
		name    string
		have    []Survivor
		winner  ReplicaID
		epoch   uint32
		archive int
		lost    int
	}{
		{"nobody", nil, 0, 0, 0, 0},
		{"a majority", []Survivor{s(1, 0, 3, 9), s(2, 0, 3, 9), s(3, 0, 2, 9)}, 0, 0, 0, 2},
		{"the later term beats the longer log", []Survivor{s(3, 0, 2, 90), s(4, 0, 3, 9)}, 4, 1, 1, 3},
		{"of one term the longer log", []Survivor{s(3, 0, 3, 10), s(4, 0, 3, 9)}, 3, 1, 1, 3},
		{"a damaged one does not count", []Survivor{s(1, 0, 3, 9), s(2, 0, 3, 9), bad(s(3, 0, 9, 99))}, 1, 1, 2, 3},
		{"all damaged", []Survivor{bad(s(1, 0, 3, 9))}, 0, 0, 0, 0},
		{"recovered before: the old ones go", []Survivor{alone(s(3, 1, 9, 20)), s(4, 0, 3, 9), s(1, 0, 3, 99)}, 0, 1, 2, 0},
		{"an empty one", []Survivor{{Self: 4, Voters: nil}, s(3, 0, 3, 9)}, 3, 1, 1, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := JudgeRecovery(7, c.have)
			if v.Winner != c.winner || v.Epoch != c.epoch || len(v.Archive) != c.archive || len(v.Lost) != c.lost || v.Group != 7 || v.Why == "" {
				t.Errorf("%+v", v)
			}
			for _, s := range c.have {
				if v.Winner != 0 && v.Term <= s.Term {
					t.Errorf("term %d is not behind %d", v.Term, s.Term)
				}
			}
		})
	}
}
