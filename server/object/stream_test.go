package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

var errCut = errors.New("the client was cut off")

// sink is a client that takes its first bytes at once and then so many every tenth of a
// second; with each 0 it takes no more.
type sink struct {
	bytes.Buffer
	first, each int
	late        time.Duration // it pauses before its first byte
	until       time.Time     // then it takes all at once, unless zero
	ended       chan struct{}
	once        sync.Once
}

func newSink(first, each int) *sink {
	return &sink{first: first, each: each, ended: make(chan struct{})}
}

func (s *sink) Write(p []byte) (n int, err error) {
	time.Sleep(s.late)
	s.late = 0
	for n < len(p) {
		take := min(len(p)-n, s.first)
		s.first -= take
		if !s.until.IsZero() && time.Now().After(s.until) {
			take = len(p) - n
		}
		if take == 0 {
			tick := time.After(time.Second / 10)
			if s.each == 0 {
				tick = nil
			}
			select {
			case <-tick:
				take = min(len(p)-n, s.each)
			case <-s.ended:
				return n, errCut
			}
		}
		s.Buffer.Write(p[n : n+take])
		n += take
	}
	return n, nil
}

func (s *sink) Interrupt() { s.once.Do(func() { close(s.ended) }) }

// getsOf begins so many downloads of v by such clients. stop ends those that are left.
func (r *rig) getsOf(n int, v metadata.Version, of func() *sink) (stop func() []error) {
	ctx, cancel := context.WithCancel(r.t.Context())
	errs := make([]error, n)
	var sinks []*sink
	var wg sync.WaitGroup
	for i := range n {
		s := of()
		sinks = append(sinks, s)
		wg.Go(func() {
			rd, err := r.OpenObject(ctx, v, 0, v.Bytes)
			if err == nil {
				_, err = io.Copy(s, rd)
				err = errors.Join(err, rd.Close())
			}
			errs[i] = err
		})
	}
	return sync.OnceValue(func() []error {
		cancel()
		for _, s := range sinks {
			s.Interrupt()
		}
		wg.Wait()
		return errs
	})
}

// others is how many requests are made beside slow ones.
func others() int {
	if testing.Short() {
		return 10
	}
	return 25
}

// lentNow is how many bytes of buffers are lent.
func (r *rig) lentNow() int64 {
	r.buffers.mu.Lock()
	defer r.buffers.mu.Unlock()
	return r.buffers.bytes
}

// mostLent is how many were at a time.
func (r *rig) mostLent() int64 {
	r.buffers.mu.Lock()
	defer r.buffers.mu.Unlock()
	return r.buffers.peak
}

// timesLent is how many buffers were lent so far.
func (r *rig) timesLent() int {
	r.buffers.mu.Lock()
	defer r.buffers.mu.Unlock()
	return r.buffers.gets
}

// TestDownloadsOfAnyPace: however many clients hardly read, or read slowly, others are
// served, and the memory lent stays within the budget. Once they are known for it they
// hold their share and no more.
func TestDownloadsOfAnyPace(t *testing.T) {
	for name, c := range map[string]struct{ n, first, perSecond int }{
		"not at all":                {60, 0, 0},
		"hardly":                    {60, 0, 2 << 10},
		"not at all after a while":  {60, 3 << 20, 0},
		"moderate":                  {60, 0, 200_000},
		"moderate after a while":    {60, 3 << 20, 200_000},
		"just too slow":             {60, 0, 1_000_000},
		"all that a chunk has, and": {60, chunk + 1, 2 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
				large := pattern(3*chunk, 8)
				near, far := r.putInto(zoneA, large), r.putInto(zoneB, large)
				r.buffers.peak = 0
				stops := []func() []error{}
				for _, v := range []metadata.Version{near, far} {
					stop := r.getsOf(c.n/2, v, func() *sink { return newSink(c.first, c.perSecond/10) })
					defer stop()
					stops = append(stops, stop)
				}
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
				synctest.Wait() // a piece that is being read takes more for a moment
				if most := r.cfg.BudgetBytes * readersShare / 16; r.lentNow() > most {
					t.Errorf("%d bytes are lent to slow clients, want %d at most", r.lentNow(), most)
				}
				if most := r.mostLent(); most > r.cfg.BudgetBytes {
					t.Errorf("%d bytes were lent, the budget is %d", most, r.cfg.BudgetBytes)
				}
				told := map[string]int{}
				for _, stop := range stops {
					for _, err := range stop() {
						switch {
						case errors.Is(err, errCut), errors.Is(err, context.Canceled):
							told["cut off, or stopped"]++
						case errors.Is(err, ErrBusy):
							told["busy"]++
						case err == nil:
							told["served"]++
						default:
							t.Error(err)
						}
					}
				}
				t.Log(told)
				if told["busy"] > c.n/2 {
					t.Error("most were told that the node is busy")
				}
			})
		})
	}
}

