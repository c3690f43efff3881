//go:build e2e

package server_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server"
	"bivalve/server/servertest"
)

// BenchmarkRelay puts objects of 4 MiB from both zones over a line of 20 MiB/s and 5 ms
// each way, once through relays and once directly, and tells the one against the other.
func BenchmarkRelay(b *testing.B) {
	const each, size = 15, 4 << 20
	via := []cluster.NodeID{"a1", "a2", "b1", "b2"}
	for range b.N {
		rate, median := map[server.RelayMode]float64{}, map[server.RelayMode]time.Duration{}
		for _, mode := range []server.RelayMode{server.RelayOn, server.RelayOff} {
			r := servertest.Start(b, servertest.Options{Relay: mode}) // k=2, m=1
			bucketOfLoad(b, r)
			r.SlowLine(20<<20, 5*time.Millisecond)
			var mu sync.Mutex
			var took []time.Duration
			var clients sync.WaitGroup
			began := time.Now()
			for _, id := range via {
				clients.Go(func() {
					for i := range each {
						data := content(size, fmt.Sprint(id, i))
						start := time.Now()
						_, err := r.Node(id).Stores().Objects.PutObject(b.Context(), s3api.PutRequest{
							Bucket: "load", Key: fmt.Sprint(id, i), Bytes: size, Body: s3test.NewBody(data)})
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			clients.Wait()
			rate[mode] = float64(len(via)*each*size) / time.Since(began).Seconds()
			slices.Sort(took)
			median[mode] = took[len(took)/2]
			b.Logf("relay %s: %.1f MiB/s, PUT of 4 MiB: p50 %.0f ms, p99 %.0f ms", mode, rate[mode]/(1<<20),
				median[mode].Seconds()*1000, took[len(took)*99/100].Seconds()*1000)
			r.Kill(r.Nodes()...)
		}
		b.ReportMetric(rate[server.RelayOn]/rate[server.RelayOff], "throughput-relay/direct")
		b.ReportMetric(median[server.RelayOn].Seconds()/median[server.RelayOff].Seconds(), "p50-relay/direct")
	}
}
