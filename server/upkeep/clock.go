package upkeep

import (
	"context"
	"log/slog"
	"time"
)

// Clock tells the region every now and then what the clock of this node shows. The
// region's clock, by which retention and lifecycle go, is what most nodes agree on.
type Clock struct {
	Report func(ctx context.Context) error
	Every  time.Duration
	Logger *slog.Logger
}

// Run works until ctx ends.
func (c *Clock) Run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		wait := c.Every
		rctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		if err := c.Report(rctx); err != nil {
			c.Logger.Debug("the clock could not be reported", "err", err)
			wait = min(wait, time.Second)
		}
		cancel()
		t.Reset(wait)
	}
}
