package placement

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"

	"bivalve/cluster"
)

// none marks an empty slot.
const none = int32(-1)

// zone is the puzzle of one zone: groups x per slots over its disks.
type zone struct {
	groups, per int
	data        int // of per: systematic, where this zone comes first
	limit       int // slots of a group that one node may hold
	disks       []disk
	nodes       []node
	slots       []int32 // [group*per + slot] -> index into disks, or none
	load, quota []int32 // by disk
	fresh       []bool  // groups that kept nothing: their order is free
}

type disk struct {
	id     cluster.DiskID
	global uint16 // index into the layout's disks
	node   int32
	weight float64
	hash   uint64 // of its id: breaks ties
}

type node struct {
	id     cluster.NodeID
	disks  []int32
	weight float64
	hash   uint64
}

func newZone(l *cluster.Layout, name cluster.Zone, zoneOf map[cluster.NodeID]cluster.Zone, groups int) *zone {
	z := &zone{groups: groups, per: l.Profile.PerZone(), data: int(l.Profile.K)}
	at := make(map[cluster.NodeID]int32)
	for i, d := range l.Disks { // sorted by id, so the order of members does not matter
		if zoneOf[d.Node] != name {
			continue
		}
		n, ok := at[d.Node]
		if !ok {
			n = int32(len(z.nodes))
			at[d.Node] = n
			z.nodes = append(z.nodes, node{id: d.Node, hash: xxh3.HashString(string(d.Node))})
		}
		z.nodes[n].disks = append(z.nodes[n].disks, int32(len(z.disks)))
		z.nodes[n].weight += float64(d.Weight)
		z.disks = append(z.disks, disk{d.ID, uint16(i), n, float64(d.Weight), xxh3.Hash(d.ID[:])})
	}
	z.slots = make([]int32, groups*z.per)
	for i := range z.slots {
		z.slots[i] = none
	}
	z.load, z.quota = make([]int32, len(z.disks)), make([]int32, len(z.disks))
	z.fresh = make([]bool, groups)
	return z
}

func (z *zone) group(pg int) []int32 { return z.slots[pg*z.per : (pg+1)*z.per] }

func (z *zone) solve(before *cluster.Layout, which int) error {
	if len(z.disks) < z.per {
		return fmt.Errorf("%w: %d for %d shards", ErrTooFewDisks, len(z.disks), z.per)
	}
	z.limit = z.nodeLimit()
	z.keep(before, which)
	z.fill()
	z.balance()
	z.shareDuty(which)
	return nil
}

// nodeLimit is 1 while there are enough nodes, else the least that fits.
func (z *zone) nodeLimit() int {
	for limit := 1; ; limit++ {
		room := 0
		for _, n := range z.nodes {
			room += min(limit, len(n.disks))
		}
		if room >= z.per {
			return limit
		}
	}
}

// keep takes over what the layout before had, as far as the rules allow, and
// sets the quotas. Slots are matched by their place in the zone, which is the
// shard's index there.
func (z *zone) keep(before *cluster.Layout, which int) {
	old := z.former(before, which)
	for _, d := range old { // quotas lean towards what is held
		if d != none {
			z.load[d]++
		}
	}
	z.setQuotas()
	clear(z.load)
	var clash []int
	for pg := range z.groups {
		z.fresh[pg] = true
		for s := range z.per {
			if d := old[pg*z.per+s]; d != none {
				z.fresh[pg] = false
				if z.allowed(pg, d, none, z.limit) {
					z.put(pg, s, d)
				}
			}
		}
		if !slices.Equal(z.group(pg), old[pg*z.per:(pg+1)*z.per]) {
			clash = append(clash, pg)
		}
	}
	// Where the rules have become stricter some must go: those that are too full
	// already, so that nothing has to move for the balance afterwards.
	for _, pg := range clash {
		for s := range z.per {
			z.clear(pg, s)
		}
		want := old[pg*z.per : (pg+1)*z.per]
		order := make([]int, z.per)
		for s := range order {
			order[s] = s
		}
		part := func(s int) float64 {
			if want[s] == none {
				return 0
			}
			return float64(z.load[want[s]]) / float64(max(1, z.quota[want[s]]))
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(part(a), part(b)) })
		for _, s := range order {
			if d := want[s]; d != none && z.allowed(pg, d, none, z.limit) {
				z.put(pg, s, d)
			}
		}
	}
}

