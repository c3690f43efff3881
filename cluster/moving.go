package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Slot is one shard index of one placement group: what a disk owns.
type Slot struct {
	PG    PG         `cbor:"1,keyasint" json:"pg"`
	Index ShardIndex `cbor:"2,keyasint" json:"shard"`
}

func (s Slot) String() string { return fmt.Sprintf("pg %d shard %d", s.PG, s.Index) }

// Compare orders slots by group, then index.
func (s Slot) Compare(o Slot) int {
	return cmp.Or(cmp.Compare(s.PG, o.PG), cmp.Compare(s.Index, o.Index))
}

// Moving is a slot whose owner may not have all of its shards yet. Those that
// held it before keep theirs until it has.
type Moving struct {
	Slot Slot     `cbor:"1,keyasint"`
	From []uint16 `cbor:"2,keyasint"` // indices into Layout.Former, the latest last; the lost are among them
}

func (l *Layout) moving(s Slot) (*Moving, bool) {
	i, ok := slices.BinarySearchFunc(l.Moving, s, func(m Moving, s Slot) int { return m.Slot.Compare(s) })
	if !ok {
		return nil, false
	}
	return &l.Moving[i], true
}

// IsMoving tells whether the owner of a slot may lack some of its shards.
func (l *Layout) IsMoving(pg PG, i ShardIndex) bool {
	_, ok := l.moving(Slot{pg, i})
	return ok
}

// Past are the disks that have held a slot since it began to move, the lost ones
// included, the latest last.
func (l *Layout) Past(pg PG, i ShardIndex) []Disk {
	m, ok := l.moving(Slot{pg, i})
	if !ok {
		return nil
	}
	out := make([]Disk, 0, len(m.From)+1)
	for _, f := range m.From {
		out = append(out, l.Former[f])
	}
	return out
}

// Previous are the disks that held a slot which is moving and that are not lost, the
// latest first.
func (l *Layout) Previous(pg PG, i ShardIndex) []Disk {
	out := slices.DeleteFunc(l.Past(pg, i), func(d Disk) bool { return l.gone[d.ID] })
	slices.Reverse(out)
	return out
}

// Bereft tells whether one who held a moving slot before is lost. Nobody who is left
// can be taken to have all of its shards: the lost one may have been the only one who
// had, when the slot went on to the next before that had everything.
func (l *Layout) Bereft(pg PG, i ShardIndex) bool {
	return slices.ContainsFunc(l.Past(pg, i), func(d Disk) bool { return l.gone[d.ID] })
}

// Forsaken tells whether nothing is looked for on a former disk, which is lost.
func (l *Layout) Forsaken(id DiskID) bool { return l.gone[id] }

// Holders are the disks on which the shards of a slot may lie: its owner, then
// who held it before while it is moving. Nothing of a slot may be taken for left
// over on one of them.
func (l *Layout) Holders(pg PG, i ShardIndex) []Disk {
	return append([]Disk{l.Disk(pg, i)}, l.Previous(pg, i)...)
}

// Left are the disks that held a slot before it moved, in this epoch. They may not
// have let go of everything yet: what is deleted is deleted there too.
func (l *Layout) Left(pg PG, i ShardIndex) []Disk { return l.left[Slot{pg, i}] }

// Holds tells whether the disk is one of the holders of a slot.
func (l *Layout) Holds(disk DiskID, pg PG, i ShardIndex) bool {
	return l.Owns(disk, pg, i) ||
		slices.ContainsFunc(l.Previous(pg, i), func(d Disk) bool { return d.ID == disk })
}

// Find is the disk of that id among owners and former ones.
func (l *Layout) Find(id DiskID) (Disk, bool) {
	for _, list := range [][]Disk{l.Disks, l.Former} {
		if i := slices.IndexFunc(list, func(d Disk) bool { return d.ID == id }); i >= 0 {
			return list[i], true
		}
	}
	return Disk{}, false
}

// Moved is the layout without the slots that are done moving. Former disks that
// no slot needs any more go with them. The epoch stays: no owner changes.
func (l *Layout) Moved(done func(Slot) bool) *Layout {
	if len(l.Moving) == 0 {
		return l
	}
	out := *l
	out.left = maps.Clone(l.left)
	out.Moving = slices.DeleteFunc(slices.Clone(l.Moving), func(m Moving) bool {
		if !done(m.Slot) {
			return false
		}
		if out.left == nil {
			out.left = map[Slot][]Disk{}
		}
		out.left[m.Slot] = l.Previous(m.Slot.PG, m.Slot.Index)
		return true
	})
	if len(out.Moving) == len(l.Moving) {
		return l
	}
	out.trimFormer()
	return &out
}

// Forsake is the layout in which no moving slot looks for anything on a disk that
// is lost. That the disk held the slot is still known (Bereft).
func (l *Layout) Forsake(lost func(Disk) bool) *Layout {
	gone := maps.Clone(l.gone)
	for _, d := range l.Former {
		if !gone[d.ID] && lost(d) {
			if gone == nil {
				gone = map[DiskID]bool{}
			}
			gone[d.ID] = true
		}
	}
	if len(gone) == len(l.gone) {
		return l
	}
	out := *l
	out.gone = gone
	return &out
}

// trimFormer drops former disks that no moving slot names.
func (l *Layout) trimFormer() {
	at := make([]int, len(l.Former))
	var former []Disk
	for i := range at {
		at[i] = -1
	}
	for i, m := range l.Moving {
		from := make([]uint16, len(m.From))
		for j, f := range m.From {
			if at[f] < 0 {
				at[f] = len(former)
				former = append(former, l.Former[f])
			}
			from[j] = uint16(at[f])
		}
		l.Moving[i].From = from
	}
	l.Former = former
}

func (l *Layout) validateMoving() error {
	var errs []error
	if len(l.Former) > 1<<16 {
		errs = append(errs, fmt.Errorf("layout has %d former disks", len(l.Former)))
	}
	for i, m := range l.Moving {
		switch s := m.Slot; {
		case i > 0 && l.Moving[i-1].Slot.Compare(s) >= 0:
			errs = append(errs, fmt.Errorf("moving %s is out of order", s))
		case int(s.PG) >= len(l.Groups) || int(s.Index) >= len(l.Groups[s.PG]):
			errs = append(errs, fmt.Errorf("moving %s: no such slot", s))
		}
		for _, f := range m.From {
			if int(f) >= len(l.Former) {
				errs = append(errs, fmt.Errorf("moving %s: no former disk %d", m.Slot, f))
			}
		}
	}
	return errors.Join(errs...)
}
