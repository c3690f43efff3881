package placement

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"bivalve/cluster"
)

// ErrTooFewDisks: a zone cannot hold k+m shards on distinct disks.
var ErrTooFewDisks = errors.New("too few disks")

// Input is all that a layout depends on.
type Input struct {
	// Members, in any order. Those that are not storage nodes are skipped, and
	// so are disks of weight 0: they are draining.
	Members []cluster.Member
	Zones   [2]cluster.Zone
	Profile cluster.Profile
	PGs     int             // default cluster.DefaultPGs
	Epoch   cluster.Epoch   // default one more than Previous
	Before  *cluster.Layout // nil at first; not changed
}

// Validate reports every fault at once.
func (in *Input) Validate() error {
	var errs []error
	if in.Profile.K == 0 || 2*in.Profile.PerZone() > 255 {
		errs = append(errs, fmt.Errorf("placement: profile %+v", in.Profile))
	}
	if in.PGs < 1 || in.PGs > 1<<16 {
		errs = append(errs, fmt.Errorf("placement: %d placement groups, want 1..65536", in.PGs))
	}
	if in.Zones[0] == in.Zones[1] || in.Zones[0] == "" || in.Zones[1] == "" {
		errs = append(errs, fmt.Errorf("placement: zones %q", in.Zones))
	}
	if b := in.Before; b != nil {
		// A chunk's group is its hash modulo their number, so that is fixed for good.
		if len(b.Groups) != in.PGs || b.Zones != in.Zones {
			errs = append(errs, fmt.Errorf("placement: from %d groups over %q to %d over %q", len(b.Groups), b.Zones, in.PGs, in.Zones))
		}
		if in.Epoch <= b.Epoch {
			errs = append(errs, fmt.Errorf("placement: epoch %d after %d", in.Epoch, b.Epoch))
		}
	}
	seen := make(map[cluster.DiskID]bool)
	for _, m := range in.Members {
		if m.Role != cluster.RoleStorage {
			continue
		}
		if m.Zone != in.Zones[0] && m.Zone != in.Zones[1] {
			errs = append(errs, fmt.Errorf("placement: node %s is in zone %q", m.ID, m.Zone))
		}
		for _, d := range m.Disks {
			if seen[d.ID] || d.Node != m.ID || d.ID.IsZero() {
				errs = append(errs, fmt.Errorf("placement: node %s lists disk %s of node %s", m.ID, d.ID, d.Node))
			}
			seen[d.ID] = true
		}
	}
	return errors.Join(errs...)
}

// Compute makes the next layout.
func Compute(in Input) (*cluster.Layout, error) {
	if in.PGs == 0 {
		in.PGs = cluster.DefaultPGs
	}
	if in.Epoch == 0 {
		in.Epoch = 1
		if in.Before != nil {
			in.Epoch = in.Before.Epoch + 1
		}
	}
	if err := in.Validate(); err != nil {
		return nil, err
	}
	l := &cluster.Layout{Epoch: in.Epoch, Profile: in.Profile, Zones: in.Zones, Groups: make([][]uint16, in.PGs)}
	zoneOf := make(map[cluster.NodeID]cluster.Zone)
	for _, m := range in.Members {
		zoneOf[m.ID] = m.Zone
		for _, d := range m.Disks {
			if m.Role == cluster.RoleStorage && d.Weight > 0 {
				l.Disks = append(l.Disks, d)
			}
		}
	}
	if len(l.Disks) > 1<<16 {
		return nil, fmt.Errorf("placement: %d disks, at most 65536", len(l.Disks))
	}
	slices.SortFunc(l.Disks, func(a, b cluster.Disk) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	per := in.Profile.PerZone()
	slots := make([]uint16, in.PGs*2*per)
	for pg := range l.Groups {
		l.Groups[pg] = slots[pg*2*per : (pg+1)*2*per : (pg+1)*2*per]
	}
	var wg sync.WaitGroup
	var errs [2]error
	for i := range in.Zones { // they share nothing but the table, where each has its half of every group
		wg.Go(func() { errs[i] = solve(in, l, i, zoneOf) })
	}
	wg.Wait()
	if err := cmp.Or(errs[0], errs[1]); err != nil {
		return nil, err
	}
	if err := l.Validate(func(n cluster.NodeID) cluster.Zone { return zoneOf[n] }); err != nil {
		return nil, fmt.Errorf("placement: %w", err)
	}
	return l, nil
}

// solve makes the half of the table that is Zones[i]'s.
func solve(in Input, l *cluster.Layout, i int, zoneOf map[cluster.NodeID]cluster.Zone) error {
	z := newZone(l, in.Zones[i], zoneOf, in.PGs)
	if err := z.solve(in.Before, i); err != nil {
		return fmt.Errorf("placement: zone %s: %w", in.Zones[i], err)
	}
	for pg := range l.Groups {
		half := l.Groups[pg][zoneOffset(pg, i, z.per):]
		for s, d := range z.group(pg) {
			half[s] = z.disks[d].global
		}
	}
	return nil
}

// zoneOffset is where the slots of Zones[i] begin in a group: even groups list
// Zones[0] first, odd ones Zones[1].
func zoneOffset(pg, i, perZone int) int {
	if pg%2 == i {
		return 0
	}
	return perZone
}

// Move is one shard index of a group that changes its disk.
type Move struct {
	PG       cluster.PG
	Index    cluster.ShardIndex
	From, To cluster.Disk // From is zero where the old layout had no such slot
}

// Moves lists what changes from one layout to the next, by group and index. With
// another number of shards per zone the indices of the second zone shift, so
// there it lists where new objects go, not what must be copied: the shards of
// older objects stay under their own profile.
func Moves(old, next *cluster.Layout) []Move {
	var moves []Move
	for pg := range next.Groups {
		for i := range next.Groups[pg] {
			m := Move{PG: cluster.PG(pg), Index: cluster.ShardIndex(i), To: next.Disk(cluster.PG(pg), cluster.ShardIndex(i))}
			if pg < len(old.Groups) && i < len(old.Groups[pg]) {
				m.From = old.Disk(m.PG, m.Index)
			}
			if m.From.ID != m.To.ID {
				moves = append(moves, m)
			}
		}
	}
	return moves
}
