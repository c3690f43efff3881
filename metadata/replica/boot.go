package replica

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// openGroup brings the log and the state machine of a group together, whatever
// step a crash fell between, and starts raft on them. A group of which either is
// damaged is absent instead.
func (h *Host) openGroup(id GroupID) error {
	ls, err := h.cfg.Log.InitialState(id)
	if errors.Is(err, ErrCorrupt) {
		h.leave(id, RoleHeld, Mark{}, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("group %d: %w", id, err)
	}
	g, err := h.openParts(id)
	switch {
	case err == nil:
		h.addGroup(g)
	case errors.Is(err, ErrDamaged):
		h.leave(id, RoleRebuilding, ls.Mark, err)
	case errors.Is(err, ErrNoSpace):
		h.leave(id, RoleNoSpace, ls.Mark, err)
	case errors.Is(err, ErrCorrupt):
		h.leave(id, RoleHeld, ls.Mark, err)
	default:
		return err
	}
	return nil
}

func (h *Host) openParts(id GroupID) (*group, error) {
	sm, err := h.cfg.NewStateMachine(id)
	if err != nil {
		return nil, fmt.Errorf("group %d: open state machine: %w", id, err)
	}
	g, err := h.joinParts(id, sm)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("group %d: %w", id, err), sm.Close())
	}
	return g, nil
}

func (h *Host) joinParts(id GroupID, sm StateMachine) (*group, error) {
	st, err := openStorage(h.cfg.Log, id, h.cfg.CacheBytes)
	if err != nil {
		return nil, err
	}
	a := sm.Applied()
	if st.conf, err = unmarshalConf(a.ConfState); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if u, err := reconcile(id, st, a); err != nil {
		return nil, err
	} else if u != nil {
		if err := h.cfg.Log.Save([]Update{*u}, true); err != nil {
			return nil, err
		}
		st.saved(*u)
	}
	// A commit index is saved lazily, and raft insists that it is not behind what
	// was applied.
	st.hs = hardState(st.hs.GetTerm(), st.hs.GetVote(), max(st.hs.GetCommit(), a.Index))
	if st.hs.GetCommit() > st.last {
		return nil, fmt.Errorf("committed to %d but the log ends at %d: %w", st.hs.GetCommit(), st.last, ErrCorrupt)
	}
	g := newGroup(h, id, st, sm, a)
	g.rn, err = raft.NewRawNode(h.raftConfig(id, st, a.Index))
	if err != nil {
		return nil, err
	}
	g.publish()
	return g, nil
}

// reconcile says how the log must change to fit the state machine.
//
// The state machine may be ahead: a snapshot was installed and the crash came
// before the log was reset to it. The log may then be shorter, or hold entries
// of an older term there, which were never committed. Either way what was
// installed is committed, so the log starts anew behind it.
//
// The state machine may never be behind the log's first entry: the log is only
// cut below what is durable. Nor may it contradict an entry that is committed.
// Such a state is lost, replaced by an older one or another group's; what was
// voted and acknowledged is in the log, so a fresh state mends it.
func reconcile(id GroupID, st *storage, a Applied) (*Update, error) {
	if a.Index < st.mark.Index {
		return nil, fmt.Errorf("state is at entry %d but the log begins behind %d: %w", a.Index, st.mark.Index, ErrDamaged)
	}
	if a.Index <= st.last {
		term, err := st.Term(a.Index)
		if err != nil {
			return nil, err
		}
		if term == a.Term {
			return nil, nil
		}
		if a.Index <= st.hs.GetCommit() {
			return nil, fmt.Errorf("committed entry %d has term %d in the log and %d in the state: %w",
				a.Index, term, a.Term, ErrDamaged)
		}
	}
	// No vote of a.Term can be forgotten here: a vote is synced before it is sent,
	// so if the log knows a lower term none was given in this one.
	hs := hardState(st.hs.GetTerm(), st.hs.GetVote(), a.Index)
	if a.Term > st.hs.GetTerm() {
		hs = hardState(a.Term, 0, a.Index)
	}
	return &Update{
		Group:     id,
		HardState: hs,
		Reset:     st.mark.at(a.Index, a.Term),
	}, nil
}

