package upkeep

import (
	"context"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
)

// localDisk is a disk of this node; two values are the same opening of a disk when
// they are equal.
type localDisk interface {
	comparable
	ID() cluster.DiskID
}

// perDisk runs work once for each disk that disks lists, and ends it when the disk
// is listed no more: disks are taken out of service and replaced while their node
// runs. It looks again at every tick and returns, after the last work, when ctx
// ends.
func perDisk[D localDisk](ctx context.Context, every time.Duration, disks func() []D, work func(context.Context, D)) {
	t := time.NewTicker(every)
	defer t.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[D]context.CancelFunc{}
	defer func() {
		for _, end := range running {
			end()
		}
	}()
	for {
		now := disks()
		for d, end := range running {
			if !slices.Contains(now, d) {
				end()
				delete(running, d)
			}
		}
		for _, d := range now {
			if running[d] == nil {
				dctx, end := context.WithCancel(ctx)
				running[d] = end
				wg.Go(func() { work(dctx, d) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
