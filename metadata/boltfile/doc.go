// Package boltfile looks at a bbolt file before bbolt does.
//
// bbolt trusts its file: it maps it, follows page numbers and lengths as they
// stand there, and panics, in part on goroutines of its own where nobody can
// catch that, when they lead nowhere. Its pages carry no checksums, and one of
// its two meta pages may be damaged without notice: it then goes on from the
// older one and forgets a transaction that it had confirmed.
//
// Check reads the closed file as plain bytes and verifies what a sound file has:
// both meta pages, every page reachable once and marked as what it is, keys in
// order and within their pages, and a free list that names exactly the rest. It
// hands every record to the caller, who has checksums of its own. It follows no
// number that it has not checked, so no content makes it panic.
//
// Start reading at Check.
package boltfile
