package placement

import (
	"cmp"
	"math"
	"slices"
)

// setQuotas shares the zone's slots out by weight: first among nodes, for a node
// may hold no more than limit slots of each group, then among a node's disks,
// which may hold one of each. What a heavy one may not take goes to the others.
// Whole numbers fall so that what is held already is kept, as far as possible.
func (z *zone) setQuotas() {
	n := len(z.nodes)
	weights, caps, held, hash := make([]float64, n), make([]int, n), make([]int, n), make([]uint64, n)
	for i, nd := range z.nodes {
		weights[i], hash[i] = nd.weight, nd.hash
		caps[i] = z.groups * min(z.limit, len(nd.disks))
		for _, d := range nd.disks {
			held[i] += int(z.load[d])
		}
	}
	nodeQuota := share(z.groups*z.per, weights, caps, held, hash)
	for i, nd := range z.nodes {
		n := len(nd.disks)
		weights, caps, held, hash := make([]float64, n), make([]int, n), make([]int, n), make([]uint64, n)
		for j, d := range nd.disks {
			weights[j], caps[j], held[j], hash[j] = z.disks[d].weight, z.groups, int(z.load[d]), z.disks[d].hash
		}
		for j, q := range share(nodeQuota[i], weights, caps, held, hash) {
			z.quota[nd.disks[j]] = int32(q)
		}
	}
}

// share splits total in proportion to the weights, none above its cap; the caps
// make up at least total. Each gets its exact share rounded down or up. Up goes
// first to those that hold as much already, then by the fraction lost.
func share(total int, weights []float64, caps, held []int, hash []uint64) []int {
	exact := fillUp(total, weights, caps)
	got := make([]int, len(weights))
	var up []int
	rest := total
	for i, x := range exact {
		got[i] = min(int(math.Floor(x+1e-6)), caps[i])
		rest -= got[i]
		if got[i] < caps[i] {
			up = append(up, i)
		}
	}
	lost := func(i int) float64 { return exact[i] - float64(got[i]) }
	rank := func(i int) int {
		switch {
		case lost(i) < 1e-6:
			return 2 // has its share exactly
		case held[i] > got[i]:
			return 0
		}
		return 1
	}
	slices.SortFunc(up, func(a, b int) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(lost(b), lost(a)), cmp.Compare(hash[a], hash[b]))
	})
	for _, i := range up[:min(max(rest, 0), len(up))] {
		got[i]++
	}
	return got
}

// fillUp gives exact shares: those above their cap get the cap, and the others
// share what is left, until none is above.
func fillUp(total int, weights []float64, caps []int) []float64 {
	exact := make([]float64, len(weights))
	full := make([]bool, len(weights))
	left := float64(total)
	for {
		sum := 0.0
		for i, w := range weights {
			if !full[i] {
				sum += w
			}
		}
		again := false
		rate := left / max(sum, 1e-300)
		for i, w := range weights {
			if full[i] {
				continue
			}
			if exact[i] = w * rate; exact[i] > float64(caps[i]) {
				exact[i], full[i], again = float64(caps[i]), true, true
				left -= exact[i]
			}
		}
		if !again {
			return exact
		}
	}
}