// Bootstrap creates a group. Every founding member calls it with the same lists,
// once in the life of the cluster; all then hold the same first entry.
// It answers ErrExists if the group has any state here. A replica that is added
// later must Join instead.
func (h *Host) Bootstrap(id GroupID, voters, learners []ReplicaID) error {
	cs := &raftpb.ConfState{Voters: rawIDs(voters), Learners: rawIDs(learners)}
	if err := checkFounders(voters, learners); err != nil {
		return fmt.Errorf("group %d: %w", id, err)
	}
	conf, err := marshalConf(cs)
	if err != nil {
		return err
	}
	return h.create(id, func(sm StateMachine) (*Update, error) {
		first := Applied{Index: 1, Term: 1, ConfState: conf}
		// A crash may have come between the two steps; then the first is there.
		if a := sm.Applied(); a.Index == 0 {
			if _, err := sm.ApplyBatch([]Entry{{Index: 1, Term: 1}}, conf); err != nil {
				return nil, err
			}
		} else if a.Index != first.Index || a.Term != first.Term || string(a.ConfState) != string(conf) {
			return nil, ErrExists
		}
		if _, err := sm.Flush(); err != nil {
			return nil, err
		}
		return &Update{Group: id, HardState: hardState(1, 0, 1), Reset: &Mark{Index: 1, Term: 1}}, nil
	})
}

// Join creates an empty replica of a group that runs elsewhere, under an id that was
// never used before. It waits for the leader, which must be told to add it, to send
// the state. A replica of that id which is here already is success.
func (h *Host) Join(id GroupID, self ReplicaID, epoch uint32) error {
	if self.Host() != h.cfg.Replica {
		return fmt.Errorf("group %d: replica %d belongs on another node: %w", id, self, ErrBadConf)
	}
	if g := h.group(id); g != nil && g.self == self {
		return nil
	}
	return h.create(id, func(sm StateMachine) (*Update, error) {
		if sm.Applied().Index != 0 {
			return nil, ErrExists
		}
		return &Update{Group: id, HardState: hardState(0, 0, 0), Reset: &Mark{Epoch: epoch, Self: self}}, nil
	})
}

// create does not race with the loop's Save: it runs as a call of the loop if
// there is one.
func (h *Host) create(id GroupID, prepare func(StateMachine) (*Update, error)) error {
	return h.onLoop(func() error {
		if h.group(id) != nil || h.absentGroup(id) != nil {
			return ErrExists
		}
		sm, err := h.cfg.NewStateMachine(id)
		if err != nil {
			return fmt.Errorf("group %d: open state machine: %w", id, err)
		}
		u, err := prepare(sm)
		if err == nil {
			err = h.cfg.Log.Save([]Update{*u}, true)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("group %d: create: %w", id, err), sm.Close())
		}
		g, err := h.joinParts(id, sm)
		if err != nil {
			return errors.Join(fmt.Errorf("group %d: %w", id, err), sm.Close())
		}
		h.addGroup(g)
		return nil
	})
}

func checkFounders(voters, learners []ReplicaID) error {
	if len(voters) == 0 {
		return fmt.Errorf("no voters: %w", ErrBadConf)
	}
	seen := map[ReplicaID]bool{0: true}
	for _, ids := range [][]ReplicaID{voters, learners} {
		for _, id := range ids {
			if seen[id] {
				return fmt.Errorf("replica %d is zero or named twice: %w", id, ErrBadConf)
			}
			seen[id] = true
		}
	}
	return nil
}

func rawIDs(ids []ReplicaID) []uint64 {
	out := make([]uint64, 0, len(ids))
	for _, id := range ids {
		out = append(out, uint64(id))
	}
	return out
}

const leftoverPattern = "received-*.snap"

// removeLeftovers deletes snapshots whose installation never began.
func removeLeftovers(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, leftoverPattern))
	if err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("replica: %w", err)
		}
	}
	return nil
}
