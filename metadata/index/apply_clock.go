package index

import (
	"slices"
	"time"

	"bivalve/metadata"
)

// reporterKept is how long a node counts that reports no more.
const reporterKept = int64(7 * 24 * time.Hour)

// maxReporters bounds the record.
const maxReporters = 4096

// reportClock notes what the clock of a node shows. Agreed is the latest time that
// more than half of the nodes have seen: one node's clock, wherever it stands, moves
// it neither forward nor, for long, holds it up. The level is what all of them have.
func (ix *Index) reportClock(r metadata.ClockReport) (any, error) {
	if r.Node == "" || len(r.Node) > metadata.MaxKeyBytes || r.Clock <= 0 {
		return nil, metadata.ErrMalformed
	}
	var c metadata.RegionClock
	if raw := ix.t.config.Get([]byte(metadata.ConfigClock)); raw != nil {
		var v metadata.ConfigValue
		if err := decodeRow(raw, &v); err != nil {
			return nil, err
		}
		if err := metadata.DecodeBody(v.Value, &c); err != nil {
			return nil, err
		}
	}
	if c.Reports == nil {
		c.Reports = map[string]metadata.ClockReader{}
	}
	c.Reports[r.Node] = metadata.ClockReader{Clock: r.Clock, Seen: c.Agreed, Level: r.Level}
	if len(c.Reports) > maxReporters {
		return nil, metadata.ErrMalformed
	}
	var clocks []int64
	level := r.Level
	for node, is := range c.Reports { // order does not matter: they are sorted
		if c.Agreed-is.Seen > reporterKept {
			delete(c.Reports, node)
			continue
		}
		clocks = append(clocks, is.Clock)
		level = min(level, is.Level)
	}
	slices.Sort(clocks)
	slices.Reverse(clocks)
	if most := max(len(clocks), r.Nodes)/2 + 1; len(clocks) >= most {
		c.Agreed = max(c.Agreed, clocks[most-1])
		c.Level = max(c.Level, level)
	}
	value, err := metadata.EncodeBody(c)
	if err != nil {
		return nil, err
	}
	_, err = ix.putConfig(metadata.PutConfig{Key: metadata.ConfigClock, Value: value, Any: true})
	return nil, err
}
