// Package disk keeps shards on one local disk: a directory on a file system of
// its own, with an id written inside. Linux only.
//
// Words: a record is one shard (header and payload) or one tombstone; a segment
// is an append-only file of records, large (payload of LargeBytes and more,
// written past the page cache) or small; the index says where each live shard
// lies; a batch is what one sync makes durable; to fence the disk is to refuse
// every write for good.
//
// What holds:
//   - Append and Delete return nil only when a sync that covers their records has
//     returned. A failed write or sync is never retried: it fences the disk.
//   - The segments that MANIFEST lists are the truth. The index (bbolt) is a
//     cache of them, checkpointed in the background, brought up on Open from
//     the records that follow the checkpoint, rebuilt whole if it does not open.
//   - Of two records of a key the one of the higher sequence number counts, in
//     whatever file and order they are met. A copy made by compaction keeps its
//     number.
//   - A key is held by one writer from the look-up to the end of its batch, so
//     that the index and a replay of the segments always agree.
//   - The directory is held open: what is unmounted or swapped gets nothing written
//     in its place, and is noticed (Watch, Lost).
//   - A shard that does not read as it should is remembered (Damaged) until it is
//     mended, replaced or deleted. Nothing is removed for being damaged.
//   - A call that does not return holds its caller and one slot of this disk;
//     everybody else is let go, and no other disk notices.
//   - No segment is removed before all that lives in it is durable elsewhere and
//     the manifest without it is too; a segment that reappears is known dead.
//
// By hand, beyond what the tests do each time:
//
//	BIVALVE_CRASH_SEEDS=10000 go test -run 'TestCrash$' -timeout 1h .   `make crash`; ten thousand ends of power, process and sync
//	BIVALVE_CRASH_SEED=n go test -run 'TestCrash$' .                    the one that failed, again
//	BIVALVE_FLIPS=all go test -run 'TestEveryFlip|TestIndexFlips' .     every bit of a small disk, not a share of them
//	BIVALVE_BIG=1 go test -run TestReopenCost -v .                      a million shards
//	scripts/checkers.sh                                                 `make checkers`; what the tests say without a sync or a check
//
// Start reading at disk.go, then append.go (how writers share a sync), record.go
// and FORMAT.md (what is written), replay.go (what a restart does), health.go
// (how a disk is given up).
package disk
