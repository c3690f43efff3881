// Package metadata holds the nouns of the object store (buckets, versions,
// uploads, blobs), the commands that change them, the queries that read them and
// the errors that both answer. It knows neither bbolt nor raft.
//
// Everything that happens to metadata is one Command: encoded once by the node
// that serves the client, carried through the log of one partition, applied
// alike by every replica. Time, ids and randomness travel inside it.
//
// Laws that live here: L2 (nothing is visible before the commit), L5 (an unknown
// commit outcome is ErrUnknownOutcome, neither success nor failure).
//
// Start reading at Version, then Command. index applies commands to bbolt,
// replica puts an index behind raft, catalog offers typed calls over both.
package metadata
