package replica

import (
	"errors"
	"fmt"
	"testing"
)

// A node loses all it had and nobody else can take its place: it comes back as a new
// replica under a new id, on the same node, while its old id is still a voter.
func TestLostVoterComesBackAsAnother(t *testing.T) {
	const host = ReplicaID(2)
	fresh := NewReplicaID(host, 7)
	runScene(t, 40, func(s *sim) {
		for i := range 30 {
			s.propose(0, fmt.Sprint("w", i), fmt.Sprint("k", i), fmt.Sprint(i))
		}
		n := s.nodes[host]
		s.down(host)
		n.log, n.disks, n.upAt = newMemLog(), map[GroupID]*kvDisk{}, 0
		s.boot(n)
		s.check(n.host.Hold(0, errors.New("lost")))
		s.advance(s.now+1000, nil)
		s.check(n.host.Drop(0, host, errors.New("lost")))
		s.check(n.host.Join(0, fresh, 0))
		s.check(n.host.Join(0, fresh, 0)) // asked again
		if err := n.host.Join(0, NewReplicaID(host, 8), 0); !errors.Is(err, ErrExists) {
			s.check(fmt.Errorf("a second replica: %w", err))
		}
		s.loss = 0.05
		if s.rnd.IntN(2) == 0 {
			n.armed[pick(s.rnd, crashPoints)] = true
		}
		s.replace(host, fresh)
		s.heal()
		s.advance(s.now+3000, nil)
		s.down(1, 3) // now its vote is needed
		s.propose(0, "last", "k", "v")
		for i := range 30 {
			if got := s.read(host, 0, fmt.Sprint("k", i)); got != fmt.Sprint(i) {
				s.check(fmt.Errorf("the new replica reads %q for write %d", got, i))
			}
		}
		if st := n.host.Status()[0]; st.Self != fresh {
			s.check(fmt.Errorf("the node has %+v", st))
		}
	})
}

// A voter that was voted out while it was away comes back with its old log: it never
// leads or carries a vote again, and is dropped.
func TestVotedOutStaysOut(t *testing.T) {
	const gone, fresh = ReplicaID(2), ReplicaID(6)
	runScene(t, 40, func(s *sim) {
		s.propose(0, "first", "k", "v")
		s.down(gone)
		n := &simNode{id: fresh, log: newMemLog(), disks: map[GroupID]*kvDisk{}, armed: map[string]bool{}}
		s.nodes[fresh] = n
		s.ids = append(without(s.ids, gone), fresh)
		s.boot(n)
		s.check(n.host.Join(0, fresh, 0))
		s.replace(gone, fresh)
		s.propose(0, "second", "k", "w")
		s.advance(s.now+5000, nil) // the witness may have led, and hands over
		s.nodes[gone].upAt = s.now
		s.ids = append(s.ids, gone)
		term := s.leader(0).host.group(0).term
		s.advance(s.now+5000, nil)
		old := s.nodes[gone].host
		if st := old.Status()[0]; st.Leader == gone {
			s.check(fmt.Errorf("it leads: %+v", st))
		}
		if now := s.leader(0).host.group(0).term; now > term {
			s.check(fmt.Errorf("the term went from %d to %d", term, now))
		}
		if err := old.Drop(0, fresh, nil); !errors.Is(err, ErrNoGroup) {
			s.check(fmt.Errorf("drop of another replica: %w", err))
		}
		s.check(old.Drop(0, gone, errors.New("voted out")))
		if len(old.Status()) != 0 {
			s.check(fmt.Errorf("it still has %+v", old.Status()))
		}
		// As a new replica it may come back, here as a learner.
		back := NewReplicaID(gone, 1)
		s.check(old.Join(0, back, 0))
		s.change(ConfChange{AddLearners: []ReplicaID{back}}, func(st *GroupStatus) bool { return len(st.Learners) == 1 })
		for deadline := s.now + 60000; s.failure == nil && old.Status()[0].Applied < s.leader(0).host.Status()[0].Commit; s.advance(s.now+50, nil) {
			if s.now > deadline {
				s.check(fmt.Errorf("the learner does not catch up:%s", s.describe()))
			}
		}
		if got := s.read(gone, 0, "k"); got != "w" {
			s.check(fmt.Errorf("it reads %q", got))
		}
		// Voted out again while it is there: nobody tells it, but it notices that it
		// hears no leader any more, and then it can ask.
		s.change(ConfChange{Remove: []ReplicaID{back}}, func(st *GroupStatus) bool { return len(st.Learners) == 0 })
		for deadline := s.now + 3*electionTicks*simTick; s.failure == nil && old.Leader(0) != 0; s.advance(s.now+50, nil) {
			if s.now > deadline {
				s.check(fmt.Errorf("it still believes in a leader: %+v", old.Status()))
			}
		}
	})
}

// replace brings a new replica in for an old one, as an operator would: a learner
// first, and one joint change once it has caught up.
func (s *sim) replace(old, fresh ReplicaID) {
	has := func(ids []ReplicaID, id ReplicaID) bool {
		for _, x := range ids {
			if x == id {
				return true
			}
		}
		return false
	}
	s.change(ConfChange{AddLearners: []ReplicaID{fresh}}, func(st *GroupStatus) bool { return has(st.Learners, fresh) })
	for deadline := s.now + 60000; s.failure == nil; s.advance(s.now+50, nil) {
		l := s.leader(0)
		if l != nil && l.host.group(0).matches()[fresh].Index >= l.host.group(0).commit {
			break
		}
		if s.now > deadline {
			s.check(fmt.Errorf("the learner does not catch up:%s", s.describe()))
		}
	}
	s.change(ConfChange{Promote: []ReplicaID{fresh}, Remove: []ReplicaID{old}}, func(st *GroupStatus) bool {
		return has(st.Voters, fresh) && !has(st.Voters, old) && len(st.VotersOutgoing) == 0
	})
}
