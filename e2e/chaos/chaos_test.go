//go:build e2e

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	chaosTime   = flag.Duration("chaos.time", 3*time.Minute, "how long faults are injected")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "seed of the schedule and of the clients; 0 draws one")
	chaosFaults = flag.String("chaos.faults", "", "only these faults, by name, with commas")
	chaosTags   = flag.String("chaos.tags", "", "build tags of the program under test, such as those that leave a check out")
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	if err := withOwnMounts(); err != nil {
		fmt.Fprintln(os.Stderr, "file systems are mounted for all to see:", err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := clearLeftovers(); err != nil {
		fmt.Fprintln(os.Stderr, "what an earlier round has left stays:", err)
	}
	dir, err := tempDir("bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "bivalve")
	build := exec.Command("go", "build", "-tags", *chaosTags, "-o", binary, "../../cmd/bivalve")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	// The limit of go test cannot follow the length of a round.
	defer time.AfterFunc(*chaosTime+watchdog, func() {
		debug.SetTraceback("all")
		panic("the tests hang")
	}).Stop()
	return m.Run()
}

// watchdog is how long all that is not the injection of faults may take.
const watchdog = 20 * time.Minute

// needNetworks skips a test on a machine that cannot do what all of them need.
func needNetworks(t *testing.T) {
	t.Helper()
	var errs []error
	for _, name := range []string{"ip", "nft"} {
		_, err := exec.LookPath(name)
		errs = append(errs, err)
	}
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("not root"))
	}
	err := errors.Join(errs...)
	if err == nil {
		var n *network
		if n, err = newNetwork(); err == nil {
			err = n.close()
		}
	}
	switch {
	case err != nil && os.Getenv("BIVALVE_E2E_STRICT") == "1":
		t.Fatalf("no network namespaces: %v", err)
	case err != nil:
		t.Skipf("no network namespaces: %v", err)
	}
}

// TestChaos is one round: clients at work in both zones, faults after a seeded
// plan, and then the reckoning.
func TestChaos(t *testing.T) {
	needNetworks(t)
	small := canMount()
	if small != nil {
		t.Logf("no small disks: %v", small)
	}
	table := chosen(t)
	x := begin(t, shape{small: small == nil}, usualCrowd)
	t.Logf("seed %d; replay with: make chaos CHAOS_TIME=%s CHAOS_SEED=%d CHAOS_FAULTS=%s CHAOS_TAGS=%s", x.seed, *chaosTime, x.seed, *chaosFaults, *chaosTags)
	x.table = table
	x.inject(Plan(x.seed, *chaosTime, kindred(table)))
	x.settle()
	x.floor()
	x.reckon()
}

// chosen is the table, or the part of it that was asked for.
func chosen(t *testing.T) []fault {
	if *chaosFaults == "" {
		return faults()
	}
	var out []fault
	for _, name := range strings.Split(*chaosFaults, ",") {
		i := slices.IndexFunc(faults(), func(f fault) bool { return f.name == name })
		if i < 0 {
			t.Fatalf("no fault %q", name)
		}
		out = append(out, faults()[i])
	}
	return out
}

// round is clients at work in both zones of a region of their own, what is done to
// it, and the reckoning.
type round struct {
	*crowd
	t     *testing.T
	r     *region
	seed  uint64
	stop  func() // the clients
	table []fault
	ran   map[string]int
	log   []string
	usage map[string]usage
}

// begin starts a region and its clients, and waits until all of them have something
// to show.
func begin(t *testing.T, s shape, size crowdSize) *round {
	t.Helper()
	r := startRegion(t, s)
	x := &round{crowd: newCrowd(r), t: t, r: r, seed: *chaosSeed, ran: map[string]int{}}
	if x.seed == 0 {
		x.seed = rand.Uint64()
	}
	for _, bucket := range []string{registerBucket, ledgerBucket} {
		a := r.client("a").do(t.Context(), r.node("a1"), request{method: http.MethodPut, path: "/" + bucket})
		if a.Outcome != Done {
			t.Fatalf("create bucket %s: %s", bucket, a)
		}
	}
	x.stop = x.work(x.seed, size)
	t.Cleanup(x.stop)
	x.warm()
	return x
}

func (x *round) say(format string, args ...any) {
	x.log = append(x.log, fmt.Sprintf("%9.3f ", x.now().Seconds())+fmt.Sprintf(format, args...))
}

// warm waits until every client has something to show, and takes the measure of
// the processes.
func (x *round) warm() {
	ctx, cancel := context.WithTimeout(x.t.Context(), 30*time.Second)
	defer cancel()
	err := until(ctx, 100*time.Millisecond, func() error {
		if put, _, _ := x.ledger.Count(); put < 20 {
			return fmt.Errorf("%d puts", put)
		}
		return nil
	})
	if err != nil {
		x.t.Fatalf("clients do not get going: %v\n%s", err, x.report())
	}
	if x.usage, err = x.r.usage(ctx); err != nil {
		x.t.Fatal(err)
	}
}

// inject runs the plan, one fault after the other.
func (x *round) inject(plan []Step) {
	for _, s := range plan {
		if x.t.Context().Err() != nil {
			return
		}
		i := slices.IndexFunc(x.table, func(f fault) bool { return f.name == s.Fault })
		x.step(s, x.table[i])
		sleep(x.t.Context(), s.Rest)
	}
}

