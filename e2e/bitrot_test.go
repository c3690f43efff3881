//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// flipsPerFile is how many bytes of each file are changed.
const flipsPerFile = 40

// TestBitRot flips bytes in the files of every disk of zone b while clients read
// and write. No client sees a wrong byte or an error; a scrub finds the damage, it is
// mended in place, and then zone b alone serves everything.
func TestBitRot(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := startDemo(t, options{})
	const bucket = "rot"
	r.makeBucket(t, bucket)
	l := newLedger(bucket)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	first := r.client(t, r.endpoint(t, "a"))
	sizes := []int{20_000, 100_000, 1 << 20, 3<<20 + 12345, 9<<20 + 1}
	for i := range 60 {
		if err := l.put(ctx, first, fmt.Sprintf("before/%d", i), seed+uint64(i), sizes[i%len(sizes)]); err != nil {
			t.Fatal(err)
		}
	}

	// A stop writes the indexes out of memory, so that what is flipped in them counts.
	if err := errors.Join(r.stop(), r.start()); err != nil {
		t.Fatal(err)
	}

	load := &rotLoad{t: t, l: l, seed: seed}
	bg, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for i, e := range r.endpoints(t) {
		c := r.impatient(t, e)
		wg.Go(func() { load.read(bg, i, c) })
		wg.Go(func() { load.write(bg, i, c) })
	}
	eventually(t, time.Minute, "clients are at work", load.moved(100))
	files, bytes := r.flipBytes(t, "b", seed)
	eventually(t, time.Minute, "clients went on", load.moved(load.done.Load()+300))

	out := r.bivalve(t, "admin", "scrub", "--dir", r.dir, "--wait", "--json")
	var result struct {
		Disks, Shards, Bytes, Mended, Remaining int64
		Damaged                                 int64 `json:"damaged_found"`
		Seconds                                 float64
		Problems                                []string
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err, out)
	}
	stop()
	wg.Wait()
	var now, found, mended int64
	shards := map[string]int64{}
	for _, n := range r.status(t).Nodes {
		for _, d := range n.Local.Disks {
			now, found, mended = now+d.Damaged, found+d.Found, mended+d.Mended
			shards[string(n.Zone)] += d.Shards
		}
	}
	acked, refused := l.count()
	t.Logf("%d bytes flipped in %d files; %d shards were damaged, %d mended, %d are left; the scrub read %d shards, %s in %.1f s and came upon %d of them damaged",
		bytes, files, found, mended, now, result.Shards, mib(result.Bytes), result.Seconds, result.Damaged)
	t.Logf("%d reads and %d writes meanwhile, %d of them failed or were wrong; zone a holds %d shards, zone b %d",
		load.reads.Load(), acked-60, load.bad.Load(), shards["a"], shards["b"])
	if found == 0 || now != 0 || mended != found || result.Remaining != 0 || refused != 0 {
		t.Errorf("found %d, mended %d, left %d; the scrub says %s", found, mended, now, out)
	}
	// A second one finds nothing on disks whose indexes were left alone. A flipped page
	// of an index can hide shards until somebody comes upon it and it is rebuilt.
	before := mended
	if text := r.bivalve(t, "admin", "scrub", "--dir", r.dir, "--wait"); !strings.Contains(text, " 0 remain") {
		t.Errorf("a second scrub: %s", text)
	}
	for _, n := range r.status(t).Nodes {
		for _, d := range n.Local.Disks {
			if d.Damaged != 0 || n.ID != "b1" && d.Scrub.Last.Damaged != 0 {
				t.Errorf("disk %s of %s after a second scrub: %d damaged, %+v", d.ID, n.ID, d.Damaged, d.Scrub.Last)
			}
			before -= d.Mended
		}
	}
	t.Logf("a second scrub had %d more shards mended", -before)

	r.stopZone(t, "a")
	eventually(t, 30*time.Second, "zone a is down", func() error {
		if !r.zoneDown(t, "a") {
			return errors.New("zone a is up")
		}
		return nil
	})
	var clients []*s3.Client
	for _, e := range r.info(t).Endpoints["b"] {
		clients = append(clients, r.client(t, e))
	}
	l.verify(t, clients...)
	t.Logf("%d objects read back from zone b alone", acked)
}

// flipBytes changes random bytes of every segment of 64 KiB and more on the zone's
// disks, and of the indexes of one node, under the servers that have them open.
func (r *region) flipBytes(t testing.TB, zone string, seed uint64) (files, bytes int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	for _, n := range r.info(t).Nodes {
		if n.Zone != zone {
			continue
		}
		index := "" // of one node alone: a zone whose disks are all opened again is down
		if n.ID == zone+"1" {
			index = "index.bolt"
		}
		for _, d := range n.Disks {
			err := filepath.WalkDir(d, func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), "seg-") && e.Name() != index {
					return err
				}
				info, err := e.Info()
				if err != nil || info.Size() < 64<<10 && e.Name() != index {
					return err
				}
				files, bytes = files+1, bytes+flipsPerFile
				return flipFile(path, info.Size(), random)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return files, bytes
}

func flipFile(path string, size int64, random *rand.Rand) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for range flipsPerFile {
		at, b := random.Int64N(size), []byte{0}
		if _, err = f.ReadAt(b, at); err != nil {
			break
		}
		b[0] ^= byte(1 + random.IntN(255))
		if _, err = f.WriteAt(b, at); err != nil {
			break
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// rotLoad is clients that read the ledger and add to it, without retries.
type rotLoad struct {
	t    *testing.T
	l    *ledger
	seed uint64

	done, reads, bad atomic.Int64
}

func (w *rotLoad) moved(n int64) func() error {
	return func() error {
		if at := w.done.Load(); at < n {
			return fmt.Errorf("%d of %d requests", at, n)
		}
		return nil
	}
}

func (w *rotLoad) failed(what string, err error) {
	if w.bad.Add(1) <= 10 {
		w.t.Errorf("%s: %v", what, err)
	}
}

func (w *rotLoad) read(ctx context.Context, i int, c *s3.Client) {
	random := rand.New(rand.NewPCG(w.seed, uint64(100+i)))
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		key, want := w.l.pick(random)
		body, err := fetch(ctx, c, w.l.bucket, key)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.failed("get "+key, err)
		case sumBytes(body) != want:
			w.failed("get "+key, fmt.Errorf("%d bytes that are not those that were put", len(body)))
		}
		w.done.Add(1)
		w.reads.Add(1)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (w *rotLoad) write(ctx context.Context, i int, c *s3.Client) {
	sizes := []int{1000, 40_000, 300_000, 2 << 20}
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("during/%d/%d", i, n)
		// What is under way at the end is awaited: its outcome would be unknown.
		if err := w.l.put(context.WithoutCancel(ctx), c, key, w.seed^uint64(i<<32|n), sizes[n%len(sizes)]); err != nil {
			w.failed("put "+key, err)
		}
		w.done.Add(1)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// pick is any acknowledged object.
func (l *ledger) pick(random *rand.Rand) (key, sum string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := random.IntN(len(l.acked))
	for key, sum = range l.acked {
		if n--; n < 0 {
			break
		}
	}
	return key, sum
}
