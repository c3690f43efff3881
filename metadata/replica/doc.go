// Package replica keeps the metadata state machines of one node behind
// consensus: one raft group per metadata partition and one for the root group,
// all driven by a single loop that shares one log store.
//
// # Words
//
//   - group: one raft group; group 0 is the root group.
//   - replica: one member of a group. Its id names its node and is never used
//     again: a node that lost its log, or was voted out, comes back as another.
//   - turn: one pass of the loop. It drains what has arrived, writes one log
//     transaction for all groups, and only then sends.
//   - applier: the one goroutine that changes a group's state machine.
//   - mark: the (index, term) just before the first entry that a log still holds.
//   - durable: what a state machine would still hold after a power cut.
//   - absent: a group that has a log here and takes no part, because its state
//     or its log is damaged. To its peers it is a member that is down.
//
// # What holds
//
//   - No message leaves before everything that it vouches for is synced. A failed
//     sync of the log ends Run and is never tried again.
//   - A state machine is only what the log amounts to, and every member has it.
//     One that is damaged, lost, or could not be flushed is replaced by a peer's
//     (rebuild.go has why that is safe); its group alone is absent meanwhile.
//   - The log holds what this replica has voted and acknowledged, which nobody
//     else knows. What of it is damaged is never cut away or made anew, and the
//     groups that it concerns stay absent until the replica is replaced, perhaps by
//     a new one on the same node (drop.go).
//   - A full disk loses nothing: the log's turn is tried again until there is room
//     (stall.go), a state is opened again from what is durable.
//   - Entries reach the state machine in order, once, after they are committed
//     and saved locally. The log is cut only at or below what the state machine
//     holds durably, so a crash is repaired by applying the log again.
//   - A proposal answers with its result, with an error that says it certainly
//     did not happen, or with ErrUnknown. It never claims more than it knows.
//   - A barrier read (ReadIndex, Query) sees every write acknowledged before it
//     began. There are no clock leases.
//   - A snapshot is installed in the state machine before the log forgets what
//     it replaces; the boot code accepts either side of that step.
//   - All queues are finite. A message that finds no room is dropped, which raft
//     allows; a proposal that finds none answers ErrDropped.
//
// # Where to start reading
//
// types.go has the contracts, loop.go the turn, applier.go what happens to a
// committed entry, boot.go what is checked at start, snapshot_recv.go the order
// of an installation, absent.go and rebuild.go what becomes of a damaged group,
// router.go how a node without a replica reaches a group.
// FORMAT.md describes every byte written to disk or to the wire.
package replica
