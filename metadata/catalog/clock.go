package catalog

import (
	"context"
	"maps"
	"slices"
	"time"

	"bivalve/metadata"
)

// Clock is the region's clock in Unix nanoseconds as this node knows it: it may lag,
// it is never ahead. 0: there is none yet.
func (c *Catalog) Clock() (int64, error) {
	r, err := c.RegionClock()
	return r.Agreed, err
}

// RegionClock is what this node's copy of the root group has of it.
func (c *Catalog) RegionClock() (r metadata.RegionClock, err error) {
	values, err := c.GetConfigLocal(metadata.ConfigClock)
	if err != nil {
		return r, err
	}
	for _, v := range values {
		if v.Key == metadata.ConfigClock {
			err = metadata.DecodeBody(v.Value, &r)
		}
	}
	return r, err
}

// Level is that of the commands which this node may propose: all nodes have it.
func (c *Catalog) Level() uint8 { return max(1, min(c.cfg.Level, c.region().level)) }

// readClock is the region's clock as it was read last.
type readClock struct {
	agreed int64
	level  uint8     // that all nodes have
	at     time.Time // by this node's own clock
	// start is what the region's clock showed when this catalog was made, as far as it
	// was seen to move since: it is moving then, and not a copy from before a halt. 0: it
	// was not seen to move.
	start int64
}

const (
	// clockKept is how long a reading is good enough to bound what is below it.
	clockKept = 5 * time.Second
	// clockLead is how far a node's own clock may be ahead of the region's, which comes
	// after the nodes' by as long as they take to report.
	clockLead = time.Minute
)

// now is the time of a command: this node's clock, unless that is behind what the
// region agrees has come, so that nothing counts as older than it is; or far ahead, so
// that what is written after it does not count as younger than it is: a partition's
// log time never goes back.
func (c *Catalog) now() int64 {
	is := c.region()
	t := c.cfg.Now().UnixNano()
	if is.start != 0 {
		t = min(t, is.start+int64(c.cfg.Elapsed()+clockLead))
	}
	return max(t, is.agreed)
}

// region is the region's clock as it was read a moment ago.
func (c *Catalog) region() *readClock {
	own := c.cfg.Now()
	is := c.clock.Load()
	if is == nil || own.Sub(is.at).Abs() > clockKept {
		is = c.readClock(is, own, c.cfg.Elapsed())
		c.clock.Store(is)
	}
	return is
}

func (c *Catalog) readClock(was *readClock, own time.Time, since time.Duration) *readClock {
	is := &readClock{at: own}
	if was != nil {
		is.agreed, is.start, is.level = was.agreed, was.start, was.level
	}
	r, err := c.RegionClock()
	if err != nil { // the copy cannot be read; what was agreed still holds
		return is
	}
	if was != nil && was.agreed != 0 && r.Agreed > was.agreed {
		is.start = max(is.start, r.Agreed-int64(since))
	}
	is.agreed, is.level = max(is.agreed, r.Agreed), max(is.level, r.Level)
	return is
}

// Now is this node's clock, unless that is behind what the region agrees has come: the
// time that commands carry, and blob ids should.
func (c *Catalog) Now() time.Time { return time.Unix(0, c.now()) }

// ReportClock tells the region what the clock of a node shows, and the level of its program.
func (c *Catalog) ReportClock(ctx context.Context, node string, nodes int) error {
	return c.change(ctx, Root, metadata.CmdReportClock, metadata.ClockReport{Node: node, Clock: c.cfg.Now().UnixNano(), Nodes: nodes, Level: c.cfg.Level}, nil)
}

// ForgetClocks takes away what nodes reported that gone names. Neither the clock nor the
// level would otherwise go on once half of all that had reported are gone: what is old is
// known by the clock itself. ErrConflict: somebody reported meanwhile.
func (c *Catalog) ForgetClocks(ctx context.Context, gone func(node string) bool) error {
	known, err := c.RegionClock()
	if err != nil || !slices.ContainsFunc(slices.Collect(maps.Keys(known.Reports)), gone) {
		return err
	}
	values, err := c.GetConfig(ctx, metadata.ConfigClock)
	if err != nil {
		return err
	}
	for _, v := range values {
		if v.Key != metadata.ConfigClock {
			continue
		}
		var now metadata.RegionClock
		if err := metadata.DecodeBody(v.Value, &now); err != nil {
			return err
		}
		maps.DeleteFunc(now.Reports, func(node string, _ metadata.ClockReader) bool { return gone(node) })
		value, err := metadata.EncodeBody(now)
		if err != nil {
			return err
		}
		if _, err := c.PutConfig(ctx, metadata.PutConfig{Key: v.Key, Value: value, Expect: v.Revision}); err != nil {
			return err
		}
	}
	return nil
}