// TestStreamGivesBack: a client that pauses wherever it likes gets the bytes of its range,
// though what it had not begun to take was given back.
func TestStreamGivesBack(t *testing.T) {
	for _, geo := range costly(erasure.Geometry{K: 1}, erasure.Geometry{K: 2, M: 1}, erasure.Geometry{K: 3, M: 1}) {
		t.Run(fmt.Sprintf("%d+%d", geo.K, geo.M), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, geo)
				data := pattern(3*chunk+70_000, 8)
				for seed := range uint64(12) {
					rnd := rand.New(rand.NewPCG(seed, 1))
					v := r.putInto([]cluster.Zone{zoneA, zoneB}[seed%2], data)
					off := rnd.Int64N(v.Bytes)
					n := rnd.Int64N(v.Bytes-off) + 1
					rd, err := r.OpenObject(t.Context(), v, off, n)
					if err != nil {
						t.Fatal(err)
					}
					var got bytes.Buffer
					pause := func() {
						if rnd.IntN(10) == 0 {
							time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
						}
					}
					if seed%3 == 0 {
						for p := make([]byte, 100_000); err == nil; pause() {
							var m int
							m, err = rd.Read(p)
							got.Write(p[:m])
						}
						if err == io.EOF {
							err = nil
						}
					} else {
						_, err = io.Copy(writerFunc(func(p []byte) (int, error) { pause(); return got.Write(p) }), rd)
					}
					if err != nil || !bytes.Equal(got.Bytes(), data[off:off+n]) {
						t.Fatalf("seed %d: [%d, +%d): %d bytes, %v", seed, off, n, got.Len(), err)
					}
					if err := rd.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestStalledStreamHoldsLittle: what a client that stops leaves behind, and that one which
// reads well again is given whole chunks.
func TestStalledStreamHoldsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		v := r.putInto(zoneA, pattern(16*chunk, 8))
		read := func(s *sink) (stop func() []error) {
			stop = r.getsOf(1, v, func() *sink { return s })
			time.Sleep(3 * stallEvery)
			synctest.Wait()
			return stop
		}
		stop := read(newSink(0, 0))
		if n := r.lentNow(); n != 0 {
			t.Errorf("%d bytes are lent to a client that has taken nothing", n)
		}
		stop()
		stop = read(newSink(chunk+1, 0))
		if n := r.lentNow(); n == 0 || n > chunk/2 {
			t.Errorf("%d bytes are lent to one that has stopped within a shard", n)
		}
		stop()
		s := newSink(0, 10_000)
		s.until = time.Now().Add(time.Minute)
		stop = read(s)
		if n := r.lentNow(); n == 0 || n > slowPiece {
			t.Errorf("%d bytes are lent to one that reads slowly", n)
		}
		gets := r.timesLent()
		time.Sleep(2 * time.Minute)
		if n := r.timesLent() - gets; n > 300 { // 896 in small pieces
			t.Errorf("%d buffers for the rest, read fast", n)
		}
		if errs := stop(); errs[0] != nil || s.Len() != int(v.Bytes) {
			t.Errorf("%d bytes, %v", s.Len(), errs)
		}
	})
}

// TestSteadyReadersAreNotCut: a client that reads slowly all the time gets what it wants,
// though others wait for room and slow clients have their share.
func TestSteadyReadersAreNotCut(t *testing.T) {
	for _, rate := range []int{100_000, 300_000, 900_000} {
		for _, first := range []int{200_000, 3<<20 + 1000} {
			for _, pressed := range []bool{false, true} {
				t.Run(fmt.Sprint(rate, first, pressed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
						v := r.putInto(zoneA, pattern(3*chunk, 8))
						share := r.cfg.BudgetBytes * readersShare / 16
						if !r.slowReads.TryAcquire(share) {
							t.Fatal("the share is taken")
						}
						time.AfterFunc(r.cfg.BudgetWait*9/10, func() { r.slowReads.Release(share) })
						if pressed { // once a step is in its hands
							time.AfterFunc(time.Millisecond, func() { r.waiters.Add(1) })
							defer r.waiters.Add(-1)
						}
						s := newSink(first, rate/10)
						stop := r.getsOf(1, v, func() *sink { return s })
						time.Sleep(time.Duration(v.Bytes/int64(rate))*2*time.Second + r.cfg.BudgetWait)
						if errs := stop(); errs[0] != nil || s.Len() != int(v.Bytes) {
							t.Errorf("%d bytes, %v", s.Len(), errs)
						}
					})
				})
			}
		}
	}
}

