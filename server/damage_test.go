package server

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
)

type countDamage struct{ n int }

func (c *countDamage) Damaged(cluster.DiskID, cluster.ShardKey, error) { c.n++ }

// TestChecks: every report is counted; a corrupt or absent shard is told to its owner
// once in a while, what is no loss never; what does not fit is dropped, and nobody
// waits.
func TestChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []uint32
		count := &countDamage{}
		c := newChecks(count, func(_ context.Context, s shardOnDisk) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, s.Key.Chunk)
			return cluster.ErrUnreachable
		}, slog.New(slog.DiscardHandler))
		corrupt := fmt.Errorf("disk d: %w", cluster.ErrCorrupt)
		report := func(chunk uint32, err error) { c.Damaged(cluster.DiskID{1}, cluster.ShardKey{Chunk: chunk}, err) }
		report(1, corrupt)
		report(1, corrupt)
		report(2, cluster.ErrUnreachable)
		report(3, cluster.ErrNotFound)
		ctx, end := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		report(1, corrupt) // it was told a moment ago
		synctest.Wait()
		if !slices.Equal(asked, []uint32{1, 3}) || count.n != 5 {
			t.Errorf("asked %v, counted %d", asked, count.n)
		}
		time.Sleep(checkAgain)
		report(1, corrupt)
		synctest.Wait()
		if !slices.Equal(asked, []uint32{1, 3, 1}) {
			t.Errorf("asked %v", asked)
		}
		end()
		wg.Wait()
		for i := range uint32(2 * checksKnown) {
			report(i, corrupt)
		}
		if len(c.queue) != checksQueued || len(c.told) > checksKnown {
			t.Errorf("%d wait, %d are known", len(c.queue), len(c.told))
		}
	})
}
