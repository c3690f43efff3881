package chaos

import (
	"math/rand/v2"
	"time"
)

// Kindred is what a plan knows of a fault: its name and how long it lasts.
type Kindred struct {
	Name              string
	Shortest, Longest time.Duration
}

// Step is one fault of a plan. Its seed decides its targets.
type Step struct {
	N      int
	Fault  string
	Seed   uint64
	Length time.Duration
	Rest   time.Duration // after it was undone
}

// Rand is the source of the step's own choices.
func (s Step) Rand() *rand.Rand { return rand.New(rand.NewPCG(s.Seed, 0xfa017)) }

// rests between faults are drawn from this range.
const shortRest, longRest = time.Second, 5 * time.Second

// Plan draws faults until they fill the time. They are dealt like cards, so that
// each one comes before any comes again. What the machine cannot do is left out
// when the plan is run, not here: the same seed gives the same plan everywhere.
func Plan(seed uint64, total time.Duration, faults []Kindred) []Step {
	rng := rand.New(rand.NewPCG(seed, 0x91a4))
	var out []Step
	var deck []int
	for spent := time.Duration(0); spent < total && len(faults) > 0; {
		if len(deck) == 0 {
			deck = rng.Perm(len(faults))
		}
		f := faults[deck[0]]
		deck = deck[1:]
		s := Step{N: len(out) + 1, Fault: f.Name, Seed: rng.Uint64(), Length: between(rng, f.Shortest, f.Longest), Rest: between(rng, shortRest, longRest)}
		out = append(out, s)
		spent += s.Length + s.Rest
	}
	return out
}

func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)+1)).Round(10*time.Millisecond)
}
