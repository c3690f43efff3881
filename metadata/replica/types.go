package replica

import (
	"context"
	"io"
)

// GroupID names a raft group; 0 is the root group.
type GroupID uint32

// ReplicaID is the raft id of one replica of a group. Its lower 20 bits are the
// number of the node that the replica lies on, the rest is a generation: zero for
// the replicas that a node founds its groups with, whose id is thus the node's
// number, and never the same again for any that is made later. So an id tells the
// way to its node, and is never used for a second replica. Zero is no replica.
type ReplicaID uint64

const hostBits = 20

// MaxHost is the greatest number that a node may have.
const MaxHost ReplicaID = 1<<hostBits - 1

// Host is the number of the node that the replica lies on.
func (id ReplicaID) Host() ReplicaID { return id & MaxHost }

// Generation tells replicas of one node apart.
func (id ReplicaID) Generation() uint64 { return uint64(id >> hostBits) }

// NewReplicaID is the id of a replica that is made later. The caller never gives a
// generation twice.
func NewReplicaID(host ReplicaID, generation uint64) ReplicaID {
	return host.Host() | ReplicaID(generation)<<hostBits
}

// Applied is a position in a group's log together with the membership there.
type Applied struct {
	Index, Term uint64
	ConfState   []byte // marshalled raftpb.ConfState
}

// Entry is one committed entry. Nil Data only moves the position.
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// StateMachine is the state of one group.
//
// From any method, an error that wraps ErrDamaged makes the group close the state
// machine and fetch the state from a peer, and one that wraps ErrNoSpace makes it
// open the state again from what is durable. The other groups go on.
//
// All methods but Query and StreamSnapshot are called from one goroutine at a
// time; those two may run beside any other. Slices passed in stay valid but
// must not be changed; slices returned belong to the caller.
type StateMachine interface {
	// ApplyBatch applies committed entries in order and returns one result for
	// each. conf is the membership after the batch if it changed, else nil. The
	// effect is visible to Query on return; it need not be durable, the log is.
	// An error stops this group alone, until the process starts again.
	ApplyBatch(entries []Entry, conf []byte) (results [][]byte, err error)
	// Query reads at the current applied state.
	Query(q []byte) ([]byte, error)
	// Applied is the position of the state in memory.
	Applied() Applied
	// Flush makes everything applied durable and returns that position.
	Flush() (durable Applied, err error)
	// Durable is the position that a crash would leave.
	Durable() Applied
	// StreamSnapshot writes a consistent durable image with its position inside.
	StreamSnapshot(w io.Writer) (Applied, error)
	// InstallSnapshot replaces the whole state, durably, by the file at path:
	// synced, on the file system of Config.Dir, and the callee's to rename away.
	// An error that wraps ErrBadSnapshot says that the old state is untouched.
	InstallSnapshot(path string) (Applied, error)
	Close() error
}

// Transport carries raft traffic between hosts.
type Transport interface {
	// SendRaft queues payload, which it then owns, for one peer: in order, one
	// way, possibly lost. It never blocks; false says there was no room.
	SendRaft(to ReplicaID, payload []byte) bool
	// SendSnapshot streams r on a connection of its own and returns after the
	// receiver's HandleSnapshot did, with its error.
	SendSnapshot(ctx context.Context, to ReplicaID, head []byte, r io.Reader) error
}

// ConfChange alters the members of a group. One that adds voters and removes
// voters at once goes through a joint configuration.
type ConfChange struct {
	AddLearners []ReplicaID // new replicas that follow without a vote
	Promote     []ReplicaID // learners that become voters
	Remove      []ReplicaID // voters or learners that leave
}

// Role is what a replica is in its group at the moment.
type Role string

const (
	RoleFollower  Role = "follower"
	RoleCandidate Role = "candidate"
	RoleLeader    Role = "leader"
	RoleLearner   Role = "learner"
	RoleHalted    Role = "halted"

	// The rest take no part in their group: the others see a member that is down.
	RoleRebuilding Role = "rebuilding" // the state was damaged or lost; a fresh one is on its way
	RoleNoSpace    Role = "no space"   // goes on when there is room on the disk
	RoleHeld       Role = "held"       // the log is damaged: the replica must be replaced
	RoleVotedOut   Role = "voted out"  // about to be dropped
)

// GroupStatus is a recent view of one local replica.
type GroupStatus struct {
	Group                 GroupID
	Self                  ReplicaID // the local replica; zero if its log cannot tell
	Leader                ReplicaID
	Term                  uint64
	Commit                uint64
	Applied, Durable      uint64
	FirstIndex, LastIndex uint64
	Voters, Learners      []ReplicaID
	VotersOutgoing        []ReplicaID // not empty while a joint change is under way
	Role                  Role
	Epoch                 uint32
	Halted                error               // why the group stopped or takes no part, if so
	Match                 map[ReplicaID]Match // at the leader: how far each member is
}

// Match is the leader's view of one member.
type Match struct {
	Index  uint64
	Active bool // heard from within the last two election timeouts
}
