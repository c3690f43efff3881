package object

import (
	"errors"
	"fmt"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

// Storage classes as clients name them; "" is the first.
const (
	storageStandard = "STANDARD"
	storageLean     = "REDUCED_REDUNDANCY"
	storageOneZone  = "ONEZONE_IA"
)

// oneZoneParity is how many disks an object of class onezone may lose.
const oneZoneParity = 2

// ErrStorageClass: the region has no such storage class.
var ErrStorageClass = errors.New("no such storage class in this region")

// profileFor is the code of a new blob. All classes keep the slots of the layout:
// lean leaves some of them empty, and onezone divides those of one zone in another
// way, with two for parity. The zone follows from the partition, so that the parts
// of one object share theirs, unless that zone is agreed to be down.
func profileFor(r Region, l *cluster.Layout, class string, partition uint16) (metadata.Profile, error) {
	p := metadata.Profile{K: l.Profile.K, M: l.Profile.M}
	switch class {
	case "", storageStandard:
	case storageLean:
		p.Class = metadata.ClassLean
	case storageOneZone:
		per := l.Profile.PerZone()
		if per <= oneZoneParity {
			return p, fmt.Errorf("%w: %s needs %d failure domains in a zone, there are %d", ErrStorageClass, class, oneZoneParity+1, per)
		}
		zone := l.Zones[partition%2]
		if r.ZoneDown(zone) {
			zone = l.Zones[1-partition%2]
		}
		p = metadata.Profile{K: uint8(per - oneZoneParity), M: oneZoneParity, Class: metadata.ClassOneZone, Zone: string(zone)}
	default:
		return p, fmt.Errorf("%w: %s", ErrStorageClass, class)
	}
	return p, nil
}

// checkClass refuses a class before any byte is taken.
func (s *Store) checkClass(class string) error {
	if class == "" || class == storageStandard {
		return nil
	}
	l := s.cfg.Region.Layout()
	if l == nil {
		return fmt.Errorf("%w: the region has no layout yet", metadata.ErrUnavailable)
	}
	_, err := profileFor(s.cfg.Region, l, class, 0)
	return err
}

// geometryOf is the code of a profile.
func geometryOf(p metadata.Profile) erasure.Geometry {
	return erasure.Geometry{K: int(p.K), M: int(p.M)}
}

// shardProfile is what each shard says of its code.
func shardProfile(p metadata.Profile) cluster.Profile {
	return cluster.Profile{K: p.K, M: p.M}.Of(cluster.Class(p.Class))
}
