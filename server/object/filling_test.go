package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

var errTooSlow = errors.New("the body was ended for being slow")

// trickle is a body that brings its first bytes at once and then so many every second.
type trickle struct {
	*body
	left  int // at once
	each  int
	every time.Duration
	pause time.Duration // once, after what comes at once
	ended chan struct{}
	once  *sync.Once
}

func newTrickle(data []byte, first, each int) *trickle {
	return &trickle{body: newBody(data), left: first, each: each, every: time.Second, ended: make(chan struct{}), once: &sync.Once{}}
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.left == 0 {
		select {
		case <-time.After(b.every + b.pause):
			b.left, b.pause = b.each, 0
		case <-b.ended:
			return 0, errTooSlow
		}
	}
	n := min(len(p), b.left)
	b.left -= n
	return b.body.Read(p[:n])
}

func (b *trickle) Interrupt() { b.once.Do(func() { close(b.ended) }) }

// newPaced is a trickle in small steps.
func newPaced(data []byte, first, perSecond int) *trickle {
	b := newTrickle(data, first, max(1, perSecond/10))
	b.every = time.Second / 10
	if perSecond == 0 {
		b.every = time.Hour
	}
	return b
}

// slowPuts begins so many uploads that come slowly, and waits until they are known for
// it. stop ends those that are left; it returns what all said.
func (r *rig) slowPuts(n, first, each int) (stop func() []error) {
	stop = r.putsOf(n, func(data []byte) *trickle { return newTrickle(data, first, each) })
	time.Sleep(2 * stallEvery)
	synctest.Wait()
	return stop
}

// putsOf begins uploads of such bodies.
func (r *rig) putsOf(n int, of func(data []byte) *trickle) (stop func() []error) {
	data := pattern(2*chunk, 8)
	ctx, cancel := context.WithCancel(r.t.Context())
	errs := make([]error, n)
	var bodies []*trickle
	var wg sync.WaitGroup
	for i := range n {
		b := of(data)
		bodies = append(bodies, b)
		wg.Go(func() {
			_, errs[i] = r.PutObject(ctx, PutRequest{Bucket: "bucket", Key: fmt.Sprint("slow", i), Bytes: int64(len(data)), Body: b})
		})
	}
	return func() []error {
		cancel()
		for _, b := range bodies {
			b.Interrupt()
		}
		wg.Wait()
		return errs
	}
}

// slowHeld is what is counted of slow bodies.
func (r *rig) slowHeld() int64 {
	r.intakes.mu.Lock()
	defer r.intakes.mu.Unlock()
	return r.intakes.slow
}

// TestSlowUploads: many uploads that come slowly hold what has come, so that others
// are served at once, and none of them is ended while there is room.
func TestSlowUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		geo := erasure.Geometry{K: 4, M: 1}
		r := newRig(t, geo, budget(4*minBudget))
		const n = 20
		stop := r.slowPuts(n, 100_000, 1)
		r.buffers.mu.Lock()
		lent := r.buffers.bytes
		r.buffers.mu.Unlock()
		if want := int64(n * sampleBytes); lent != want {
			t.Errorf("%d bytes are lent to slow uploads, want %d", lent, want)
		}
		began := time.Now()
		data := pattern(3*chunk, 1)
		for i := range 5 {
			v := r.mustPut(fmt.Sprint("k", i), data)
			r.check(v, data, 0, v.Bytes)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("others took %v", took)
		}
		for i, err := range stop() {
			if !errors.Is(err, errTooSlow) && !errors.Is(err, context.Canceled) {
				t.Errorf("slow upload %d: %v", i, err)
			}
		}
		if n := r.slowHeld(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
	})
}

// TestTooManySlowUploads: slow uploads and those that come hold half of the memory at most; those beyond
// it are ended, and others are served at once still.
func TestTooManySlowUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 1}, budget(2*minBudget))
		stop := r.slowPuts(40, 100_000, 1)
		for range 20 {
			time.Sleep(stallEvery)
			synctest.Wait()
			r.buffers.mu.Lock()
			lent := r.buffers.bytes
			r.buffers.mu.Unlock()
			if lent > minBudget {
				t.Errorf("%d bytes are lent to slow uploads, half of the budget is %d", lent, int64(minBudget))
			}
		}
		began := time.Now()
		r.mustPut("k", pattern(chunk, 1))
		if took := time.Since(began); took != 0 {
			t.Errorf("another took %v", took)
		}
		ended := 0
		for _, err := range stop() {
			if errors.Is(err, errTooSlow) {
				ended++
			}
		}
		if ended < 20 {
			t.Errorf("%d were ended", ended)
		}
	})
}

