// Package index is the state machine of one metadata group: a bbolt file to
// which commands are applied in the order of the log.
//
// One bbolt write transaction is always open. Apply writes into it and queries
// read from it, so what is applied is visible at once; Flush commits it (synced)
// and opens the next. A crash falls back to the last Flush, and the log, which is
// kept from there on, applies the rest again. So the log's sync is the only one
// an acknowledgement waits for, and the file is never corrupt, only older.
//
// Apply is deterministic: it reads no clock, no randomness and no map in
// iteration order; the time of an entry is max(its own, last + 1).
//
// Laws that live here: L2 (nothing visible before the commit), L3 (a delete
// leaves the index first; the blobs are queued as garbage), and the once-only
// application of a request id.
//
// What is kept beside the records (who owns a blob, the counts of protection, the
// queue of the healer) changes in three places alone: hold, letGo (blobs.go) and
// markShards (apply_mark.go).
//
// Start reading at Index.ApplyBatch, then the handlers in apply.go. The tables
// are described in FORMAT.md.
package index
