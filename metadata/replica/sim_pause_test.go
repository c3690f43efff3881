package replica

import (
	"fmt"
	"testing"
)

// The leader stops for 1 to 120 seconds, as a stopped process does: its clock stands
// still, and what was sent to it waits. The others elect another and go on. When it
// goes on it answers nothing that is old: neither a read that was asked before or
// after, nor the acknowledgement of a write that the others do not have.
func TestPausedLeader(t *testing.T) {
	runScene(t, fewer(12), func(s *sim) {
		s.propose(0, "first", "k", "old")
		s.advance(s.now+3000, nil)
		old := s.leader(0)
		r := &readWaiter{group: 0, done: make(chan error, 1)}
		p := &proposal{group: 0, seq: old.host.seq.Add(1), done: make(chan outcome, 1)}
		p.data = encodeEntry(old.id, p.seq, command("lost", "k", "lost"))
		old.paused = s.now + 1000 + s.rnd.IntN(119_000)
		began := s.now
		s.propose(0, "second", "k", "new") // at another
		s.propose(0, "third", "k", "newer")
		if took := s.now - began; took > 15_000 {
			s.check(fmt.Errorf("nobody else led for %d ms", took))
		}
		for s.now < old.paused && s.failure == nil {
			s.advance(s.now+500, nil)
		}
		// It still believes that it leads when these reach it.
		if readBarrier {
			old.host.in.addRead(r)
		} else {
			r.finish(nil)
		}
		old.host.in.addProposal(p)
		acked := false
		for range 6000 / simStep {
			s.advance(s.now+simStep, nil)
			select {
			case err := <-r.done:
				if err == nil {
					got, err := old.host.QueryLocal(0, []byte("k"))
					s.check(err)
					if string(got) != "newer" {
						s.check(fmt.Errorf("a stale read: %q", got))
					}
				}
			case out := <-p.done:
				acked = out.err == nil
			default:
			}
		}
		if got := s.read(pick(s.rnd, s.ids), 0, "k"); acked != (got == "lost") && acked {
			s.check(fmt.Errorf("the acknowledged write is not there, but %q", got))
		}
		if n := s.leader(0); n == nil {
			s.check(fmt.Errorf("nobody leads:%s", s.describe()))
		}
	})
}

// One-way cuts: one node, or a zone, hears the others and is not heard, or the other
// way round. Nobody dances: at most one election in a minute after the first seconds,
// and somebody serves all the time.
func TestOneWayCuts(t *testing.T) {
	all := []ReplicaID{1, 2, 3, 4, 5}
	for name, c := range map[string]func(s *sim) (from, to []ReplicaID){
		"a follower is not heard": func(s *sim) ([]ReplicaID, []ReplicaID) {
			f := pick(s.rnd, without(all, s.leader(0).id, simWitness))
			return []ReplicaID{f}, without(all, f)
		},
		"a follower hears nobody": func(s *sim) ([]ReplicaID, []ReplicaID) {
			f := pick(s.rnd, without(all, s.leader(0).id, simWitness))
			return without(all, f), []ReplicaID{f}
		},
		"the leader is not heard": func(s *sim) ([]ReplicaID, []ReplicaID) {
			l := s.leader(0).id
			return []ReplicaID{l}, without(all, l)
		},
		"the leader hears nobody": func(s *sim) ([]ReplicaID, []ReplicaID) {
			l := s.leader(0).id
			return without(all, l), []ReplicaID{l}
		},
		"zone a does not hear zone b":      func(s *sim) ([]ReplicaID, []ReplicaID) { return []ReplicaID{3, 4}, []ReplicaID{1, 2} },
		"zone b does not hear zone a":      func(s *sim) ([]ReplicaID, []ReplicaID) { return []ReplicaID{1, 2}, []ReplicaID{3, 4} },
		"zone a does not hear the witness": func(s *sim) ([]ReplicaID, []ReplicaID) { return []ReplicaID{5}, []ReplicaID{1, 2} },
		"the witness does not hear zone a": func(s *sim) ([]ReplicaID, []ReplicaID) { return []ReplicaID{1, 2}, []ReplicaID{5} },
		"one link, from the leader to another": func(s *sim) ([]ReplicaID, []ReplicaID) {
			l := s.leader(0).id
			return []ReplicaID{l}, []ReplicaID{pick(s.rnd, without(all, l))}
		},
		"one link, to the leader from another": func(s *sim) ([]ReplicaID, []ReplicaID) {
			l := s.leader(0).id
			return []ReplicaID{pick(s.rnd, without(all, l))}, []ReplicaID{l}
		},
	} {
		t.Run(name, func(t *testing.T) {
			runScene(t, fewer(2), func(s *sim) {
				s.propose(0, "first", "k", "v")
				s.advance(s.now+3000, nil)
				from, to := c(s)
				s.cut(from, to, true, false)
				s.advance(s.now+10_000, nil) // let the leader be found that can lead
				s.propose(0, "cut", "k", "w")
				if s.failure != nil {
					return
				}
				before := s.leader(0).host.group(0).term
				s.advance(s.now+60_000, nil)
				if after := s.leader(0).host.group(0).term; after > before+1 {
					s.check(fmt.Errorf("term went from %d to %d in a minute", before, after))
				}
				s.propose(0, "still cut", "k", "x")
				s.heal()
				s.propose(0, "healed", "k", "y")
				s.advance(s.now+3000, nil)
				for _, id := range all {
					if got := s.read(id, 0, "k"); got != "y" {
						s.check(fmt.Errorf("replica %d reads %q", id, got))
					}
				}
			})
		})
	}
}

// fewer seeds of what takes minutes of virtual time; -sim.seeds of 1000 and more runs
// a hundred of each.
func fewer(n int) int {
	if *simSeeds >= 1000 {
		return 100
	}
	if testing.Short() {
		return 1 + n/4
	}
	return n
}

// Two voters of five are cut off, one of them the leader. As long as nothing is wrong
// everybody hears a leader; of the two neither does 1.6 s after the cut, when the leader
// has found that it has no majority and the other has not heard from it for half a
// second: long before all of them may have given up their belief in it. The others hear
// a new one.
func TestCutOffHearsNoLeader(t *testing.T) {
	all := []ReplicaID{1, 2, 3, 4, 5}
	runScene(t, fewer(12), func(s *sim) {
		hear := func(want bool, ids []ReplicaID) {
			for _, id := range ids {
				if got := s.nodes[id].host.HearsLeader(0); got != want {
					s.check(fmt.Errorf("replica %d hears a leader: %v%s", id, got, s.describe()))
				}
			}
		}
		s.propose(0, "first", "k", "v")
		s.advance(s.now+3000, nil)
		for until := s.now + 5000; s.now < until && s.failure == nil; {
			s.advance(s.now+simTick, nil)
			hear(true, all)
		}
		lead := s.leader(0).id
		off := []ReplicaID{lead, pick(s.rnd, without(all, lead))}
		s.cut(off, without(all, off...), true, true)
		s.advance(s.now+2*electionTicks*simTick+electionTicks*simTick+2*simTick, nil)
		hear(false, off)
		s.advance(s.now+5000, nil)
		hear(false, off)
		hear(true, without(all, off...))
	})
}