// TestStalledReaderIsCut only where others wait for room, and after stallCut.
func TestStalledReaderIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
		v := r.putInto(zoneA, pattern(3*chunk, 8))
		stalled := func() (s *sink, stop func() []error) {
			s = newSink(3<<20+1000, 0)
			stop = r.getsOf(1, v, func() *sink { return s })
			time.Sleep(time.Millisecond)
			return s, stop
		}
		isCut := func(s *sink) bool {
			synctest.Wait()
			select {
			case <-s.ended:
				return true
			default:
				return false
			}
		}
		s, stop := stalled()
		r.waiters.Add(1)
		time.Sleep(stallCut - stallFirst)
		if isCut(s) {
			t.Error("cut too early")
		}
		time.Sleep(2 * stallFirst)
		if !isCut(s) {
			t.Error("not cut though others wait")
		}
		r.waiters.Add(-1)
		stop()

		var sinks []*sink
		for range 27 { // so many that one more still need not wait
			s, stop := stalled()
			defer stop()
			sinks = append(sinks, s)
			time.Sleep(2 * stallEvery)
		}
		time.Sleep(time.Minute)
		if n := r.lentNow(); n != int64(len(sinks))*chunk/2 {
			t.Errorf("%d bytes are lent", n)
		}
		for i, s := range sinks {
			if isCut(s) {
				t.Errorf("client %d was cut while nobody waited", i)
			}
		}
		began := time.Now()
		r.mustPut("k", pattern(2*chunk, 1))
		if took := time.Since(began); took > 2*stallFirst {
			t.Errorf("an upload waited %v for clients that have stalled", took)
		}
	})
}

// TestStalledReadersLeaveTheShare: clients that were slow, read on and stopped hold nothing
// that others wait for.
func TestStalledReadersLeaveTheShare(t *testing.T) {
	for _, how := range []string{"written to", "reading"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(64<<20))
				v := r.putInto(zoneA, pattern(3*chunk, 8))
				n := int(r.cfg.BudgetBytes * readersShare / 16 / slowPiece)
				if how == "written to" {
					defer r.getsOf(n, v, func() *sink {
						s := newSink(300_000, 0)
						s.late = 2 * stallEvery
						return s
					})()
				} else {
					var streams []io.ReadCloser
					for range n {
						rd, err := r.OpenObject(t.Context(), v, 0, v.Bytes)
						if err != nil {
							t.Fatal(err)
						}
						defer rd.Close()
						streams = append(streams, rd)
						time.Sleep(stallFirst)
					}
					time.Sleep(2 * stallEvery)
					for _, rd := range streams {
						if _, err := rd.Read(make([]byte, 1000)); err != nil {
							t.Fatal(err)
						}
					}
				}
				time.Sleep(5 * stallEvery)
				synctest.Wait()
				if n := r.lentNow(); n != 0 {
					t.Errorf("%d bytes are lent", n)
				}
				s := newSink(0, 90_000)
				stop := r.getsOf(1, v, func() *sink { return s })
				time.Sleep(time.Minute)
				if errs := stop(); errs[0] != nil || s.Len() != int(v.Bytes) {
					t.Errorf("one that reads: %d bytes, %v", s.Len(), errs)
				}
			})
		})
	}
}

// TestFastAgain: a client that paused gets whole chunks again though others wait for
// room, and one that stays slow but reads on larger pieces.
func TestFastAgain(t *testing.T) {
	for name, c := range map[string]struct {
		rate    int // bytes a second
		at      int
		pause   time.Duration // once, when it has taken so much
		pressed bool
		slow    bool // in the end
	}{
		"5 MiB a second":                     {5 << 20, 3 << 20, 600 * time.Millisecond, true, false},
		"12 MiB a second":                    {12 << 20, 3 << 20, 600 * time.Millisecond, true, false},
		"40 MiB a second":                    {40 << 20, 3 << 20, 600 * time.Millisecond, true, false},
		"2.5 MiB a second, and nobody waits": {5 << 19, 3 << 20, 2 * time.Second, false, false},
		// It is found to dawdle at the last moment.
		"1.5 MiB a second": {3 << 19, 1, 8*(stallEvery*3/4) - time.Second/20, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, erasure.Geometry{K: 2, M: 1})
				v := r.putInto(zoneA, pattern(8*chunk, 8))
				if c.pressed {
					r.waiters.Add(1)
					defer r.waiters.Add(-1)
				}
				r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
					if c.op == opRead {
						time.Sleep(10 * time.Millisecond)
					}
					return true, nil
				})
				defer r.shards.setHook(nil)
				gets := r.timesLent()
				rd, err := r.OpenObject(t.Context(), v, 0, v.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				defer rd.Close()
				took := func(n int) time.Duration { return time.Duration(float64(n) / float64(c.rate) * 1e9) }
				began, pause := time.Now(), c.pause
				var got int
				n, err := io.Copy(writerFunc(func(p []byte) (int, error) {
					time.Sleep(took(len(p)))
					if got += len(p); got >= c.at {
						time.Sleep(pause)
						pause = 0
					}
					return len(p), nil
				}), rd)
				if err != nil || n != v.Bytes {
					t.Errorf("%d bytes, %v", n, err)
				}
				if slow := rd.(*stream).slow; slow != c.slow {
					t.Errorf("slow: %v", slow)
				}
				late := stallEvery
				if c.slow { // nothing is read ahead
					late += 10 * time.Millisecond * time.Duration(v.Bytes/slowPiece)
				}
				if all, alone := time.Since(began), took(int(v.Bytes))+c.pause; all > alone+late {
					t.Errorf("took %v, of its own time %v", all, alone)
				}
				if lent := r.timesLent() - gets; lent > int(3*v.Bytes/slowPiece) { // some of them hedged; four times as many of the least pieces
					t.Errorf("%d buffers", lent)
				}
			})
		})
	}
}
