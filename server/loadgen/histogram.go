package loadgen

import (
	"math/bits"
	"time"
)

// Buckets of a histogram: each power of two of nanoseconds is cut into
// subBuckets, so a value is known to 1/64 of itself.
const (
	subBits    = 6
	subBuckets = 1 << subBits
	maxBits    = 40 // 18 minutes; longer counts as that
	buckets    = (maxBits - subBits + 1) * subBuckets
)

// histogram counts latencies in 18 KiB. The zero value is empty. Not for
// concurrent use: each client has its own, merged at the end.
type histogram struct {
	counts [buckets]uint64
	n      uint64
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile is the smallest latency that at least the share q of all did not
// exceed, rounded up to its bucket's upper end.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) {
		rank++
	}
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank && c > 0 {
			return min(upperOf(i), h.max)
		}
	}
	return h.max
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	v = min(v, 1<<maxBits-1)
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1 // v>>shift is in [subBuckets, 2*subBuckets)
	return shift*subBuckets + int(v>>shift)
}

// upperOf is the largest value of a bucket.
func upperOf(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	shift := i/subBuckets - 1
	return time.Duration(uint64(i%subBuckets+subBuckets+1)<<shift - 1)
}
