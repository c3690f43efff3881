package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

// DefaultPGs is the number of placement groups of a new region.
const DefaultPGs = 1024

// Layout is the immutable table of one epoch: placement group -> disks. The
// disks of a group are in shard order: slot i holds shard i. The first half of
// the slots is in FirstZone(pg), which therefore holds the systematic shards;
// even groups start with Zones[0], odd ones with Zones[1], so that both zones
// share the work.
type Layout struct {
	Epoch   Epoch      `cbor:"1,keyasint"`
	Profile Profile    `cbor:"2,keyasint"`
	Zones   [2]Zone    `cbor:"3,keyasint"`
	Disks   []Disk     `cbor:"4,keyasint"`
	Groups  [][]uint16 `cbor:"5,keyasint"` // [pg][shard index] -> index into Disks

	Former []Disk   `cbor:"6,keyasint,omitempty"` // that moving slots come from
	Moving []Moving `cbor:"7,keyasint,omitempty"` // slots whose owner is new, in order

	left map[Slot][]Disk // who held a slot that has moved in this epoch
	gone map[DiskID]bool // former disks that are lost
}

// FirstZone is the zone of the systematic shards of pg.
func (l *Layout) FirstZone(pg PG) Zone { return l.Zones[int(pg)%2] }

// SecondZone is the other one.
func (l *Layout) SecondZone(pg PG) Zone { return l.Zones[1-int(pg)%2] }

// ZoneOf is the zone of slot i of pg.
func (l *Layout) ZoneOf(pg PG, i ShardIndex) Zone {
	if int(i) < l.Profile.PerZone() {
		return l.FirstZone(pg)
	}
	return l.SecondZone(pg)
}

// Disk is the disk of slot i of pg.
func (l *Layout) Disk(pg PG, i ShardIndex) Disk { return l.Disks[l.Groups[pg][i]] }

// Owns tells whether the disk holds slot i of pg in this layout.
func (l *Layout) Owns(disk DiskID, pg PG, i ShardIndex) bool {
	return int(pg) < len(l.Groups) && int(i) < len(l.Groups[pg]) && l.Disk(pg, i).ID == disk
}

// Probe is the placement group of a chunk at the given attempt of its probe
// sequence: XXH3-64 over blob id, chunk number and attempt, big-endian.
func (l *Layout) Probe(blob BlobID, chunk uint32, attempt uint8) PG {
	var b [21]byte
	copy(b[:16], blob[:])
	binary.BigEndian.PutUint32(b[16:20], chunk)
	b[20] = attempt
	return PG(xxh3.Hash(b[:]) % uint64(len(l.Groups)))
}

// ProbeIn is Probe for a chunk that lies in one zone alone: the neighbour of the
// group that Probe finds whose first slots are in that zone.
func (l *Layout) ProbeIn(zone Zone, blob BlobID, chunk uint32, attempt uint8) PG {
	pg := l.Probe(blob, chunk, attempt)
	if l.FirstZone(pg) == zone {
		return pg
	}
	if pg ^= 1; int(pg) >= len(l.Groups) {
		pg -= 2 // the last of an odd number of groups; there is another before it, or none at all
	}
	return pg
}

// Validate reports every fault of the table at once: wrong sizes, unknown or
// repeated disks, a shard in the wrong zone (zoneOf gives a node's zone).
func (l *Layout) Validate(zoneOf func(NodeID) Zone) error {
	var errs []error
	if len(l.Groups) == 0 || len(l.Groups) > 1<<16 {
		errs = append(errs, fmt.Errorf("layout has %d placement groups, want 1..65536", len(l.Groups)))
	}
	if l.Profile.K == 0 || l.Zones[0] == l.Zones[1] {
		errs = append(errs, fmt.Errorf("layout has profile %+v over zones %q", l.Profile, l.Zones))
	}
	zones, last := make([]Zone, len(l.Disks)), make([]int, len(l.Disks)) // last: one more than the group that named the disk
	for i, d := range l.Disks {
		zones[i] = zoneOf(d.Node)
	}
	for pg, slots := range l.Groups {
		if len(slots) != 2*l.Profile.PerZone() {
			errs = append(errs, fmt.Errorf("pg %d has %d slots, want %d", pg, len(slots), 2*l.Profile.PerZone()))
			continue
		}
		for i, d := range slots {
			if int(d) >= len(l.Disks) {
				errs = append(errs, fmt.Errorf("pg %d slot %d: no disk %d", pg, i, d))
				continue
			}
			switch {
			case last[d] == pg+1:
				errs = append(errs, fmt.Errorf("pg %d slot %d: disk %s twice", pg, i, l.Disks[d].ID))
			case zones[d] != l.ZoneOf(PG(pg), ShardIndex(i)):
				errs = append(errs, fmt.Errorf("pg %d slot %d: disk %s is in the wrong zone", pg, i, l.Disks[d].ID))
			}
			last[d] = pg + 1
		}
	}
	if err := l.validateMoving(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