// TestDawdlersAreToldSo: uploads that hardly come, and are ended before their pace was told
// from a sample, are ended for that, and not as healthy ones that there is no room for.
func TestDawdlersAreToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
		stop := r.slowPuts(200, 100_000, 1) // the samples of 128 have room
		time.Sleep(r.cfg.BudgetWait / 2)
		synctest.Wait()
		if n := r.waiters.Load(); n >= 72 {
			t.Errorf("%d still wait: none was ended for them", n)
		}
		for _, err := range stop() {
			if errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
		}
	})
}

// TestUploadsOfAnyPace: however many uploads come at whatever pace, others that come at
// once are served, from the moment on that those begin, and the memory lent stays within
// the budget. Some of the many always get on.
func TestUploadsOfAnyPace(t *testing.T) {
	for name, c := range map[string]struct {
		n, first, perSecond int // 0: nothing more comes, not even the end
	}{
		"hardly":          {100, 100_000, 2 << 10},
		"moderate":        {100, 0, 200_000},
		"just too slow":   {100, 0, 1_000_000},
		"begin well":      {40, 500_000, 200_000},
		"the last byte":   {40, chunk - 1, 2 << 10},
		"not at all then": {100, 70_000, 0},
		"all but the end": {40, 2 * chunk, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
				stop := sync.OnceValue(r.putsOf(c.n, func(data []byte) *trickle { return newPaced(data, c.first, c.perSecond) }))
				defer stop()
				for i := range others() {
					began := time.Now()
					data := pattern(300_000, uint64(i))
					v := r.mustPut(fmt.Sprint("k", i), data)
					r.check(v, data, 0, v.Bytes)
					if took := time.Since(began); took > r.cfg.BudgetWait*3/4 {
						t.Errorf("object %d took %v", i, took)
					}
					time.Sleep(time.Second / 2)
				}
				if most := r.mostLent(); most > r.cfg.BudgetBytes {
					t.Errorf("%d bytes were lent, the budget is %d", most, r.cfg.BudgetBytes)
				}
				told := map[string]int{}
				for _, err := range stop() {
					switch {
					case errors.Is(err, errTooSlow):
						told["too slow, or stopped"]++
					case errors.Is(err, ErrBusy):
						told["busy"]++
					case errors.Is(err, context.Canceled):
						told["stopped"]++
					case err == nil:
						told["stored"]++
					default:
						t.Error(err)
					}
				}
				t.Log(told)
				if told["too slow, or stopped"]+told["stopped"]+told["stored"] == 0 {
					t.Error("none of them got on")
				}
				if n := r.slowHeld(); n != 0 {
					t.Errorf("%d bytes are still counted", n)
				}
			})
		})
	}
}

// TestManyHealthyUploads: however many come at a modest pace, or stop for a moment all
// at once as in a hiccup of the network, none is refused while there is memory left.
func TestManyHealthyUploads(t *testing.T) {
	for name, of := range map[string]func(data []byte) *trickle{
		"500 kB a second": func(data []byte) *trickle { return newPaced(data, 0, 500_000) },
		"a pause of a second": func(data []byte) *trickle {
			b := newPaced(data, 3_000_000, 5_000_000)
			b.pause = time.Second
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20)) // a quarter of the default
				data := pattern(2*chunk, 8)
				var wg sync.WaitGroup
				for i := range 10 {
					wg.Go(func() {
						key := fmt.Sprint("k", i)
						v, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: key, Bytes: int64(len(data)), Body: of(data)})
						if err != nil {
							t.Errorf("%s: %v", key, err)
							return
						}
						r.check(v, data, 0, v.Bytes)
					})
				}
				wg.Wait()
			})
		})
	}
}

// TestModerateUploadKeepsItsPlace: an upload of a moderate pace that has begun is stored,
// chunk after chunk, however many others would like to have its room.
func TestModerateUploadKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
		data := pattern(3*chunk+100_000, 8)
		var first sync.WaitGroup
		for i := range 4 { // as many as there is room for
			first.Go(func() {
				key := fmt.Sprint("first", i)
				v, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: key, Bytes: int64(len(data)), Body: newPaced(data, 0, 500_000)})
				if err != nil {
					t.Error(err)
					return
				}
				r.check(v, data, 0, v.Bytes)
			})
		}
		time.Sleep(5 * time.Second)
		defer r.putsOf(50, func(data []byte) *trickle { return newPaced(data, 0, 500_000) })()
		first.Wait()
	})
}

