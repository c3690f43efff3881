package cluster

import "errors"

// Errors that cross from a disk or a peer to whoever asked. transport carries
// their kind over the wire, so errors.Is works on both sides.
var (
	// ErrNotFound: the disk is well and has no such shard.
	ErrNotFound = errors.New("shard not found")
	// ErrCorrupt: what is stored does not check, or is not what was asked for.
	ErrCorrupt = errors.New("shard is corrupt")
	// ErrDiskUnknown: the node carries no disk of that id.
	ErrDiskUnknown = errors.New("unknown disk")
	// ErrDiskFailed: the disk is out of service (fenced after an I/O error).
	ErrDiskFailed = errors.New("disk is out of service")
	// ErrDiskFull: the disk refuses writes to keep its reserve; reads and
	// deletes go on.
	ErrDiskFull = errors.New("disk is full")
	// ErrWrongEpoch: the node does not own the placement group in the epoch that
	// the append carries.
	ErrWrongEpoch = errors.New("node does not own the placement group in this epoch")
	// ErrUnreachable: no answer could be had; what was asked may or may not have
	// been done.
	ErrUnreachable = errors.New("node is unreachable")
	// ErrOverloaded: a queue of the peer is full; nothing was done.
	ErrOverloaded = errors.New("node is overloaded")
	// ErrInvalid: the request itself is wrong; nothing was done.
	ErrInvalid = errors.New("invalid request")
)
