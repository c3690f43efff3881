package object

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/transport"
	"bivalve/erasure"
	"bivalve/metadata"
)

// fakeRelays is the way to the relays of zone b: one store for each of its nodes,
// over the same disks.
type fakeRelays struct {
	region *fakeRegion
	stores map[cluster.NodeID]*Store
	frees  sync.WaitGroup // chunks whose memory relays still use

	mu    sync.Mutex
	hook  func(ctx context.Context, to cluster.NodeID, c *cluster.Chunk) (apply bool, err error)
	calls []cluster.NodeID
	bytes int
}

func (f *fakeRelays) Relay(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, c *cluster.Chunk) ([]error, error) {
	f.mu.Lock()
	f.calls = append(f.calls, to)
	f.bytes += len(c.Data) * c.ShardBytes()
	hook := f.hook
	f.mu.Unlock()
	if !f.region.reachable(to) {
		return nil, fmt.Errorf("%w: %s", cluster.ErrUnreachable, to)
	}
	if hook != nil {
		if apply, err := hook(ctx, to, c); !apply {
			return nil, err
		} else if err != nil {
			f.apply(ctx, to, epoch, c)
			return nil, err // done, but reported failed
		}
	}
	return f.apply(ctx, to, epoch, c), nil
}

func (f *fakeRelays) apply(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, c *cluster.Chunk) []error {
	mine := *c // a copy, as if it had crossed the wire; spoiled when it is given back
	mine.Data = nil
	for _, d := range c.Data {
		mine.Data = append(mine.Data, slices.Clone(d))
	}
	f.frees.Add(1)
	return f.stores[to].Relay(ctx, epoch, mine, func() {
		for _, d := range mine.Data {
			scribble(d)
		}
		f.frees.Done()
	})
}

func (f *fakeRelays) setHook(h func(context.Context, cluster.NodeID, *cluster.Chunk) (bool, error)) {
	f.mu.Lock()
	f.hook, f.calls, f.bytes = h, nil, 0
	f.mu.Unlock()
}

// relayRig is a rig whose store, in zone a, uses the relays of zone b.
func relayRig(t *testing.T, geo erasure.Geometry, options ...rigOption) (*rig, *fakeRelays) {
	t.Helper()
	f := &fakeRelays{stores: map[cluster.NodeID]*Store{}}
	r := newRig(t, geo, append(options, with(func(c *Config) { c.Relays = f }))...)
	f.region = r.region
	for n, z := range r.region.zoneOf {
		if z != zoneB {
			continue
		}
		cfg := r.cfg
		cfg.Zone, cfg.Relays, cfg.Registry = zoneB, nil, nil
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		f.stores[n] = s
	}
	t.Cleanup(f.frees.Wait)
	return r, f
}

// crossed counts the shards that went from the store to zone b one by one.
func (r *rig) crossed() (n int) {
	for _, c := range r.shards.callsOf(opAppend) {
		if r.region.zoneOf[c.node] == zoneB {
			n++
		}
	}
	return n
}

// whole checks that every shard of the version is stored and that each zone alone
// gives the bytes back.
func (r *rig) whole(v metadata.Version, data []byte) {
	r.t.Helper()
	for _, n := range v.Parts[0].Blob.Notes {
		if n.Missing != 0 {
			r.t.Errorf("chunk %d lacks %b", n.Chunk, n.Missing)
		}
	}
	for _, z := range []cluster.Zone{zoneA, zoneB} {
		r.region.killZone(z, true)
		r.check(v, data, 0, v.Bytes)
		r.region.killZone(z, false)
	}
}

// TestRelay: the chunk crosses once, whichever half the other zone owns, and every
// shard is what direct sends would have made it.
func TestRelay(t *testing.T) {
	for _, geo := range []erasure.Geometry{{K: 2, M: 1}, {K: 1, M: 1}, {K: 4, M: 1}, {K: 8, M: 2}} {
		t.Run(fmt.Sprintf("%d+%d", geo.K, geo.M), func(t *testing.T) {
			r, f := relayRig(t, geo)
			for seed, size := range []int{20_000, chunk, 5*chunk + 12345} {
				f.setHook(nil)
				data := pattern(size, uint64(seed))
				r.whole(r.mustPut("k", data), data)
				if most := size + 8*geo.K*6; f.bytes > most || f.bytes < size {
					t.Errorf("%d bytes went to relays for %d of the client's", f.bytes, size)
				}
			}
			seen := map[cluster.NodeID]bool{}
			f.setHook(nil)
			for i := range 40 {
				r.mustPut(fmt.Sprint(i), pattern(20_000, 1))
			}
			for _, n := range f.calls {
				seen[n] = true
			}
			if len(seen) <= geo.PerZone()/2 { // which ones is left to chance
				t.Errorf("of %d nodes only %v relayed", geo.PerZone(), seen)
			}
		})
	}
	// Without parity of its own the other zone gets k shards, which is the chunk.
	r, f := relayRig(t, erasure.Geometry{K: 2})
	r.mustPut("k", pattern(chunk, 1))
	if len(f.calls) != 0 || r.crossed() != 2 {
		t.Errorf("relayed %v, sent %d directly", f.calls, r.crossed())
	}
}

