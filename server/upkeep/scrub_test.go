package upkeep

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
)

// scrubDisk has so many shards of one size in every placement group.
type scrubDisk struct {
	id     cluster.DiskID
	groups int
	each   int // shards in a group
	bytes  int64
	took   time.Duration // to read one shard

	mu      sync.Mutex
	bad     map[cluster.ShardKey]bool
	checked map[cluster.ShardKey]int
	at      []time.Time // of each read
	err     error
}

func newScrubDisk(groups, each int, bytes int64) *scrubDisk {
	return &scrubDisk{id: cluster.DiskID{1}, groups: groups, each: each, bytes: bytes,
		bad: map[cluster.ShardKey]bool{}, checked: map[cluster.ShardKey]int{}}
}

func (d *scrubDisk) ID() cluster.DiskID { return d.id }

func (d *scrubDisk) Usage() disk.Usage {
	n := int64(d.groups * d.each)
	return disk.Usage{Shards: n, LiveBytes: n * d.bytes}
}

func (d *scrubDisk) Scrub(ctx context.Context, pg cluster.PG, after *cluster.ShardKey, limit int, pace func(context.Context, int64) error) (disk.ScrubPage, error) {
	var page disk.ScrubPage
	first := 0
	if after != nil {
		first = int(after.Chunk) + 1
	}
	for i := first; i < min(d.each, first+limit); i++ {
		if err := pace(ctx, d.bytes); err != nil {
			return page, err
		}
		d.mu.Lock()
		took := d.took
		d.mu.Unlock()
		sleep(ctx, took)
		key := cluster.ShardKey{PG: pg, Chunk: uint32(i)}
		d.mu.Lock()
		err := d.err
		d.checked[key]++
		d.at = append(d.at, time.Now())
		if d.bad[key] {
			page.Damaged++
		}
		d.mu.Unlock()
		if err != nil {
			return page, err
		}
		page.Shards++
		page.Bytes += d.bytes
		page.Last = &key
	}
	if page.Shards < int64(limit) {
		page.Last = nil
	}
	return page, nil
}

// counts tells how often the shards were read, at least and at most.
func (d *scrubDisk) counts() (least, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	least = math.MaxInt
	for pg := range d.groups {
		for i := range d.each {
			n := d.checked[cluster.ShardKey{PG: cluster.PG(pg), Chunk: uint32(i)}]
			least, most = min(least, n), max(most, n)
		}
	}
	return least, most
}

func (d *scrubDisk) times() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.at)
}

func scrubber(t *testing.T, dir string, period time.Duration, disks ...*scrubDisk) *Scrubber {
	t.Helper()
	s, err := NewScrubber(ScrubberConfig{
		Disks: func() (out []ScrubDisk) {
			for _, d := range disks {
				out = append(out, d)
			}
			return out
		},
		Groups: func() int { return disks[0].groups }, Dir: filepath.Join(dir, "scrub"), Period: period, Rate: 1 << 20, Every: max(time.Second, period/10_000), Logger: quiet, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func progress(t *testing.T, s *Scrubber, d *scrubDisk) ScrubProgress {
	t.Helper()
	p, ok := s.Progress(d.id)
	if !ok {
		t.Fatal("the disk is not scrubbed")
	}
	return p
}

// TestScrubSpread: a pass takes nine tenths of the period, evenly, and every shard
// is read again within the period.
func TestScrubSpread(t *testing.T) {
	for _, c := range []struct {
		name   string
		period time.Duration
		disk   *scrubDisk
	}{
		{"many shards", 30 * 24 * time.Hour, newScrubDisk(32, 8, 300_000)},
		{"few shards", 30 * 24 * time.Hour, newScrubDisk(200, 1, 300_000)},
		{"one group", 24 * time.Hour, newScrubDisk(1, 200, 5000)},
		{"a short period", time.Minute, newScrubDisk(8, 50, 40_000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, began := c.disk, time.Now()
				s := scrubber(t, t.TempDir(), c.period, d)
				run(t, s.Run)
				pass(c.period / 2)
				half := len(d.times())
				if p := progress(t, s, d); math.Abs(p.Fraction-0.5/0.9) > 0.04 || p.Pass != 1 || p.Now {
					t.Errorf("half way through the period: %+v", p)
				}
				pass(c.period / 2)
				p := progress(t, s, d)
				n := int64(d.groups * d.each)
				if p.Last == nil || p.Last.Shards != n || p.Last.Bytes != n*d.bytes || p.Last.Damaged != 0 || p.Last.Pass != 1 {
					t.Fatalf("after the period: %+v", p)
				}
				took := p.Last.Finished.Sub(began).Seconds() / c.period.Seconds()
				if took > 0.91 || took < 0.85 {
					t.Errorf("a pass took %.3f of the period", took)
				}
				if share := float64(half) / float64(n); math.Abs(share-0.5/0.9) > 0.05 {
					t.Errorf("%.2f of the shards in the first half", share)
				}
				pass(c.period)
				if least, _ := d.counts(); least < 2 {
					t.Errorf("a shard was read %d times in two periods", least)
				}
			})
		})
	}
}

// TestScrubAfterAWrongClock: a pass that began, or was over, by a clock that was a year
// ahead does not put the scrub off for a year.
func TestScrubAfterAWrongClock(t *testing.T) {
	for _, st := range []scrubState{{Pass: 7, Done: true}, {Pass: 7, PG: 3}} {
		synctest.Test(t, func(t *testing.T) {
			d, dir := newScrubDisk(8, 4, 1000), t.TempDir()
			st.Started = time.Now().AddDate(1, 0, 0)
			s := scrubber(t, dir, time.Hour, d)
			if err := saveScrub(s.cfg.Dir, d.id, st); err != nil {
				t.Fatal(err)
			}
			run(t, s.Run)
			pass(2 * time.Hour)
			if least, _ := d.counts(); least < 1 {
				t.Errorf("%+v: a shard was read %d times in two periods", st, least)
			}
		})
	}
}

// TestScrubIdle: an empty disk costs nothing between passes.
func TestScrubIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScrubDisk(4, 0, 1)
		s := scrubber(t, t.TempDir(), time.Hour, d)
		run(t, s.Run)
		pass(10 * time.Hour)
		if p := progress(t, s, d); p.Last == nil || p.Last.Pass > 12 || p.Last.Pass < 10 {
			t.Errorf("%+v", p)
		}
	})
}

func TestScrubNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScrubDisk(8, 64, 100_000) // 51 MB: 49 s at 1 MiB/s
		d.bad[cluster.ShardKey{PG: 3, Chunk: 7}] = true
		s := scrubber(t, t.TempDir(), 30*24*time.Hour, d)
		run(t, s.Run)
		pass(time.Hour)
		slow := len(d.times())
		if slow == 0 || slow > 3 {
			t.Errorf("%d shards in an hour of a month", slow)
		}
		started := s.StartNow()
		if len(started) != 1 || started[0] != (ScrubStarted{Disk: d.id, Pass: 2}) {
			t.Fatal(started)
		}
		pass(20 * time.Second)
		p := progress(t, s, d)
		if p.Pass != 2 || !p.Now || p.Fraction < 0.3 || p.Fraction > 0.5 {
			t.Errorf("after 20s: %+v", p)
		}
		if again := s.StartNow(); again[0].Pass != 2 {
			t.Errorf("a pass that was asked for began anew: %+v", again)
		}
		pass(32 * time.Second)
		p = progress(t, s, d)
		if p.Last == nil || p.Last.Pass != 2 || p.Last.Shards != 512 || p.Last.Damaged != 1 || p.Now {
			t.Fatalf("%+v %+v", p, p.Last)
		}
		if took := p.Last.Finished.Sub(p.Last.Started); took < 45*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := len(d.times()); n != slow+512 {
			t.Errorf("%d reads", n)
		}
		pass(time.Hour)
		if n := len(d.times()); n != slow+512 {
			t.Error("the next pass did not wait for its time")
		}
	})
}

// TestScrubResumes where it was, and in the same manner.
func TestScrubResumes(t *testing.T) {
	for _, now := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d, dir := newScrubDisk(8, 64, 100_000), t.TempDir()
			period := 30 * 24 * time.Hour
			for life := range 4 {
				s := scrubber(t, dir, period, d)
				ctx, end := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := s.Run(ctx); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
				if now && life == 0 {
					s.StartNow()
				}
				if now {
					pass(15 * time.Second)
				} else {
					pass(period / 4)
				}
				p := progress(t, s, d)
				if over := p.Last != nil; over != (life == 3) {
					t.Errorf("now %v, life %d: %+v", now, life, p)
				}
				end()
				wg.Wait()
			}
			// What a life had begun to read may be read again.
			if least, most := d.counts(); least != 1 || most > 2 {
				t.Errorf("now %v: shards were read %d to %d times", now, least, most)
			}
		})
	}
}

