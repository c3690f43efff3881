package replica

import (
	"errors"
	"fmt"
)

var (
	// ErrDropped: the proposal certainly did not happen and may be sent again.
	ErrDropped = errors.New("proposal dropped")
	// ErrTooLarge: the command does not fit an entry; nothing happened.
	ErrTooLarge = errors.New("command is too large")
	// ErrUnknown: the proposal was accepted and may or may not happen (law L5).
	ErrUnknown = errors.New("outcome of the proposal is unknown")
	// ErrUnavailable: no quorum answered, and nothing was proposed.
	ErrUnavailable = errors.New("metadata group is unavailable")
	// ErrNoGroup: this host has no replica of the group.
	ErrNoGroup = errors.New("no replica of this group here")
	// ErrExists: the group already has state here.
	ErrExists = errors.New("group already has state")
	// ErrClosed: the host has stopped.
	ErrClosed = errors.New("host is closed")
	// ErrHalt is wrapped by a state machine that met an entry it cannot apply:
	// its group stops here, and waits for a binary that can.
	ErrHalt = errors.New("group halted")
	// ErrDamaged is wrapped by a state machine whose file is not what was written
	// to it: the group fetches the state from a peer.
	ErrDamaged = errors.New("state is damaged")
	// ErrNoSpace is wrapped by a state machine that found no room to flush: the
	// group opens it again from what is durable, and tries again.
	ErrNoSpace = errors.New("no space for the state")
	// ErrBadSnapshot is wrapped by InstallSnapshot when it refused the file and
	// left the old state as it was.
	ErrBadSnapshot = errors.New("snapshot refused")
	// ErrConfBusy: another membership change is under way.
	ErrConfBusy = errors.New("a membership change is under way")
	// ErrBadConf: the membership change makes no sense for the present members.
	ErrBadConf = errors.New("membership change refused")
	// ErrCorrupt: bytes that were read back are not the bytes written.
	ErrCorrupt = errors.New("log record is corrupt")
	// ErrFormat: bytes of a version or shape that this binary does not know.
	ErrFormat = errors.New("unknown format")
	// ErrNotSent may be wrapped by Peers.Call to say that the request certainly
	// never reached the peer, so that the outcome stays known.
	ErrNotSent = errors.New("request was not sent")
	// errNoMajority: why a router gives up before its time is over.
	errNoMajority = errors.New("no majority of its voters can be reached")
	// ErrQuery wraps the text of an error that a state machine gave to a query.
	ErrQuery = errors.New("query failed")
)

// AbsentError: the group has a replica here that takes no part at present. It is
// an ErrUnavailable; nothing was proposed, and another node may serve.
type AbsentError struct {
	Group GroupID
	Role  Role
	Why   error
}

func (e *AbsentError) Error() string {
	return fmt.Sprintf("metadata group %d is %s on this node: %v", e.Group, e.Role, e.Why)
}
func (e *AbsentError) Is(target error) bool { return target == ErrUnavailable }

// NotLeaderError says that nothing was proposed, and who leads if that is known.
type NotLeaderError struct{ Leader ReplicaID }

func (e *NotLeaderError) Error() string {
	if e.Leader == 0 {
		return "not the leader, and none is known"
	}
	return fmt.Sprintf("not the leader, which is replica %d", uint64(e.Leader))
}
