package loadgen

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsCoverEveryLatency(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, 1<<maxBits-1).Draw(t, "d"))
		i := bucketOf(d)
		up := upperOf(i)
		if up < d || float64(up-d) > float64(d)/subBuckets {
			t.Fatalf("%d is in bucket %d, whose upper end is %d", d, i, up)
		}
		if bucketOf(up) != i || i+1 < buckets && bucketOf(up+1) != i+1 {
			t.Fatalf("bucket %d does not end at %d", i, up)
		}
	})
	for _, d := range []time.Duration{-1, 0, 1<<maxBits - 1, 1 << maxBits, math.MaxInt64} {
		if i := bucketOf(d); i < 0 || i >= buckets {
			t.Errorf("bucket of %d is %d", d, i)
		}
	}
}

func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Hour/4)), 1, 300).Draw(t, "latencies")
		parts := [2]histogram{}
		for i, v := range all {
			parts[i%2].add(time.Duration(v))
		}
		parts[0].merge(&parts[1])
		slices.Sort(all)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
			want := time.Duration(all[max(0, int(math.Ceil(q*float64(len(all))))-1)])
			got := parts[0].quantile(q)
			if got < want || float64(got-want) > float64(want)/subBuckets {
				t.Fatalf("quantile %g of %d is %d, want %d", q, len(all), got, want)
			}
		}
		if parts[0].max != time.Duration(all[len(all)-1]) || parts[0].n != uint64(len(all)) {
			t.Fatalf("max %d of %d", parts[0].max, parts[0].n)
		}
	})
	if got := (&histogram{}).quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %d", got)
	}
}

func TestKindsOfErrorsAreBounded(t *testing.T) {
	var s stats
	for i := range 1000 {
		s.fail((&statusError{Status: i}).Error())
	}
	var n uint64
	for _, c := range s.errors {
		n += c
	}
	if len(s.errors) > maxKinds || n != 1000 {
		t.Errorf("%d errors in %d kinds", n, len(s.errors))
	}
}
