package object

import (
	"fmt"
	"slices"

	"bivalve/cluster"
	"bivalve/metadata"
)

// halves counts the shards of one chunk by the two zones of its placement
// group: index 0 is the zone of the systematic shards.
type halves [2]int

// durable is the quorum rule of a write, and the only place where it is stated:
// every zone that is up holds at least k shards, so that it alone can rebuild
// the chunk; and k+m are written in all, so that what is left can lose m more.
// Class lean promises no more than the first, class onezone the loss of disks: it
// is acknowledged with one to spare, the second follows.
// down is the agreed fact about each zone, never a failed call of our own.
func durable(p metadata.Profile, written halves, down [2]bool) bool {
	g := geometryOf(p)
	switch p.Class {
	case metadata.ClassOneZone:
		return written[0] > g.K
	case metadata.ClassLean:
		g.M = 0
	}
	if written[0]+written[1] < g.PerZone() {
		return false
	}
	for z := range written {
		if !down[z] && written[z] < g.K {
			return false
		}
	}
	return true
}

// QuorumError says how a chunk fell short.
type QuorumError struct {
	Op      string // "write" or "read"
	Need    int    // shards in all
	Got     halves
	Zones   [2]cluster.Zone
	Causes  []error // a few of them
	Skipped int     // shards known to be missing or on disks that are down
}

func (e *QuorumError) Error() string {
	s := fmt.Sprintf("%s of a chunk: %d shards in zone %s and %d in zone %s, need %d in all and enough in each",
		e.Op, e.Got[0], e.Zones[0], e.Got[1], e.Zones[1], e.Need)
	for _, c := range e.Causes {
		s += "; " + c.Error()
	}
	return s
}

// Unwrap lets errors.Is find ErrNoQuorum and the causes.
func (e *QuorumError) Unwrap() []error { return append([]error{ErrNoQuorum}, e.Causes...) }

// cause keeps a few errors, not one per shard; one that another try may not meet
// is among them if there was any.
func (e *QuorumError) cause(err error) {
	switch {
	case err == nil:
	case len(e.Causes) < 3:
		e.Causes = append(e.Causes, err)
	case passing(err) && !slices.ContainsFunc(e.Causes, passing):
		e.Causes[2] = err
	}
}
