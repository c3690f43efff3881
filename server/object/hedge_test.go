package object

import (
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

// noHedges spends all that there is to spend on hedges.
func (r *rig) noHedges() {
	for _, h := range []*hedges{&r.hedges.near, &r.hedges.far, &r.hedges.relay} {
		for h.take() {
		}
	}
}

// TestReadLeavesWhatWentDown: a read that waits for a disk goes on at once when its
// node goes missing, though nothing is left to spend on hedges. The memory that the
// call keeps is its own.
func TestReadLeavesWhatWentDown(t *testing.T) {
	for _, geo := range []erasure.Geometry{{K: 1}, {K: 2, M: 1}, {K: 4, M: 1}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, geo, budget(minBudget))
			data := pattern(chunk, 8)
			v := r.putInto(zoneA, data)
			slow := r.of(v, 0)[0].disk
			for _, n := range []int64{v.Bytes, 1} { // the whole chunk, one shard of it
				release := r.hangs(slow.ID)
				r.noHedges()
				time.AfterFunc(100*time.Millisecond, func() {
					r.region.set(func(f *fakeRegion) { f.suspect[slow.Node] = true })
				})
				began := time.Now()
				r.check(v, data, 0, n)
				if took := time.Since(began); took != 100*time.Millisecond {
					t.Errorf("%+v: %d bytes took %v", geo, n, took)
				}
				if got := len(r.shards.callsOf(opRead)); n == 1 && got != 1+geo.K {
					t.Errorf("%+v: %d reads", geo, got)
				}
				began = time.Now()
				r.check(v, data, 0, n)
				if took := time.Since(began); took != 0 {
					t.Errorf("%+v: the next took %v", geo, took)
				}
				release()
				r.region.set(func(f *fakeRegion) { f.suspect[slow.Node] = false })
				time.Sleep(2 * silenceLasts) // and the disk is one like others again
				r.settled()
			}
		})
	}
}

// TestReadOfWhatSeemsDown: a disk that seemed down when it was asked, since no other
// was left, is not left for that.
func TestReadOfWhatSeemsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 1})
		data := pattern(chunk, 8)
		v := r.putInto(zoneA, data)
		shards := r.of(v, 0)
		r.shards.damage(shards[1], nil)
		release := r.hangs(shards[0].disk.ID)
		r.region.set(func(f *fakeRegion) { f.suspect[shards[0].disk.Node] = true })
		time.AfterFunc(time.Second, func() { r.region.set(func(*fakeRegion) {}) })
		time.AfterFunc(2*time.Second, release)
		began := time.Now()
		r.check(v, data, 0, v.Bytes)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// warm lets every disk of the near zone answer often enough for its pace to be known.
func (r *rig) warm() {
	now := time.Now()
	for _, d := range disksOf(r.region.Layout(), zoneA) {
		for range windowLeast {
			r.reads.observe(d.ID, now, time.Millisecond)
			r.writes.observe(d.ID, now, time.Millisecond)
		}
	}
}

// TestQuietDisk: a disk that answers nothing while its peers do is overtaken though no
// hedge is left to spend, is asked last from then on, and is tried again after a while.
func TestQuietDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		data := pattern(chunk, 8)
		v := r.putInto(zoneA, data)
		r.warm()
		r.noHedges()
		slow := r.of(v, 0)[0].disk.ID
		release := r.hangs(slow)
		defer release()
		timed := func() time.Duration {
			began := time.Now()
			r.check(v, data, 0, v.Bytes)
			return time.Since(began)
		}
		if took := timed(); took < quietFloors*30*time.Millisecond || took > 500*time.Millisecond {
			t.Errorf("the first took %v", took)
		}
		for range 5 {
			if took := timed(); took != 0 {
				t.Errorf("the next took %v", took)
			}
		}
		if len(r.reads.of[slow].open) == 0 {
			t.Error("nothing hangs: the test shows nothing")
		}
	})
}

// TestSilence: what was left unanswered counts for a while, an answer ends it.
func TestSilence(t *testing.T) {
	var p paces[cluster.NodeID]
	at := time.Unix(1000, 0)
	sec := func(n int) time.Time { return at.Add(time.Duration(n) * time.Second) }
	expect := func(when int, want time.Duration) {
		t.Helper()
		if got := p.silence("n", sec(when)); got != want {
			t.Errorf("after %d s: %v, want %v", when, got, want)
		}
	}
	expect(0, 0)
	p.begin("n", sec(0))
	p.begin("n", sec(2))
	expect(5, 5*time.Second)
	p.end("n", sec(2), sec(6), endDone)
	expect(6, 0)
	expect(7, time.Second) // the first is not answered still
	p.end("n", sec(0), sec(9), endLeft)
	expect(9, 3*time.Second)
	expect(10, 3*time.Second)
	expect(11, 0)
	p.begin("n", sec(11))
	p.end("n", sec(11), sec(15), endLeft)
	p.begin("n", sec(15))
	p.end("n", sec(15), sec(15), endFailed)
	expect(15, 0)
	if n := len(p.of["n"].open); n != 0 {
		t.Errorf("%d calls are open", n)
	}
	if p.of["n"].n != 1 {
		t.Errorf("%d calls count for the pace", p.of["n"].n)
	}
}

// TestHedgeBudgetsAreApart: the near zone cannot do by itself and nothing is left to
// spend on hedges there; the other zone is asked all the same.
func TestHedgeBudgetsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		data := pattern(chunk, 8)
		v := r.putInto(zoneA, data)
		for r.hedges.near.take() {
		}
		near := func() []call {
			var out []call
			for _, c := range r.shards.callsOf(opRead) {
				if r.region.zoneOf[c.node] == zoneA {
					out = append(out, c)
				}
			}
			return out
		}
		release := r.hangs(r.of(v, 0)[0].disk.ID)
		defer release()
		began := time.Now()
		r.check(v, data, 0, v.Bytes)
		if took := time.Since(began); took < farHedges*30*time.Millisecond || took > 500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if got := near(); len(got) > 3 {
			t.Errorf("%d reads in the near zone", len(got))
		}
	})
}

// TestWriteDoesNotWaitTwice for a disk that answers nothing: the second PUT leaves it
// behind soon.
func TestWriteDoesNotWaitTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		data := pattern(chunk, 8)
		v := r.putInto(zoneA, data)
		r.warm()
		for _, d := range disksOf(r.region.Layout(), zoneB) {
			for range windowLeast {
				r.writes.observe(d.ID, time.Now(), time.Millisecond)
			}
		}
		release := r.hangs(r.of(v, 0)[0].disk.ID)
		defer release()
		for i, most := range []time.Duration{stragglerFloor, laggardFloor, laggardFloor} {
			began := time.Now()
			v := r.mustPut("k", data)
			if took := time.Since(began); took > most {
				t.Errorf("PUT %d took %v", i, took)
			}
			if len(v.Parts[0].Blob.Notes) != 1 {
				t.Errorf("PUT %d lacks nothing", i)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}
