package loadgen

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/fnv"
)

// Keys are computed from numbers, so that a run of any length remembers
// counters only.

// newPrefix keeps runs that share a bucket apart.
func newPrefix() string {
	var b [6]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return "bench-" + hex.EncodeToString(b[:]) + "/"
}

// setPrefix begins the keys of the working set, and of nothing else.
func (r *run) setPrefix() string { return r.cfg.Prefix + "set/" }

// setKey is object i of the working set.
func (r *run) setKey(i int) string { return fmt.Sprintf("%s%08d", r.setPrefix(), i) }

// newKey is the n-th object that a client adds during the run.
func (r *run) newKey(client int, n uint64) string {
	return fmt.Sprintf("%snew/%04d/%010d", r.cfg.Prefix, client, n)
}

// variants is how many different bodies the one payload makes: each key has its
// own offset into it, so that a body delivered for another key is noticed.
const variants = 4096

func newPayload(size int64) []byte {
	p := make([]byte, size+variants)
	rand.Read(p)
	return p
}

// body is what the object of that key holds.
func (r *run) body(key string) []byte {
	h := fnv.New32a()
	h.Write([]byte(key)) // never fails (hash.Hash)
	at := int64(h.Sum32() % variants)
	return r.payload[at : at+r.cfg.Size]
}
