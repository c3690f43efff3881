//go:build e2e

package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server/servertest"
)

// BenchmarkListingHTTP lists pages of 1000 of a million keys by signed requests to one
// node of a region, with everything that is behind them: the keys in their order, all of
// them as those of one directory, and 10,000 directories of 100 each. A page at the
// middle or the end is told against one at the front.
func BenchmarkListingHTTP(b *testing.B) {
	const keys, perDir, page, writers = 1_000_000, 100, 1000, 256
	r := servertest.Start(b, servertest.Options{NodesPerZone: 1, Partitions: 4})
	ctx := b.Context()
	s := r.Node("a1").Stores()
	_, err := s.Buckets.CreateBucket(ctx, "keys")
	fatal(b, err)
	key := func(i int) string { return fmt.Sprintf("all/%05d/%02d", i/perDir, i%perDir) }
	var next atomic.Int64
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			for i := next.Add(1) - 1; i < keys; i = next.Add(1) - 1 {
				if _, err := s.Objects.PutObject(ctx, s3api.PutRequest{Bucket: "keys", Key: key(int(i)), Bytes: 4, Body: s3test.NewBody([]byte("1234"))}); err != nil {
					b.Errorf("%s: %v", key(int(i)), err)
					return
				}
			}
		})
	}
	work.Wait()
	if b.Failed() {
		return
	}
	at := func(part float64) string { return key(int(part * keys)) }
	for _, v := range []struct {
		name, prefix, delimiter, row string
		after                        func(part float64) string
	}{
		{"keys", "", "", "<Contents>", at},
		{"keys of one directory", "all/", "|", "<Contents>", at},
		{"directories", "all/", "/", "<CommonPrefixes>", func(part float64) string { return fmt.Sprintf("all/%05d/", int(part*keys/perDir)) }},
	} {
		var front float64
		for _, place := range []struct {
			name string
			part float64
		}{{"front", 0}, {"middle", 0.5}, {"end", 0.85}} {
			b.Run(v.name+"/"+place.name, func(b *testing.B) {
				q := url.Values{"list-type": {"2"}, "prefix": {v.prefix}, "delimiter": {v.delimiter}}
				if place.part > 0 {
					q.Set("start-after", v.after(place.part))
				}
				once := func() {
					resp, err := r.Do(ctx, "a1", "GET", "/keys?"+q.Encode(), nil, http.Header{})
					fatal(b, err)
					body, err := io.ReadAll(resp.Body)
					fatal(b, err)
					fatal(b, resp.Body.Close())
					if rows := bytes.Count(body, []byte(v.row)); resp.StatusCode != http.StatusOK || rows != page {
						b.Fatalf("%s: %d rows", resp.Status, rows)
					}
				}
				once() // the pages of the file that it needs are in memory then
				for b.Loop() {
					once()
				}
				each := b.Elapsed().Seconds() / float64(b.N)
				if place.part == 0 {
					front = each
				}
				b.ReportMetric(each*1000, "ms/page")
				b.ReportMetric(each/front, "x-front")
			})
		}
	}
}