// former is the slots of the layout before, as indices into this zone's disks.
func (z *zone) former(before *cluster.Layout, which int) []int32 {
	old := make([]int32, len(z.slots))
	for i := range old {
		old[i] = none
	}
	if before == nil {
		return old
	}
	here := make(map[cluster.DiskID]int32, len(z.disks))
	for i, d := range z.disks {
		here[d.id] = int32(i)
	}
	byIndex := make([]int32, len(before.Disks))
	for i, d := range before.Disks {
		byIndex[i] = none
		if at, ok := here[d.ID]; ok {
			byIndex[i] = at
		}
	}
	per := before.Profile.PerZone()
	for pg := range z.groups {
		half := before.Groups[pg][zoneOffset(pg, which, per):]
		for s := range min(z.per, per) {
			old[pg*z.per+s] = byIndex[half[s]]
		}
	}
	return old
}

// allowed tells whether the group may take the disk once it has given up the
// slot except (none: no slot), with at most limit slots on a node.
func (z *zone) allowed(pg int, d, except int32, limit int) bool {
	same := 0
	for s, other := range z.group(pg) {
		if other == none || int32(s) == except {
			continue
		}
		if other == d {
			return false
		}
		if z.disks[other].node == z.disks[d].node {
			same++
		}
	}
	return same < limit
}

func (z *zone) put(pg, slot int, d int32) {
	z.clear(pg, slot)
	z.slots[pg*z.per+slot] = d
	z.load[d]++
}

func (z *zone) clear(pg, slot int) {
	if at := &z.slots[pg*z.per+slot]; *at != none {
		z.load[*at]--
		*at = none
	}
}

// fill gives every empty slot a disk: of those that the group may take the one
// that lacks most, and if none lacks any, the least full; balance mends that.
func (z *zone) fill() {
	q := newLacking(z)
	for pg := range z.groups {
		for s, d := range z.group(pg) {
			if d != none {
				continue
			}
			best := none
			for limit := 1; limit <= z.limit && best == none; limit++ {
				best = q.take(pg, none, limit) // a second slot on a node only if need be
			}
			if best == none {
				best = z.leastFull(pg)
			}
			z.put(pg, s, best)
			q.push(best)
		}
	}
}

// leastFull always finds one: nodeLimit made room for a whole group. What was
// kept obeys the same limit, so it cannot be in the way.
func (z *zone) leastFull(pg int) int32 {
	best := none
	over := func(d int32) int32 { return z.load[d] - z.quota[d] }
	for d := range z.disks {
		d := int32(d)
		if z.allowed(pg, d, none, z.limit) && (best == none || over(d) < over(best)) {
			best = d
		}
	}
	return best
}

// shareDuty orders the groups in which nothing was kept, so that each disk holds
// systematic shards in proportion to all it holds. Elsewhere the order stays:
// another index is other bytes.
func (z *zone) shareDuty(which int) {
	done := make([]float64, len(z.disks)) // systematic shards, over the disk's quota
	for pg := range z.groups {
		if !z.fresh[pg] || pg%2 != which { // the other zone holds the systematic shards
			continue
		}
		g := z.group(pg)
		slices.SortFunc(g, func(a, b int32) int {
			return cmp.Or(cmp.Compare(done[a], done[b]),
				cmp.Compare(mix(z.disks[a].hash, uint64(pg)), mix(z.disks[b].hash, uint64(pg))))
		})
		for _, d := range g[:z.data] {
			done[d] += 1 / float64(max(1, z.quota[d]))
		}
	}
}

// mix hashes two numbers into one: the tie-break of everything here.
func mix(a, b uint64) uint64 {
	var buf [16]byte
	binary.LittleEndian.PutUint64(buf[:], a)
	binary.LittleEndian.PutUint64(buf[8:], b)
	return xxh3.Hash(buf[:])
}
