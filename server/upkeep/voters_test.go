package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"
)

// ids of the replicas of nodes a1..a3 are 1..3, b1..b3 4..6, w 7.
func replicaNodes(change func(n *ReplicaNode)) []ReplicaNode {
	var out []ReplicaNode
	for i, m := range members() {
		n := ReplicaNode{ID: m.ID, Number: replica.ReplicaID(i + 1), Zone: m.Zone, Witness: m.Role == cluster.RoleWitness}
		if change != nil {
			change(&n)
		}
		out = append(out, n)
	}
	return out
}

func dead(ids ...cluster.NodeID) func(*ReplicaNode) {
	return func(n *ReplicaNode) {
		if slices.Contains(ids, n.ID) {
			n.Dead = time.Hour
		}
	}
}

func heard(ids ...replica.ReplicaID) map[replica.ReplicaID]replica.Match {
	out := map[replica.ReplicaID]replica.Match{}
	for _, id := range ids {
		out[id] = replica.Match{Index: 1000, Active: true}
	}
	return out
}

func TestVoterPlan(t *testing.T) {
	ids := func(ids ...replica.ReplicaID) []replica.ReplicaID { return ids }
	voters := ids(1, 2, 4, 5, 7)
	back := replica.NewReplicaID(2, 9)
	for _, c := range []struct {
		name     string
		voters   []replica.ReplicaID
		learners []replica.ReplicaID
		outgoing []replica.ReplicaID
		match    map[replica.ReplicaID]replica.Match
		nodes    func(*ReplicaNode)
		lost     map[replica.ReplicaID]time.Duration
		root     bool

		make   cluster.NodeID
		change replica.ConfChange
	}{
		{name: "all well", voters: voters, match: heard(1, 2, 4, 5, 7)},
		{name: "a voter is dead: a new one in its zone", voters: voters, match: heard(1, 4, 5, 7), nodes: dead("a2"), make: "a3"},
		{name: "not yet", voters: voters, match: heard(1, 4, 5, 7), nodes: func(n *ReplicaNode) {
			if n.ID == "a2" {
				n.Dead = time.Minute
			}
		}},
		{name: "a joint change is under way", voters: voters, outgoing: ids(1, 2), match: heard(1, 4, 5, 7), nodes: dead("a2")},
		{name: "the learner has caught up", voters: voters, learners: ids(3), match: heard(1, 3, 4, 5, 7), nodes: dead("a2"),
			change: replica.ConfChange{Promote: ids(3), Remove: ids(2)}},
		{name: "the learner lags", voters: voters, learners: ids(3), nodes: dead("a2"), match: func() map[replica.ReplicaID]replica.Match {
			m := heard(1, 3, 4, 5, 7)
			m[3] = replica.Match{Index: 10, Active: true}
			return m
		}()},
		{name: "the learner's node is dead too: it goes", voters: voters, learners: ids(3), match: heard(1, 4, 5, 7), nodes: dead("a2", "a3"),
			change: replica.ConfChange{Remove: ids(3)}},
		{name: "the voter is back: the learner is not needed", voters: voters, learners: ids(3), match: heard(1, 2, 3, 4, 5, 7),
			change: replica.ConfChange{Remove: ids(3)}},
		{name: "suspects in both zones: nothing", voters: voters, match: heard(1, 4, 7), nodes: dead("a2", "b2")},
		{name: "a suspect in a zone and the witness: nothing", voters: voters, match: heard(1, 4, 5), nodes: dead("a2", "w")},
		{name: "one dead, one of the other zone only not heard: nothing", voters: voters, match: heard(1, 4, 7), nodes: dead("a2")},
		{name: "a whole zone is dead: nobody in it can take over", voters: voters, match: heard(4, 5, 7), nodes: dead("a1", "a2", "a3")},
		{name: "the witness is dead and there is no other", voters: voters, match: heard(1, 2, 4, 5), nodes: dead("w")},
		{name: "lost data, another node takes over", voters: voters, match: heard(1, 4, 5, 7),
			lost: map[replica.ReplicaID]time.Duration{2: time.Hour}, make: "a3"},
		{name: "lost data, not yet", voters: voters, match: heard(1, 4, 5, 7),
			lost: map[replica.ReplicaID]time.Duration{2: time.Minute}},
		{name: "lost data, nobody else: the node itself", voters: ids(1, 2, 3, 4, 5, 7), match: heard(1, 3, 4, 5, 7),
			lost: map[replica.ReplicaID]time.Duration{2: time.Hour}, make: "a2"},
		{name: "lost data, and itself has caught up", voters: ids(1, 2, 3, 4, 5, 7), learners: ids(back), match: heard(1, 3, 4, 5, 7, back),
			lost: map[replica.ReplicaID]time.Duration{2: time.Hour}, change: replica.ConfChange{Promote: ids(back), Remove: ids(2)}},
		{name: "a node gives its replicas away", voters: voters, match: heard(1, 2, 4, 5, 7), nodes: func(n *ReplicaNode) { n.Leaving = n.ID == "b1" }, make: "b3"},
		{name: "too few voters: more", voters: ids(4, 5), match: heard(4, 5), make: "a1"},
		{name: "no voter at the witness", voters: ids(1, 2, 4, 5), match: heard(1, 2, 4, 5), make: "w"},
		{name: "one voter of all is left", voters: ids(4), match: heard(4), nodes: dead("a1", "a2", "a3", "w"), make: "b1"},
		{name: "a node does not follow the root group", voters: voters, learners: ids(3), match: heard(1, 2, 3, 4, 5, 7), root: true, make: "b3"},
		{name: "root: a dead voter, a follower votes", voters: voters, learners: ids(3, 6), match: heard(1, 3, 4, 5, 6, 7), root: true, nodes: dead("a2"),
			change: replica.ConfChange{Promote: ids(3), Remove: ids(2)}},
		{name: "root: dead followers stay", voters: voters, learners: ids(3, 6), match: heard(1, 2, 4, 5, 6, 7), root: true, nodes: dead("a3")},
		{name: "root: a follower has lost its data", voters: voters, learners: ids(3, 6), match: heard(1, 2, 4, 5, 6, 7), root: true,
			lost: map[replica.ReplicaID]time.Duration{3: 1}, make: "a3", change: replica.ConfChange{Remove: ids(3)}},
		{name: "root: a leaving node does not follow", voters: voters, learners: ids(3, 6), match: heard(1, 2, 3, 4, 5, 6, 7), root: true,
			nodes: func(n *ReplicaNode) { n.Leaving = n.ID == "a3" }, change: replica.ConfChange{Remove: ids(3)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &voterPlan{
				g:     ReplicaGroup{Group: 1, Commit: 1000, Voters: c.voters, Learners: c.learners, Outgoing: c.outgoing, Match: c.match},
				nodes: replicaNodes(c.nodes), zones: zones, lost: c.lost, after: 15 * time.Minute, root: c.root,
				load: func(id replica.ReplicaID) int { return int(id) },
			}
			if c.name == "one voter of all is left" {
				p.nodes[3].Number, p.nodes[4].Number = 5, 4 // b1 is free
			}
			s, ok := p.next()
			var made cluster.NodeID
			if s.Make != nil {
				made = s.Make.ID
			}
			if made != c.make || fmt.Sprint(s.Change) != fmt.Sprint(c.change) || ok != (s.Why != "") || ok != (c.make != "" || fmt.Sprint(c.change) != fmt.Sprint(replica.ConfChange{})) {
				t.Errorf("make %q change %+v: %s (%v)", made, s.Change, s.Why, ok)
			}
		})
	}
}

