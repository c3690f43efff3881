package placement

import (
	"cmp"
	"slices"
)

// lacking is a queue of the disks below their quota, those first that have the
// smallest part of theirs. Ties break by a hash that changes with the load, so
// that each round over the disks goes in another order and the groups of a disk
// share as few other disks as chance allows: many then help to rebuild it.
type lacking struct {
	z     *zone
	items []lackItem
	in    []bool // by disk: is in items
}

type lackItem struct {
	disk int32
	part float64 // load / quota when pushed
	tie  uint64
}

func newLacking(z *zone) *lacking {
	q := &lacking{z: z, in: make([]bool, len(z.disks))}
	for d := range z.disks {
		q.push(int32(d))
	}
	return q
}

// before is the order of the queue; it is total, since ties differ.
func (x lackItem) before(y lackItem) bool {
	return x.part < y.part || x.part == y.part && x.tie < y.tie
}

// items is a binary heap. container/heap would box each item and call for each
// comparison: half the time of a large region's layout.

// up moves item i towards the top until its parent is before it.
func (q *lacking) up(i int) {
	x := q.items[i]
	for i > 0 && x.before(q.items[(i-1)/2]) {
		q.items[i] = q.items[(i-1)/2]
		i = (i - 1) / 2
	}
	q.items[i] = x
}

// down moves item i away from the top until it is before both below it.
func (q *lacking) down(i int) {
	x, n := q.items[i], len(q.items)
	for {
		c := 2*i + 1
		if c+1 < n && q.items[c+1].before(q.items[c]) {
			c++
		}
		if c >= n || !q.items[c].before(x) {
			break
		}
		q.items[i] = q.items[c]
		i = c
	}
	q.items[i] = x
}

func (q *lacking) add(x lackItem) {
	q.items = append(q.items, x)
	q.up(len(q.items) - 1)
}

// remove takes item i out.
func (q *lacking) remove(i int) lackItem {
	x, last := q.items[i], len(q.items)-1
	q.items[i] = q.items[last]
	if q.items = q.items[:last]; i < last {
		q.down(i)
		q.up(i)
	}
	return x
}

// push puts a disk in if it lacks anything.
func (q *lacking) push(d int32) {
	load, quota := q.z.load[d], q.z.quota[d]
	if load < quota && !q.in[d] {
		q.in[d] = true
		q.add(lackItem{d, float64(load) / float64(quota), mix(q.z.disks[d].hash, uint64(load))})
	}
}

// takeTries bounds how many disks of the queue are looked at in order; past
// them any will do.
const takeTries = 32

// take removes the first disk that the group may have instead of the slot
// except, or returns none. The caller puts it to use and pushes it again.
func (q *lacking) take(pg int, except int32, limit int) int32 {
	var skipped []lackItem
	found := none
	for range takeTries {
		if len(q.items) == 0 {
			break
		}
		x := q.remove(0)
		if q.z.load[x.disk] >= q.z.quota[x.disk] {
			q.in[x.disk] = false // was filled since
			continue
		}
		if q.z.allowed(pg, x.disk, except, limit) {
			found = x.disk
			break
		}
		skipped = append(skipped, x)
	}
	if found == none {
		for i, x := range q.items {
			if q.z.load[x.disk] < q.z.quota[x.disk] && q.z.allowed(pg, x.disk, except, limit) {
				found = x.disk
				q.remove(i)
				break
			}
		}
	}
	for _, x := range skipped {
		q.add(x)
	}
	if found != none {
		q.in[found] = false
	}
	return found
}