// TestRelayFaults: whatever becomes of a relay, the write has what direct sends
// would have given it, soon, and nothing wrong is stored.
func TestRelayFaults(t *testing.T) {
	geo := erasure.Geometry{K: 2, M: 1}
	for name, c := range map[string]struct {
		hook  func(context.Context, cluster.NodeID, *cluster.Chunk) (bool, error)
		most  time.Duration
		rests bool // the relay is left alone afterwards
	}{
		"cannot be reached": {func(context.Context, cluster.NodeID, *cluster.Chunk) (bool, error) {
			return false, cluster.ErrUnreachable
		}, 0, true},
		"no room": {func(context.Context, cluster.NodeID, *cluster.Chunk) (bool, error) {
			return false, cluster.ErrOverloaded
		}, 0, true},
		"an older node": {func(context.Context, cluster.NodeID, *cluster.Chunk) (bool, error) {
			return false, transport.ErrNoHandler
		}, 0, true},
		"damaged on the way": {func(context.Context, cluster.NodeID, *cluster.Chunk) (bool, error) { return false, transport.ErrFrame }, 0, true},
		"dies after it stored all": {func(context.Context, cluster.NodeID, *cluster.Chunk) (bool, error) {
			return true, cluster.ErrUnreachable
		}, 0, true},
		"never answers": {func(ctx context.Context, _ cluster.NodeID, _ *cluster.Chunk) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		}, relayGiveUp, true},
		"answers after the fallback": {func(context.Context, cluster.NodeID, *cluster.Chunk) (bool, error) {
			time.Sleep(relayGiveUp + time.Second)
			return true, nil
		}, relayGiveUp, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, f := relayRig(t, geo)
				f.setHook(c.hook)
				data := pattern(chunk, 3)
				began := time.Now()
				v := r.mustPut("k", data)
				if took := time.Since(began); took > c.most {
					t.Errorf("took %v", took)
				}
				if len(f.calls) != 1 || r.crossed() < geo.PerZone() {
					t.Errorf("relayed by %v, sent %d shards directly", f.calls, r.crossed())
				}
				if to := f.calls[0]; c.rests && !r.relays.resting(to, time.Now()) {
					t.Error("the relay is asked again at once")
				}
				time.Sleep(2 * restFailed)
				f.setHook(nil)
				r.whole(v, data)
				time.Sleep(restUnknown)
				before := r.crossed()
				if r.mustPut("next", data); len(f.calls) != 1 || r.crossed() != before+geo.PerZone() { // those of the relay itself
					t.Errorf("afterwards relayed by %v, %d shards", f.calls, r.crossed()-before)
				}
			})
		})
	}
}

