package upkeep

import (
	"context"
	"sync"
	"time"
)

// courtesy makes way for clients: work that went less than half as fast as at its
// best of late has company, and rests as many times longer as it was slower, up to
// ten times what it took.
type courtesy struct {
	now func() time.Time

	mu    sync.Mutex
	best  float64 // bytes in a second
	until time.Time
}

// took notes what a piece of work took.
func (c *courtesy) took(bytes int64, took time.Duration) {
	if bytes == 0 || took <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = c.now().Add(restAfter(&c.best, bytes, took))
}

// wait rests.
func (c *courtesy) wait(ctx context.Context) error {
	c.mu.Lock()
	d := c.until.Sub(c.now())
	c.mu.Unlock()
	if !sleep(ctx, d) {
		return ctx.Err()
	}
	return nil
}

// restAfter is how long to leave alone what just took so long; best is kept by the
// caller.
func restAfter(best *float64, bytes int64, took time.Duration) time.Duration {
	if bytes == 0 || took <= 0 {
		return 0
	}
	speed := float64(bytes) / took.Seconds()
	*best = max(*best*0.99, speed)
	slower := min(scrubYieldMost, *best/speed)
	if slower < 2 {
		return 0
	}
	return time.Duration(slower * float64(took))
}
