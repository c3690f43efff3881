package replica

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Forced recovery: a group whose majority is lost for good goes on with what one
// survivor has. It works on the files of nodes that are stopped.
//
// The survivor's whole log is applied, also what was never known to be committed: it
// may have been acknowledged. Then the state gets a membership of that replica alone,
// at one more entry of a new term, and the log begins behind it under the next epoch.
// The epoch travels with every message, so no former voter is ever heard again.

// Survivor is what one stopped node has of a group.
type Survivor struct {
	Group     GroupID     `json:"group"`
	Self      ReplicaID   `json:"replica"`
	Epoch     uint32      `json:"epoch"`
	Term      uint64      `json:"term"`      // that it has voted in
	LastTerm  uint64      `json:"last_term"` // of its log
	LastIndex uint64      `json:"last_index"`
	Commit    uint64      `json:"commit"` // up to which it knows that a majority had the log
	Applied   uint64      `json:"applied"`
	Voters    []ReplicaID `json:"voters"`
	Learners  []ReplicaID `json:"learners,omitempty"`
	Damage    string      `json:"damage,omitempty"` // why it is of no use
}

// newer orders survivors by what they have: a later epoch, then the later log.
func newer(a, b Survivor) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.LastTerm, b.LastTerm), cmp.Compare(a.LastIndex, b.LastIndex),
		cmp.Compare(b.Self, a.Self))
}

