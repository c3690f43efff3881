package replica

import "go.etcd.io/raft/v3/raftpb"

// Mark is the position just before the first entry that a log holds, with the
// group's epoch. A group that was only joined has the zero mark.
type Mark struct {
	Index, Term uint64
	// Epoch counts forced recoveries. It travels with every message, and a
	// replica of another epoch is not heard.
	Epoch uint32
	// Self is the replica that the log belongs to; zero is the one that the node
	// founded the group with, whose id is the node's number.
	Self ReplicaID
}

// at is the same mark at another position.
func (m Mark) at(index, term uint64) *Mark {
	m.Index, m.Term = index, term
	return &m
}

// self is the replica's id on the node of that number.
func (m Mark) self(host ReplicaID) ReplicaID {
	if m.Self != 0 {
		return m.Self
	}
	return host
}

// LogState is what a log store knows of a group at boot.
type LogState struct {
	HardState *raftpb.HardState // never nil
	Mark      Mark
	LastIndex uint64 // Mark.Index if there are no entries
}

// Update is what one turn writes for one group.
type Update struct {
	Group     GroupID
	HardState *raftpb.HardState // nil if unchanged
	Reset     *Mark             // first drop the whole log and start behind this mark
	Entries   []*raftpb.Entry   // contiguous; replace everything from the first one's index on
}

// LogStore keeps the raft logs of all the groups of a node.
//
// Save and Compact are called from one goroutine at a time, reads may run beside
// them. Entries are not to be changed, neither by the store nor by the caller.
// After an error from Save the store must not be used again, unless it wraps
// ErrNoSpace: then nothing was written, and the same Save may be tried again.
// ErrCorrupt, from any method, says that what was written is not what is there; of
// InitialState it concerns that group alone.
type LogStore interface {
	// Claim binds the store to a node's number for good; it fails if it is bound to
	// another one.
	Claim(id ReplicaID) error
	Groups() ([]GroupID, error)
	// InitialState answers ErrNoGroup for a group that was never saved.
	InitialState(g GroupID) (LogState, error)
	// Entries returns [lo, hi), cut at maxBytes but never empty; raft.ErrCompacted
	// if lo is gone.
	Entries(g GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error)
	// Term of entry i, or of the mark.
	Term(g GroupID, i uint64) (uint64, error)
	FirstIndex(g GroupID) (uint64, error)
	LastIndex(g GroupID) (uint64, error)
	// Save writes all updates as one: after a crash all or none of them is there.
	// If sync is set, they and all earlier ones are durable on return. Without
	// it only HardStates may be given, which may be lost.
	Save(updates []Update, sync bool) error
	// Compact forgets entries up to and including upTo, at leisure: a crash may
	// bring some of them back.
	Compact(g GroupID, upTo uint64) error
	// Drop forgets a group, durably, damaged or not; one that is not there too. The
	// replica must never take part again.
	Drop(g GroupID) error
	Close() error
}

// NoLog stands in for a log store that is damaged or missing: no group runs on it,
// and none can be made.
func NoLog(why error) LogStore { return noLog{why} }

type noLog struct{ why error }

func (l noLog) Claim(ReplicaID) error                                            { return nil }
func (l noLog) Groups() ([]GroupID, error)                                       { return nil, nil }
func (l noLog) InitialState(GroupID) (LogState, error)                           { return LogState{}, l.why }
func (l noLog) Entries(GroupID, uint64, uint64, uint64) ([]*raftpb.Entry, error) { return nil, l.why }
func (l noLog) Term(GroupID, uint64) (uint64, error)                             { return 0, l.why }
func (l noLog) FirstIndex(GroupID) (uint64, error)                               { return 0, l.why }
func (l noLog) LastIndex(GroupID) (uint64, error)                                { return 0, l.why }
func (l noLog) Save([]Update, bool) error                                        { return l.why }
func (l noLog) Compact(GroupID, uint64) error                                    { return l.why }
func (l noLog) Drop(GroupID) error                                               { return l.why }
func (l noLog) Close() error                                                     { return nil }