// TestBodiesOfTheHouse: copies whose source comes slowly are neither refused nor ended, and
// keep no room for what has not come while others wait for it.
func TestBodiesOfTheHouse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
		data := pattern(2*chunk, 8)
		var copies sync.WaitGroup
		for i := range 5 { // as many as there is room for
			copies.Go(func() {
				key := fmt.Sprint("copy", i)
				v, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: key, Bytes: int64(len(data)),
					Body: struct{ Body }{newPaced(data, 0, 300_000)}})
				if err != nil {
					t.Errorf("%s: %v", key, err)
					return
				}
				r.check(v, data, 0, v.Bytes)
			})
		}
		time.Sleep(stallEvery / 2)
		began := time.Now()
		r.mustPut("k", pattern(chunk, 1))
		if took := time.Since(began); took > 2*stallEvery {
			t.Errorf("another took %v", took)
		}
		copies.Wait()
	})
}

// TestSlowBodyHearsOfAFailure: an upload whose first chunk cannot be stored fails then, not
// when its client has sent all of the next.
func TestSlowBodyHearsOfAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		r.shards.setHook(func(_ context.Context, c call) (bool, error) { return c.op != opAppend, cluster.ErrDiskFull })
		data := pattern(2*chunk, 1)
		began := time.Now()
		_, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Bytes: int64(len(data)), Body: newPaced(data, chunk+100_000, 2<<10)})
		if !errors.Is(err, ErrFull) {
			t.Error(err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestPacePicksUp: an upload that was slow and gets fast takes room as one that is.
func TestPacePicksUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
		in := r.newIntake(nil, 2, 6, chunk)
		data := pattern(chunk, 1)
		fill := func(want manner, b *trickle) {
			t.Helper()
			in.body, in.interrupt = b, b.Interrupt
			shards, err := in.fill(t.Context(), chunk, chunk/2, false)
			if err != nil {
				t.Fatal(err)
			}
			if got := append(bytes.Clone(shards[0]), shards[1]...); !bytes.Equal(got, data) {
				t.Error("wrong bytes")
			}
			for _, p := range shards {
				r.buffers.Put(p)
			}
			r.release(6 * chunk / 2)
			if in.how != want {
				t.Errorf("then it is %d, want %d", in.how, want)
			}
		}
		fill(moderate, newPaced(data, 0, 400_000))
		fill(prompt, newPaced(data, 0, 10_000_000))
		fill(moderate, newPaced(data, 1_000_000, 400_000))
		fill(unknown, newTrickle(data, chunk-2*leastBytes, 20_000))
		fill(prompt, newPaced(data, 0, 10_000_000))
		in.close()
	})
}

// TestSlowUploadArrives: one that comes slowly but comes is stored, beside others.
func TestSlowUploadArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(4*minBudget))
		data := pattern(chunk+300_000, 3)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				key := fmt.Sprint("slow", i)
				v, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: key, Bytes: int64(len(data)),
					Body: newTrickle(data, 1000, leastBytes/2)})
				if err != nil {
					t.Error(err)
					return
				}
				r.check(v, data, 0, v.Bytes)
			})
		}
		wg.Wait()
		if n := r.slowHeld(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
	})
}

// TestRoomComesWithTheBody: a body of which hardly anything has come takes nothing.
func TestRoomComesWithTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(minBudget))
		stop := r.slowPuts(100, 1000, 1)
		if err := r.reserve(t.Context(), minBudget); err != nil {
			t.Error(err)
		}
		r.release(minBudget)
		stop()
	})
}

// TestBodyBreaksWhileSlow gives everything back.
func TestBodyBreaksWhileSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 4, M: 1})
		data := pattern(2*chunk, 3)
		b := newTrickle(data, chunk/2, 1000)
		b.body.Reader = io.MultiReader(bytes.NewReader(data[:chunk/2+10_000]), &body{Reader: bytes.NewReader(nil), err: io.ErrClosedPipe})
		_, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Bytes: int64(len(data)), Body: b})
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		if n := r.slowHeld(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
		r.settled()
	})
}