// Inspect says what a node has of all its groups. open opens a group's state.
func Inspect(log LogStore, host ReplicaID, open func(GroupID) (StateMachine, error)) ([]Survivor, error) {
	ids, err := log.Groups()
	if err != nil {
		return nil, err
	}
	var out []Survivor
	for _, id := range ids {
		s := Survivor{Group: id, Self: host}
		if err := s.inspect(log, host, open); errors.Is(err, ErrCorrupt) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrNoSpace) {
			s.Damage = err.Error()
		} else if err != nil {
			return nil, fmt.Errorf("group %d: %w", id, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (s *Survivor) inspect(log LogStore, host ReplicaID, open func(GroupID) (StateMachine, error)) (err error) {
	ls, err := log.InitialState(s.Group)
	if err != nil {
		return err
	}
	s.Self, s.Epoch, s.Term, s.Commit = ls.Mark.self(host), ls.Mark.Epoch, ls.HardState.GetTerm(), ls.HardState.GetCommit()
	s.LastIndex = ls.LastIndex
	if s.LastTerm, err = log.Term(s.Group, ls.LastIndex); err != nil {
		return err
	}
	sm, err := open(s.Group)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sm.Close()) }()
	a := sm.Applied()
	cs, err := unmarshalConf(a.ConfState)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	s.Applied, s.Commit = a.Index, max(s.Commit, a.Index)
	s.Voters, s.Learners = replicaIDs(cs.GetVoters()), replicaIDs(cs.GetLearners())
	for _, id := range replicaIDs(cs.GetVotersOutgoing()) { // in a joint change both count
		if !slices.Contains(s.Voters, id) {
			s.Voters = append(s.Voters, id)
		}
	}
	if a.Index < ls.Mark.Index {
		return fmt.Errorf("the state is at %d, the log begins behind %d: %w", a.Index, ls.Mark.Index, ErrDamaged)
	}
	if a.Index > s.LastIndex { // a snapshot was installed and the log not yet reset
		s.LastIndex, s.LastTerm = a.Index, a.Term
	}
	return nil
}

// Verdict is what forced recovery does with one group.
type Verdict struct {
	Group  GroupID   `json:"group"`
	Winner ReplicaID `json:"winner"` // goes on alone; zero if nothing is to be done
	Epoch  uint32    `json:"epoch"`  // under this epoch
	Term   uint64    `json:"term"`   // and in this term
	Last   uint64    `json:"last"`   // with the entries up to here
	Commit uint64    `json:"commit"` // of which those up to here were known to be committed
	// Lost are the voters that nobody has brought; Archive the replicas here that are
	// set aside, since they are of an earlier epoch or have less than the winner.
	Lost    []ReplicaID `json:"lost,omitempty"`
	Archive []ReplicaID `json:"archive,omitempty"`
	Why     string      `json:"why"`
}

// JudgeRecovery decides for one group from what all survivors have of it. A group
// that has its majority among them is left alone, but for replicas of an epoch that
// is over: that is how an interrupted recovery is brought to its end.
func JudgeRecovery(g GroupID, all []Survivor) Verdict {
	v := Verdict{Group: g}
	// Every host comes to the same verdict, in whatever order it has the reports.
	all = slices.SortedFunc(slices.Values(all), func(a, b Survivor) int { return cmp.Compare(a.Self, b.Self) })
	var best Survivor
	var here, sound []ReplicaID
	for _, s := range all {
		here = append(here, s.Self)
		if s.Damage != "" || s.LastIndex == 0 {
			continue
		}
		if len(sound) == 0 || newer(s, best) > 0 {
			best = s
		}
		sound = append(sound, s.Self)
	}
	if len(sound) == 0 {
		v.Why = "no survivor has a sound copy"
		return v
	}
	v.Epoch, v.Last, v.Commit = best.Epoch, best.LastIndex, best.Commit
	for _, s := range all {
		v.Term = max(v.Term, s.Term, s.LastTerm)
		if s.Epoch < best.Epoch {
			v.Archive = append(v.Archive, s.Self)
		}
	}
	alive := 0
	for _, id := range best.Voters {
		if slices.Contains(sound, id) && !slices.Contains(v.Archive, id) {
			alive++
		} else {
			v.Lost = append(v.Lost, id)
		}
	}
	if 2*alive > len(best.Voters) {
		v.Why = fmt.Sprintf("%d of its %d voters are here: it needs no force", alive, len(best.Voters))
		return v
	}
	v.Winner, v.Epoch, v.Term = best.Self, best.Epoch+1, v.Term+1
	v.Archive = nil
	for _, id := range here {
		if id != best.Self {
			v.Archive = append(v.Archive, id)
		}
	}
	v.Why = fmt.Sprintf("%d of its %d voters are left; replica %d has the latest log", alive, len(best.Voters), best.Self)
	return v
}

const recoverBatch = 256

// Recover makes the replica of log and sm the only member of its group, as the
// verdict says. last is a command (nil: none) for the state to know of it, applied behind
// all others. After a crash it is done again from the beginning: what was applied
// is not applied twice, and the log is cut last.
func Recover(log LogStore, sm StateMachine, v Verdict, last []byte, progress func(done, total uint64)) error {
	ls, err := log.InitialState(v.Group)
	if err != nil {
		return err
	}
	a := sm.Applied()
	for a.Index < ls.LastIndex {
		progress(a.Index, ls.LastIndex)
		ents, err := log.Entries(v.Group, a.Index+1, min(a.Index+recoverBatch, ls.LastIndex)+1, applyBatchBytes)
		if err != nil {
			return err
		}
		batch := make([]Entry, len(ents))
		for i, e := range ents {
			batch[i] = Entry{Index: e.GetIndex(), Term: e.GetTerm()}
			if e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 {
				if _, _, batch[i].Data, err = decodeEntry(e.GetData()); err != nil {
					return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
				}
			}
		}
		if _, err := sm.ApplyBatch(batch, nil); err != nil {
			return fmt.Errorf("apply entries from %d: %w", a.Index+1, err)
		}
		a = sm.Applied()
	}
	conf, err := marshalConf(&raftpb.ConfState{Voters: []uint64{uint64(v.Winner)}})
	if err != nil {
		return err
	}
	if a.Term < v.Term {
		if _, err := sm.ApplyBatch([]Entry{{Index: a.Index + 1, Term: v.Term, Data: last}}, conf); err != nil {
			return err
		}
	}
	if a, err = sm.Flush(); err != nil {
		return err
	}
	progress(a.Index, a.Index)
	hs := &raftpb.HardState{Term: proto.Uint64(a.Term), Vote: proto.Uint64(0), Commit: proto.Uint64(a.Index)}
	mark := Mark{Index: a.Index, Term: a.Term, Epoch: v.Epoch, Self: ls.Mark.Self}
	return log.Save([]Update{{Group: v.Group, HardState: hs, Reset: &mark}}, true)
}

// HoldOld ends a replica of an epoch that is over: its group was recovered by force,
// and this replica declared dead. It tells whether there was one.
func (h *Host) HoldOld(id GroupID, epoch uint32) (held bool, err error) {
	err = h.onLoop(func() error {
		if g := h.group(id); g != nil && g.st.mark.Epoch < epoch {
			held = true
			h.lose(g, RoleHeld, fmt.Errorf("the group was recovered by force (epoch %d, this replica is of %d)", epoch, g.st.mark.Epoch))
		}
		return nil
	})
	return held, err
}