// oneGroup is a group that changes as it is told, or not.
type oneGroup struct {
	fakeFacts
	mu    sync.Mutex // of what follows
	g     ReplicaGroup
	nodes []ReplicaNode
	lost  map[replica.ReplicaID]bool
	next  uint64
	said  []string
	fails int
}

func (f *oneGroup) Led() []ReplicaGroup         { return []ReplicaGroup{f.g} }
func (f *oneGroup) ReplicaNodes() []ReplicaNode { return f.nodes }
func (f *oneGroup) LostReplica(_ context.Context, _ cluster.NodeID, _ replica.GroupID, id replica.ReplicaID) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost[id], nil
}
func (f *oneGroup) NewReplicaID(_ context.Context, _ ReplicaGroup, n replica.ReplicaID) (replica.ReplicaID, error) {
	f.next++
	return replica.NewReplicaID(n, f.next), nil
}
func (f *oneGroup) MakeReplica(_ context.Context, n cluster.NodeID, _ ReplicaGroup, id replica.ReplicaID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails > 0 {
		f.fails--
		return errors.New("unreachable")
	}
	f.said = append(f.said, fmt.Sprintf("make %d on %s", id.Generation(), n))
	return nil
}
func (f *oneGroup) Publish(context.Context, ReplicaGroup) error { return nil }
func (f *oneGroup) ChangeMembers(_ context.Context, _ replica.GroupID, c replica.ConfChange) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range c.AddLearners {
		f.g.Learners = append(f.g.Learners, id)
		f.g.Match[id] = replica.Match{Index: 1000, Active: true}
	}
	for _, id := range c.Promote {
		f.g.Learners = slices.DeleteFunc(f.g.Learners, func(l replica.ReplicaID) bool { return l == id })
		f.g.Voters = append(f.g.Voters, id)
	}
	for _, id := range c.Remove {
		out := func(l replica.ReplicaID) bool { return l == id }
		f.g.Learners, f.g.Voters = slices.DeleteFunc(f.g.Learners, out), slices.DeleteFunc(f.g.Voters, out)
	}
	f.said = append(f.said, fmt.Sprintf("add %d promote %d remove %v", len(c.AddLearners), len(c.Promote), c.Remove))
	return nil
}

func (f *oneGroup) lose(id replica.ReplicaID, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost[id] = lost
}

func (f *oneGroup) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.said)
}

// A node that says that its data is lost is believed only after the time is over, and
// an order that fails is given again, with another id.
func TestCaretaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &oneGroup{nodes: replicaNodes(nil), lost: map[replica.ReplicaID]bool{2: true}, fails: 2,
			g: ReplicaGroup{Group: 1, Commit: 1000, Voters: []replica.ReplicaID{1, 2, 4, 5, 7}, Match: heard(1, 4, 5, 7)}}
		c := &Caretaker{Facts: f, Orders: f, Zones: zones, ReplaceAfter: 15 * time.Minute, Every: time.Second, Logger: quiet, Now: time.Now}
		run(t, c.Run)
		pass(14 * time.Minute)
		if said := f.heard(); len(said) > 0 {
			t.Fatalf("too soon: %q", said)
		}
		f.lose(2, false) // a moment of sanity: the time counts anew
		pass(2 * time.Second)
		f.lose(2, true)
		pass(14 * time.Minute)
		if said := f.heard(); len(said) > 0 {
			t.Fatalf("too soon: %q", said)
		}
		pass(2 * time.Minute)
		if want := []string{"make 3 on a3", "add 1 promote 0 remove []", "add 0 promote 1 remove [2]"}; !slices.Equal(f.heard(), want) {
			t.Errorf("said %q", f.heard())
		}
		if c.Pending(1) != "" {
			t.Errorf("still %q", c.Pending(1))
		}
	})
}