func (x *round) step(s Step, f fault) {
	if f.needs != nil {
		if err := f.needs(x.r); err != nil {
			x.say("%2d %s SKIPPED: %v", s.N, f.name, err)
			return
		}
	}
	ctx, cancel := context.WithTimeout(x.t.Context(), s.Length+2*time.Minute)
	defer cancel()
	turn := &turn{region: x.r, crowd: x.crowd, ctx: ctx, rng: s.Rand(), length: s.Length}
	begun := x.now()
	undo, err := f.begin(turn)
	x.say("%2d %s %s, for %s", s.N, f.name, turn.target, s.Length)
	switch {
	case errors.Is(err, errNotNow):
		x.say("%2d %s put off: %v", s.N, f.name, err)
		return
	case err != nil:
		x.t.Errorf("fault %d %s: %v", s.N, f.name, err)
	default:
		x.ran[f.name]++
	}
	if undo == nil {
		x.say("%2d %s over after %.1f s", s.N, f.name, (x.now() - begun).Seconds())
		return
	}
	sleep(ctx, s.Length)
	if err := undo(); err != nil {
		x.t.Errorf("undo of fault %d %s: %v", s.N, f.name, err)
	}
	x.say("%2d %s undone", s.N, f.name)
}

// wholeWithin is how long the region may take to be whole once all faults are over.
const wholeWithin = 3 * time.Minute

// settle ends the faults and the clients, in this order: work goes on while the
// region becomes whole.
func (x *round) settle() {
	for _, n := range x.r.nodes {
		if err := errors.Join(n.resume(), n.start()); err != nil {
			x.t.Error(err)
		}
	}
	if x.ran["corrupt-disk"]+x.ran["rot-and-wipe"] > 0 {
		if err := x.r.scrubbed(); err != nil {
			x.t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(x.t.Context(), wholeWithin)
	defer cancel()
	begun := x.now()
	if err := x.r.healthy(ctx); err != nil {
		x.t.Errorf("the region is not whole %s after the last fault: %v", wholeWithin, err)
	}
	x.say("whole after %.1f s", (x.now() - begun).Seconds())
	if err := until(ctx, 250*time.Millisecond, x.protected); err != nil {
		x.t.Errorf("objects lack shards %s after the last fault: %v", wholeWithin, err)
	}
	x.say("every object has all its shards after %.1f s", (x.now() - begun).Seconds())
	sleep(ctx, 2*time.Second)
	x.stop()
	x.crowd.end()
	x.say("clients stopped")
}

// tangledAtMost is how much of the histories may be beyond judging, as a fraction.
const tangledAtMost = 0.1

// reckon holds what clients saw against the promises, and tells.
func (x *round) reckon() {
	t := x.t
	x.readBack()
	x.census()
	v := x.history.Check(20 * time.Second)
	for _, key := range v.Broken {
		x.broken("no order of events fits what clients saw of\n%s", x.history.Text(key))
	}
	if len(v.Tangled) > int(tangledAtMost*float64(v.Keys)) {
		t.Errorf("%d of %d histories are too tangled to be judged", len(v.Tangled), v.Keys)
	}
	x.say("judged the histories of %d keys, %d of them too tangled", v.Keys, len(v.Tangled))
	for i, text := range x.wrong {
		if i == 20 {
			t.Errorf("and %d more", len(x.wrong)-i)
			break
		}
		t.Errorf("BROKEN at %s", text)
	}
	for _, zone := range []string{"a", "b"} {
		told := x.told[zone]
		if told.reads[Done] < 20 || told.writes[Done] < 20 {
			t.Errorf("clients in %s got next to nothing done: %v %v", zone, told.reads, told.writes)
		}
	}
	x.bounded()
	x.end()
	for _, text := range x.r.crashes() {
		t.Errorf("CRASH: %s", text)
	}
	if t.Failed() {
		t.Logf("FAILED with seed %d", x.seed)
	}
	t.Logf("what was done:\n%s", strings.Join(x.log, "\n"))
	t.Log(x.report())
}

// census compares every record with every disk and with the counters, when nobody
// writes: all must agree. A reader may just have found something that is being healed.
func (x *round) census() {
	said, err := x.r.orderSays(movedWithin, "census")
	if err != nil {
		x.t.Errorf("the census does not agree: %v", err)
	}
	for line := range strings.Lines(said) {
		x.say("census: %s", strings.TrimPrefix(strings.TrimSpace(line), "census: "))
	}
}

// floor makes sure that the round was one.
func (x *round) floor() {
	able := 0
	for _, f := range x.table {
		if f.needs == nil || f.needs(x.r) == nil {
			able++
		}
	}
	ran := 0
	for _, n := range x.ran {
		ran += n
	}
	// A fault takes some ten seconds with its rest; twice that is allowed for.
	want := min(len(x.table)*3/4, int(*chaosTime/(20*time.Second)))
	if able < len(x.table)*3/4 || ran < want {
		x.t.Errorf("%d faults ran, of %d sorts; %d of %d sorts can run here: want at least %d", ran, len(x.ran), able, len(x.table), want)
	}
}

// end stops every process in order.
func (x *round) end() {
	done := make(chan error, len(x.r.nodes))
	for _, n := range x.r.nodes {
		go func() { done <- n.drain() }()
	}
	for range x.r.nodes {
		if err := <-done; err != nil {
			x.t.Error(err)
		}
	}
}