// TestRelayPartly: the relay says of each shard what became of it, and the quorum
// counts that and nothing else.
func TestRelayPartly(t *testing.T) {
	geo := erasure.Geometry{K: 2, M: 1}
	lost := func(r *rig, errs ...error) { // the nodes of zone b, in order, answer so
		r.shards.setHook(func(_ context.Context, c call) (bool, error) {
			for i, err := range errs {
				if c.op == opAppend && err != nil && c.node == cluster.NodeID(fmt.Sprint("b", i)) {
					return false, err
				}
			}
			return true, nil
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r, _ := relayRig(t, geo)
		lost(r, cluster.ErrDiskFailed)
		v := r.mustPut("k", pattern(chunk, 1))
		if n := v.Parts[0].Blob.Notes; len(n) != 1 || erasure.ShardSet(n[0].Missing).Len() != 1 {
			t.Errorf("one disk refuses: %+v", n)
		}
	})
	synctest.Test(t, func(t *testing.T) { // two of three refuse: zone b could not rebuild it
		r, _ := relayRig(t, geo)
		lost(r, cluster.ErrDiskFailed, cluster.ErrDiskFull)
		if _, err := r.put("k", pattern(chunk, 1)); !errors.Is(err, ErrNoQuorum) || !errors.Is(err, cluster.ErrDiskFailed) {
			t.Errorf("two disks refuse: %v", err)
		}
		r.absent("k", 0)
	})
}

// TestRelayLeavesLaggard: one disk of the relay's zone that lags holds up neither
// the relay nor the write, and its shard is not sent a second time.
func TestRelayLeavesLaggard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		geo := erasure.Geometry{K: 2, M: 1}
		r, f := relayRig(t, geo)
		slow := func(lag time.Duration) {
			r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
				d := 5 * time.Millisecond
				if c.node == "b1" && c.op == opAppend {
					d += lag
				}
				return late(ctx, d)
			})
		}
		slow(0)
		for i := range 150 { // so that each of three relays, which chance picks, knows what is usual
			r.mustPut(fmt.Sprint("warm", i), pattern(20_000, 1))
		}
		slow(2 * time.Second)
		f.setHook(nil)
		began := time.Now()
		r.mustPut("first", pattern(chunk, 1))
		if took := time.Since(began); took < stragglerFloor || took > 2*stragglerFloor {
			t.Errorf("the first that is late: took %v", took)
		}
		for _, relay := range f.stores { // now all know it for that
			for range windowLeast {
				relay.writes.observe(cluster.DiskID{'b', 2, 0}, time.Now(), 2*time.Second) // of node b1
			}
		}
		time.Sleep(2*time.Second + windowAge/12) // the pace is judged anew
		slow(2 * time.Second)
		began = time.Now()
		v := r.mustPut("k", pattern(chunk, 1))
		if took := time.Since(began); took > 2*laggardFloor {
			t.Errorf("took %v", took)
		}
		if n := v.Parts[0].Blob.Notes; len(n) != 1 || erasure.ShardSet(n[0].Missing).Len() != 1 {
			t.Errorf("%+v", n)
		}
		if n := r.crossed(); n != geo.PerZone() {
			t.Errorf("%d shards were sent to zone b", n)
		}
		time.Sleep(3 * time.Second) // it comes late, and is there all the same
		v.Parts[0].Blob.Notes = nil
		r.whole(v, pattern(chunk, 1))
	})
}

// TestRelayRefuses: what does not belong here is refused, and its memory given back.
func TestRelayRefuses(t *testing.T) {
	geo := erasure.Geometry{K: 2, M: 1}
	r, f := relayRig(t, geo)
	good := func() cluster.Chunk {
		c := cluster.Chunk{PG: 0, Blob: cluster.BlobID{1}, Profile: cluster.Profile{K: 2, M: 1}, Want: 0b111000}
		for i := range 2 {
			c.Data = append(c.Data, pattern(1000, uint64(i)))
			c.Sums = append(c.Sums, erasure.Sums(nil, c.Data[i]))
		}
		return c
	}
	s := f.stores["b0"]
	if zone := r.region.layout.FirstZone(0); zone != zoneA {
		t.Fatalf("group 0 begins in zone %s", zone)
	}
	for name, c := range map[string]struct {
		epoch  cluster.Epoch
		change func(*cluster.Chunk)
		want   error
	}{
		"good":               {1, func(*cluster.Chunk) {}, nil},
		"the same again":     {1, func(*cluster.Chunk) {}, nil},
		"another epoch":      {2, func(*cluster.Chunk) {}, cluster.ErrWrongEpoch},
		"no such group":      {1, func(c *cluster.Chunk) { c.PG = 32 }, cluster.ErrWrongEpoch},
		"of the other zone":  {1, func(c *cluster.Chunk) { c.Want = 0b000111 }, cluster.ErrInvalid},
		"of both zones":      {1, func(c *cluster.Chunk) { c.Want = 0b001100 }, cluster.ErrInvalid},
		"nothing":            {1, func(c *cluster.Chunk) { c.Want = 0 }, cluster.ErrInvalid},
		"impossible profile": {1, func(c *cluster.Chunk) { c.Profile.K = 0 }, cluster.ErrInvalid},
		"unequal shards":     {1, func(c *cluster.Chunk) { c.Data[1] = c.Data[1][1:] }, erasure.ErrShardSize},
	} {
		chunk, freed := good(), 0
		c.change(&chunk)
		for i, err := range s.Relay(t.Context(), c.epoch, chunk, func() { freed++ }) {
			if !errors.Is(err, c.want) {
				t.Errorf("%s: shard %d: %v", name, i, err)
			}
		}
		if freed != 1 {
			t.Errorf("%s: the memory was given back %d times", name, freed)
		}
	}
}
