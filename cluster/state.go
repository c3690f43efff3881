package cluster

// State is what the region has agreed to do with a node or a disk.
type State string

const (
	// StateActive is that of whatever has none recorded.
	StateActive State = "active"
	// StateDraining: layouts to come leave it out; it serves what it holds.
	StateDraining State = "draining"
	// StateRemoved: it is no part of the region any more, for good. What it held
	// counts as lost unless others hold it.
	StateRemoved State = "removed"
)

// Valid tells a state that exists.
func (s State) Valid() bool { return s == StateActive || s == StateDraining || s == StateRemoved }

// Worse is the one of two states that leaves less: a disk is what itself or its
// node is.
func (s State) Worse(o State) State {
	rank := map[State]int{StateDraining: 1, StateRemoved: 2}
	if rank[o] > rank[s] {
		return o
	}
	if s == "" {
		return StateActive
	}
	return s
}
