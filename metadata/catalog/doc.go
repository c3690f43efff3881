// Package catalog offers typed calls over the metadata of a region: which
// partition a key belongs to, how the partitions' streams merge into one
// listing, how a bucket is proved empty across them. It turns each call into one
// Command or Query and hands that to the group that owns it.
//
// Reads are linearizable unless their name ends in Local. A change answers
// metadata.ErrUnknownOutcome (law L5) when it may or may not have happened.
//
// Start reading at Catalog.
package catalog