// balance moves slots from disks above their quota to disks below. First at most
// one slot of a group moves, to keep the others of it where they are; then any;
// what is left goes by way of others.
func (z *zone) balance() {
	over := z.over()
	if len(over) == 0 {
		return
	}
	on := z.groupsOf(over)
	q := newLacking(z)
	moved := make([]bool, z.groups)
	for _, again := range []bool{false, true} {
		for _, x := range over {
			for _, pg := range on[x] {
				if z.load[x] <= z.quota[x] {
					break
				}
				s := z.slotOf(int(pg), x)
				if s == none || (moved[pg] && !again) {
					continue
				}
				if d := q.take(int(pg), s, z.limit); d != none {
					z.put(int(pg), int(s), d)
					q.push(d)
					moved[pg] = true
				}
			}
		}
	}
	if over = z.over(); len(over) > 0 {
		z.balanceByChain(over)
	}
}

func (z *zone) over() []int32 {
	var over []int32
	for d := range z.disks {
		if z.load[d] > z.quota[d] {
			over = append(over, int32(d))
		}
	}
	slices.SortFunc(over, func(a, b int32) int { return cmp.Compare(z.disks[a].hash, z.disks[b].hash) })
	return over
}

// groupsOf lists the groups of the given disks, each in an order of its own.
func (z *zone) groupsOf(disks []int32) map[int32][]int32 {
	on := make(map[int32][]int32, len(disks))
	for _, d := range disks {
		on[d] = make([]int32, 0, z.load[d])
	}
	for i, d := range z.slots {
		if l, ok := on[d]; ok {
			on[d] = append(l, int32(i/z.per))
		}
	}
	for d, l := range on {
		h := z.disks[d].hash
		type ranked struct {
			pg  int32
			tie uint64
		}
		r := make([]ranked, len(l))
		for i, pg := range l {
			r[i] = ranked{pg, mix(h, uint64(pg))}
		}
		slices.SortFunc(r, func(a, b ranked) int { return cmp.Compare(a.tie, b.tie) })
		for i := range r {
			l[i] = r[i].pg
		}
	}
	return on
}

func (z *zone) slotOf(pg int, d int32) int32 {
	return int32(slices.Index(z.group(pg), d))
}

// chainTries bounds the search for chains; past it a slot too many stays.
const chainTries = 8 << 20

// balanceByChain handles the rest: no group of the overfull disk x may take a
// lacking disk d. A third disk takes a slot of x, a fourth one of the third, and
// so on until d: the shortest such chain.
func (z *zone) balanceByChain(over []int32) {
	all := make([]int32, len(z.disks))
	for d := range all {
		all[d] = int32(d)
	}
	on := z.groupsOf(all)
	tries := chainTries
	for _, x := range over {
		for z.load[x] > z.quota[x] && z.chain(x, on, &tries) {
		}
	}
}

// chain moves one slot off x; false if there is no way, or no more tries.
func (z *zone) chain(x int32, on map[int32][]int32, tries *int) bool {
	from, via := make([]int32, len(z.disks)), make([]int32, len(z.disks))
	for d := range from {
		from[d] = none
	}
	from[x] = x
	for queue := []int32{x}; len(queue) > 0; queue = queue[1:] {
		u := queue[0]
		for _, pg := range on[u] {
			s := z.slotOf(int(pg), u)
			if s == none {
				continue // moved away since on was made
			}
			for v := range from {
				if from[v] != none {
					continue
				}
				if *tries--; *tries < 0 {
					return false
				}
				if !z.allowed(int(pg), int32(v), s, z.limit) {
					continue
				}
				from[v], via[v] = u, pg
				if z.load[v] < z.quota[v] {
					return z.follow(x, int32(v), from, via, on)
				}
				queue = append(queue, int32(v))
			}
		}
	}
	return false
}

// follow makes the moves of a chain from its end. A group that occurs twice in
// it may forbid the second move; the chain then ends there, which leaves the
// lack with another disk and no rule broken.
func (z *zone) follow(x, d int32, from, via []int32, on map[int32][]int32) bool {
	for d != x {
		u, pg := from[d], via[d]
		s := z.slotOf(int(pg), u)
		if s == none || !z.allowed(int(pg), d, s, z.limit) {
			return false
		}
		z.put(int(pg), int(s), d)
		on[d] = append(on[d], pg)
		d = u
	}
	return true
}
