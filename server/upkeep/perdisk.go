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
// is listed no more: disks are lost, opened again and replaced while their node
// runs. There is never more than one work with the disk of one id. It looks again at
// every tick and returns, after the last work, when ctx ends.
func perDisk[D localDisk](ctx context.Context, every time.Duration, disks func() []D, work func(context.Context, D)) {
	t := time.NewTicker(every)
	defer t.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	type job struct {
		disk  D
		end   context.CancelFunc
		ended chan struct{}
	}
	jobs := map[cluster.DiskID]job{}
	for {
		now := disks()
		for id, j := range jobs {
			if slices.Contains(now, j.disk) {
				continue
			}
			j.end()
			select {
			case <-j.ended:
				delete(jobs, id)
			default: // its successor waits
			}
		}
		for _, d := range now {
			if _, busy := jobs[d.ID()]; busy {
				continue
			}
			dctx, end := context.WithCancel(ctx)
			j := job{d, end, make(chan struct{})}
			jobs[d.ID()] = j
			wg.Go(func() {
				defer close(j.ended)
				defer end()
				work(dctx, d)
			})
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
