package upkeep

import (
	"context"
	"log/slog"
	"time"

	"bivalve/cluster"
)

// RootLeader tells whether this node leads the root group at the moment.
type RootLeader func() bool

// ZoneFacts is what the judge looks at and where it writes.
type ZoneFacts interface {
	Layout() *cluster.Layout
	ZoneDown(cluster.Zone) bool
	// Alive is gossip's opinion alone, whatever is agreed about the zone.
	Alive(cluster.NodeID) bool
	// SetZone proposes the fact; it is agreed when it returns nil.
	SetZone(ctx context.Context, z cluster.Zone, down bool) error
}

// ZoneJudge turns what gossip sees into the one agreed fact on which writes relax
// their quorum. A zone is usable while every placement group has k disks alive
// in it; one that is not usable cannot take its share of any write.
type ZoneJudge struct {
	Facts  ZoneFacts
	Leader RootLeader
	Logger *slog.Logger
	Every  time.Duration // between two looks
	// DownAfter and UpAfter are how long the opinion must hold. Gossip itself
	// takes a second or two to give a node up, so DownAfter is short.
	DownAfter, UpAfter time.Duration
	// A zone that goes down again within Calm of coming up was believed too soon:
	// each time it must hold for twice as long as the last, up to MaxUpAfter, so
	// that a link that comes and goes does not carry the zone with it.
	Calm, MaxUpAfter time.Duration
	// Warm is how long after its start, or after becoming leader, the judge
	// believes nothing bad of a zone that it has never seen usable.
	Warm time.Duration
	Now  func() time.Time
}

// opinion is what the judge holds of one zone.
type opinion struct {
	usable bool
	since  time.Time
	seen   bool // usable at least once since this node leads

	upAfter time.Duration // how long usable must hold; zero is UpAfter
	rose    time.Time     // when the zone was last declared up
}

// fell notes that the zone is declared down.
func (o *opinion) fell(j *ZoneJudge, now time.Time) {
	if !o.rose.IsZero() && now.Sub(o.rose) < j.Calm {
		o.upAfter = min(2*max(o.upAfter, j.UpAfter), max(j.UpAfter, j.MaxUpAfter))
	} else {
		o.upAfter = 0
	}
}

// Run judges until ctx ends.
func (j *ZoneJudge) Run(ctx context.Context) error {
	t := time.NewTicker(j.Every)
	defer t.Stop()
	opinions := map[cluster.Zone]*opinion{}
	var leading time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if !j.Leader() {
			leading, opinions = time.Time{}, map[cluster.Zone]*opinion{}
			continue
		}
		if leading.IsZero() {
			leading = j.Now()
		}
		j.look(ctx, opinions, leading)
	}
}

func (j *ZoneJudge) look(ctx context.Context, opinions map[cluster.Zone]*opinion, leading time.Time) {
	l := j.Facts.Layout()
	if l == nil {
		return
	}
	now := j.Now()
	usable := Usable(l, j.Facts.Alive)
	for i, z := range l.Zones {
		o := opinions[z]
		if o == nil || o.usable != usable[i] {
			next := &opinion{usable: usable[i], since: now}
			if o != nil {
				next.seen, next.upAfter, next.rose = o.seen, o.upAfter, o.rose
			}
			o = next
			opinions[z] = o
		}
		o.seen = o.seen || usable[i]
		held := now.Sub(o.since)
		var down bool
		switch agreed := j.Facts.ZoneDown(z); {
		case !agreed && !usable[i] && held >= j.DownAfter && (o.seen || now.Sub(leading) >= j.Warm):
			// Never both: then nothing could relax, and nothing would be gained.
			if !usable[1-i] || j.Facts.ZoneDown(l.Zones[1-i]) {
				continue
			}
			down = true
		case agreed && usable[i] && held >= max(o.upAfter, j.UpAfter):
		default:
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		if err := j.Facts.SetZone(pctx, z, down); err != nil {
			j.Logger.Warn("the state of a zone could not be agreed", "zone", z, "down", down, "err", err)
		} else if down {
			o.fell(j, now)
		} else {
			o.rose = now
		}
		cancel()
	}
}

// Usable tells for each zone of the layout whether every placement group has at
// least k disks on living nodes in it.
func Usable(l *cluster.Layout, alive func(cluster.NodeID) bool) [2]bool {
	up := map[cluster.NodeID]bool{}
	for _, d := range l.Disks {
		if _, known := up[d.Node]; !known {
			up[d.Node] = alive(d.Node)
		}
	}
	usable := [2]bool{true, true}
	for pg := range l.Groups {
		var live [2]int
		for i := range l.Groups[pg] {
			if up[l.Disk(cluster.PG(pg), cluster.ShardIndex(i)).Node] {
				if l.ZoneOf(cluster.PG(pg), cluster.ShardIndex(i)) == l.Zones[0] {
					live[0]++
				} else {
					live[1]++
				}
			}
		}
		for z := range usable {
			usable[z] = usable[z] && live[z] >= int(l.Profile.K)
		}
	}
	return usable
}
