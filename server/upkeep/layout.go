package upkeep

import (
	"context"
	"log/slog"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/placement"
)

// Founding is what the first layout needs.
type Founding interface {
	Layout() *cluster.Layout
	// Founders are the registered members once all that the region begins with
	// have registered, else nil.
	Founders() []cluster.Member
	// PutLayout proposes the first layout; one that is there already wins.
	PutLayout(ctx context.Context, l *cluster.Layout) error
}

// Founder makes the first layout as soon as every node of the new region has
// registered its disks.
type Founder struct {
	Facts   Founding
	Leader  RootLeader
	Logger  *slog.Logger
	Every   time.Duration
	Zones   [2]cluster.Zone
	Profile cluster.Profile
	PGs     int
}

// Run ends when the region has a layout, or with ctx.
func (f *Founder) Run(ctx context.Context) error {
	t := time.NewTicker(f.Every)
	defer t.Stop()
	for f.Facts.Layout() == nil {
		if f.Leader() {
			if members := f.Facts.Founders(); members != nil {
				f.found(ctx, members)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
	return nil
}

func (f *Founder) found(ctx context.Context, members []cluster.Member) {
	l, err := placement.Compute(placement.Input{Members: members, Zones: f.Zones, Profile: f.Profile, PGs: f.PGs, Epoch: 1})
	if err == nil {
		pctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		err = f.Facts.PutLayout(pctx, l)
		cancel()
	}
	if err != nil {
		f.Logger.Error("the first layout could not be made", "err", err)
	}
}
