//go:build e2e

package server_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bivalve/server/servertest"
)

// BenchmarkCut tells how long requests wait for their answer that are under way when a
// zone is cut from the other and the witness, or begin in the two seconds after that:
// reads, and writes with and without shards, of two clients each at every node of the
// zone. Nothing is slowed down but that all packets are lost.
func BenchmarkCut(b *testing.B) {
	const each, lasts = 2, 5 * time.Second
	r := servertest.Start(b, servertest.Options{})
	bucketOfLoad(b, r)
	zone, rest := r.Nodes(servertest.ZoneA), append(r.Nodes(servertest.ZoneB), "w")
	large := strings.Repeat("x", 100_000)
	if code, err := tries(r, "a1", http.MethodPut, "/load/known", large); err != nil || code != http.StatusOK {
		b.Fatal(code, err)
	}
	type answer struct {
		from, to time.Time
		code     int
	}
	for b.Loop() {
		var mu sync.Mutex
		var reads, writes []answer
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for _, id := range zone {
			for i, ask := range []func(k int) (int, error){
				func(int) (int, error) { return tries(r, id, http.MethodGet, "/load/known", "") },
				func(k int) (int, error) { return tries(r, id, http.MethodPut, fmt.Sprintf("/load/s%s%d", id, k), "x") },
				func(k int) (int, error) {
					return tries(r, id, http.MethodPut, fmt.Sprintf("/load/l%s%d", id, k), large)
				},
			} {
				for range each {
					clients.Go(func() {
						for k := 0; ; k++ {
							select {
							case <-stop:
								return
							case <-time.After(150 * time.Millisecond): // the pace of a client
							}
							a := answer{from: time.Now()}
							var err error
							if a.code, err = ask(k); err != nil {
								b.Error(err)
							}
							a.to = time.Now()
							mu.Lock()
							if i == 0 {
								reads = append(reads, a)
							} else {
								writes = append(writes, a)
							}
							mu.Unlock()
						}
					})
				}
			}
		}
		time.Sleep(time.Second) // of a healthy region
		cut := time.Now()
		r.Cut(zone, rest)
		time.Sleep(lasts)
		r.Heal()
		close(stop)
		clients.Wait()
		for what, all := range map[string][]answer{"reads": reads, "writes": writes} {
			var waits []time.Duration
			codes := map[int]int{}
			for _, a := range all {
				if a.to.Before(cut) || a.from.After(cut.Add(2*time.Second)) {
					continue
				}
				codes[a.code]++
				waits = append(waits, a.to.Sub(cut))
				if a.from.After(cut) {
					waits[len(waits)-1] = a.to.Sub(a.from)
				}
			}
			slices.Sort(waits)
			most := waits[len(waits)-1]
			b.Logf("%s: %d, p50 %.2f s, p90 %.2f s, most %.2f s; answers %v", what, len(waits),
				waits[len(waits)/2].Seconds(), waits[len(waits)*9/10].Seconds(), most.Seconds(), codes)
			b.ReportMetric(most.Seconds()/2, what+"-most/2s")
		}
		r.Until("the region is whole", func(context.Context) error {
			for _, id := range r.Nodes() {
				if id == "w" {
					continue
				}
				if code, err := tries(r, id, http.MethodPut, "/load/whole", "x"); err != nil || code != http.StatusOK {
					return fmt.Errorf("%s answers %d: %w", id, code, err)
				}
			}
			if s := status(b, r, "a1"); s.Zones[0].Down || s.Zones[1].Down {
				return fmt.Errorf("%+v", s.Zones)
			}
			return nil
		})
	}
}