// TestScrubOfDiskThatCameBack: its pass begins at the start again, within the same
// time, for its index may have hidden shards.
func TestScrubOfDiskThatCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScrubDisk(8, 64, 100_000)
		var mu sync.Mutex
		there := true
		s := scrubber(t, t.TempDir(), 100*time.Minute, d)
		s.cfg.Disks = func() []ScrubDisk {
			mu.Lock()
			defer mu.Unlock()
			if there {
				return []ScrubDisk{d}
			}
			return nil
		}
		run(t, s.Run)
		for _, now := range []bool{false, true} {
			pass(45 * time.Minute)
			mu.Lock()
			there = now
			mu.Unlock()
			if p, ok := s.Progress(d.id); ok != !now || ok && (p.Fraction < 0.4 || p.Fraction > 0.6) {
				t.Errorf("%v %+v", ok, p)
			}
		}
		pass(30 * time.Second)
		if p := progress(t, s, d); p.Last != nil || p.Shards > 400 {
			t.Errorf("back: %+v", p)
		}
		pass(10 * time.Minute)
		if p := progress(t, s, d); p.Last == nil || p.Last.Pass != 1 || p.Last.Shards != 512 {
			t.Errorf("%+v", p)
		}
	})
}

// TestScrubUnreadableState begins anew.
func TestScrubUnreadableState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, dir := newScrubDisk(2, 2, 1000), t.TempDir()
		s := scrubber(t, dir, time.Minute, d)
		if err := os.WriteFile(filepath.Join(dir, "scrub", d.id.String()+".json"), []byte(`{"pass": 3,`), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, s.Run)
		pass(time.Minute)
		if p := progress(t, s, d); p.Last == nil || p.Last.Pass != 1 || p.Last.Shards != 4 {
			t.Errorf("%+v", p)
		}
	})
}

// TestScrubRests: a disk whose reads take long, as under load, has at least half
// of its time for others.
func TestScrubRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScrubDisk(1, 100, 100)
		d.took = 50 * time.Millisecond
		s := scrubber(t, t.TempDir(), time.Hour, d)
		run(t, s.Run)
		synctest.Wait()
		s.StartNow()
		pass(5 * time.Second)
		if n := len(d.times()); n > 52 || n < 40 {
			t.Errorf("%d reads of 50ms in 5s", n)
		}
	})
}

// TestScrubYields: while reads take far longer than at best, the disk is left alone
// for nine tenths of the time; afterwards the scrub is back at its rate.
func TestScrubYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScrubDisk(1, 10_000, 100_000)
		slow := func(took time.Duration) { d.mu.Lock(); d.took = took; d.mu.Unlock() }
		slow(5 * time.Millisecond)
		s := scrubber(t, t.TempDir(), 30*24*time.Hour, d)
		run(t, s.Run)
		synctest.Wait()
		s.StartNow()
		reads := func(during time.Duration) int {
			before := len(d.times())
			pass(during)
			return len(d.times()) - before
		}
		if n := reads(30 * time.Second); n < 290 || n > 320 { // at 1 MiB/s
			t.Errorf("%d reads in 30s of an idle disk", n)
		}
		slow(300 * time.Millisecond)
		if n := reads(2 * time.Minute); n < 10 || n > 45 {
			t.Errorf("%d reads of 300ms in 2m of a busy disk", n)
		}
		slow(5 * time.Millisecond)
		pass(10 * time.Second)
		if n := reads(30 * time.Second); n < 290 || n > 320 {
			t.Errorf("%d reads in 30s of a disk that is idle again", n)
		}
	})
}

// TestScrubOfFailingDisk says so, and goes on when it can.
func TestScrubOfFailingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScrubDisk(2, 10, 1000)
		d.err = errors.New("no answer")
		s := scrubber(t, t.TempDir(), time.Hour, d)
		run(t, s.Run)
		pass(10 * time.Minute)
		if n := len(d.times()); n > 12 || progress(t, s, d).Error != "no answer" {
			t.Errorf("%d reads, %+v", n, progress(t, s, d))
		}
		d.mu.Lock()
		d.err = nil
		d.mu.Unlock()
		pass(time.Hour)
		if p := progress(t, s, d); p.Error != "" || p.Last == nil {
			t.Errorf("%+v", p)
		}
	})
}

// A pass that is asked for in the moment when a disk is lost is not forgotten: either the
// answer leaves the disk out, or it goes on when the disk is back.
func TestScrubAskedAsTheDiskIsLost(t *testing.T) {
	dir := t.TempDir()
	promised, left := 0, 0
	for range 300 {
		s := scrubber(t, dir, time.Hour, newScrubDisk(1, 1, 100))
		w := newWalker(s, s.cfg.Disks()[0])
		ctx, lose := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.run(ctx) })
		var pass uint64
		var ok bool
		wg.Go(func() { pass, ok = w.startNow() })
		lose()
		wg.Wait()
		if !ok {
			left++
			continue
		}
		promised++
		if st, err := loadScrub(s.cfg.Dir, w.disk.ID()); err != nil || st.Pass < pass {
			t.Fatalf("pass %d was promised, the next opening begins with pass %d, %v", pass, st.Pass, err)
		}
	}
	t.Logf("%d promised, %d left out", promised, left)
}
