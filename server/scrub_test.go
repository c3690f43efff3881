//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server"
	"bivalve/server/servertest"
)

// flip changes n random bytes of every segment of the nodes' disks, which have them
// open.
func flip(t *testing.T, r *servertest.Region, nodes []cluster.NodeID, n int, seed uint64) (flipped int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	for _, node := range answered(t, r, "w").Nodes {
		if !slices.Contains(nodes, node.ID) {
			continue
		}
		for _, d := range node.Local.Disks {
			fatal(t, filepath.WalkDir(d.Path, func(path string, e fs.DirEntry, err error) error {
				if err != nil || !strings.HasPrefix(e.Name(), "seg-") {
					return err
				}
				info, err := e.Info()
				if err != nil {
					return err
				}
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					return err
				}
				for range n {
					at, b := random.Int64N(info.Size()), []byte{0}
					if _, err := f.ReadAt(b, at); err != nil {
						return errors.Join(err, f.Close())
					}
					b[0] ^= byte(1 + random.IntN(255))
					if _, err := f.WriteAt(b, at); err != nil {
						return errors.Join(err, f.Close())
					}
					flipped++
				}
				return errors.Join(f.Sync(), f.Close())
			}))
		}
	}
	return flipped
}

// damage sums up what the disks say: damaged now, found and mended so far.
func damage(t *testing.T, r *servertest.Region) (now, found, mended int64) {
	t.Helper()
	for _, n := range answered(t, r, "w").Nodes {
		if n.Local != nil {
			for _, d := range n.Local.Disks {
				now, found, mended = now+d.Damaged, found+d.Found, mended+d.Mended
			}
		}
	}
	return now, found, mended
}

// scrub runs a pass over the whole region and returns when it is over.
func scrub(t *testing.T, r *servertest.Region, via cluster.NodeID) (shards, damaged int64) {
	t.Helper()
	raw, err := r.Node(via).Scrub(t.Context())
	fatal(t, err)
	asked := map[cluster.DiskID]uint64{}
	for _, n := range raw.(*server.ScrubAnswer).Nodes {
		if n.Error != "" {
			t.Fatalf("%+v", n)
		}
		for _, d := range n.Disks {
			asked[d.Disk] = d.Pass
		}
	}
	r.Until("the scrub is over", func(context.Context) error {
		shards, damaged = 0, 0
		left := len(asked)
		for _, n := range answered(t, r, "w").Nodes {
			for _, d := range n.Local.Disks {
				if d.Scrub == nil || d.Scrub.Last == nil || d.Scrub.Last.Pass < asked[d.ID] {
					return fmt.Errorf("disk %s: %+v", d.ID, d.Scrub)
				}
				shards, damaged, left = shards+d.Scrub.Last.Shards, damaged+d.Scrub.Last.Damaged, left-1
			}
		}
		if left != 0 {
			return fmt.Errorf("%d disks have no pass", left)
		}
		return nil
	})
	return shards, damaged
}

// TestScrubAndMend flips bytes on every disk of zone b. A scrub and the mending leave
// nothing damaged; then zone b alone serves all.
func TestScrubAndMend(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	// The log would tell of every damaged shard.
	r := servertest.Start(t, servertest.Options{Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "first")
	l.put("b2", "second")
	flipped := flip(t, r, r.Nodes(servertest.ZoneB), 40, seed)
	l.put("b3", "third")
	shards, damaged := scrub(t, r, "w")
	r.Until("all is mended", func(context.Context) error {
		if now, _, _ := damage(t, r); now > 0 {
			return fmt.Errorf("%d shards are damaged", now)
		}
		return nil
	})
	_, found, mended := damage(t, r)
	t.Logf("%d bytes flipped; the scrub read %d shards and came upon %d damaged; %d were found in all, %d mended", flipped, shards, damaged, found, mended)
	if damaged == 0 || mended != found {
		t.Error("not all was found, or not all mended")
	}
	if again, damaged := scrub(t, r, "a1"); damaged != 0 || again != shards {
		t.Errorf("a second scrub read %d shards (%d before) and found %d damaged", again, shards, damaged)
	}
	r.Kill(r.Nodes(servertest.ZoneA)...)
	l.check("b1")
}

// TestMendWithinTheZone: while a zone has k good shards of a chunk, not a byte comes
// from the other.
func TestMendWithinTheZone(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := servertest.Start(t, servertest.Options{Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "x")
	flip(t, r, []cluster.NodeID{"b2"}, 60, seed) // one of the three shards that the zone has
	_, damaged := scrub(t, r, "b1")
	r.Until("all is mended", func(context.Context) error {
		if now, _, _ := damage(t, r); now > 0 {
			return fmt.Errorf("%d shards are damaged", now)
		}
		return nil
	})
	own, other := r.Node("b2").Counter("bivalve_mended_bytes_total", "own"), r.Node("b2").Counter("bivalve_mended_bytes_total", "other")
	t.Logf("%d shards mended from %.0f bytes of zone b and %.0f of zone a", damaged, own, other)
	if damaged == 0 || own == 0 || other != 0 {
		t.Error("not from its own zone alone")
	}
}

// TestReadersReport: damage that a reader comes upon is mended without a scrub.
func TestReadersReport(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "x")
	flip(t, r, r.Nodes(servertest.ZoneB), 200, seed)
	for round := 0; ; round++ {
		l.check("b1")
		l.check("b2")
		_, found, mended := damage(t, r)
		if found > 0 && found == mended {
			t.Logf("%d shards mended after %d rounds of reading", mended, round+1)
			return
		}
		if round == 200 {
			t.Fatalf("%d found, %d mended", found, mended)
		}
	}
}

// TestReadersMark: shards that readers do not find are counted as missing and healed,
// without a census.
func TestReadersMark(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 2, Logger: slog.New(slog.DiscardHandler)})
	l := newLedger(t, r)
	l.put("a1", "x")
	protected(t, r, "a1")
	lost, err := r.Node("b1").Lose(t.Context(), 1000)
	fatal(t, err)
	r.Until("shards are back", func(context.Context) error {
		l.check("b1")
		l.check("b2")
		for _, n := range answered(t, r, "w").Nodes {
			if n.ID == "b1" && n.Local != nil && n.Local.Disks[0].Shards > 0 {
				t.Logf("%d shards were lost, %d are back", lost, n.Local.Disks[0].Shards)
				return nil
			}
		}
		return errors.New("none yet")
	})
	protected(t, r, "a1")
}

// TestTooMuchDamage: an object of which fewer than k shards are left is not served,
// not even in part, and nothing of it is deleted; when one more is back, all are
// mended.
func TestTooMuchDamage(t *testing.T) {
	r := servertest.Start(t, servertest.Options{Logger: slog.New(slog.DiscardHandler)}) // k = 2, m = 1
	s := r.Node("a1").Stores()
	_, err := s.Buckets.CreateBucket(t.Context(), "few")
	fatal(t, err)
	data := content(3<<20, "x") // one chunk: one shard of 1.5 MiB on every node
	_, err = s.Objects.PutObject(t.Context(), s3api.PutRequest{Bucket: "few", Key: "k", Bytes: int64(len(data)), Body: s3test.NewBody(data)})
	fatal(t, err)
	flipOne := func(nodes ...cluster.NodeID) {
		t.Helper()
		for _, n := range answered(t, r, "w").Nodes {
			if slices.Contains(nodes, n.ID) {
				segments, err := filepath.Glob(filepath.Join(n.Local.Disks[0].Path, "seg-*.large"))
				if err != nil || len(segments) != 1 {
					t.Fatal(segments, err)
				}
				f, err := os.OpenFile(segments[0], os.O_RDWR, 0)
				fatal(t, err)
				const at = 500_000 // in the only payload
				b := []byte{0}
				_, err = f.ReadAt(b, at)
				fatal(t, err)
				b[0] ^= 1
				_, err = f.WriteAt(b, at)
				fatal(t, errors.Join(err, f.Sync(), f.Close()))
			}
		}
	}
	flipOne("a1", "a2", "a3", "b1", "b3")
	if _, damaged := scrub(t, r, "a1"); damaged != 5 {
		t.Errorf("%d shards were found damaged", damaged)
	}
	r.Until("the damage is known to stay", func(context.Context) error {
		stuck := 0
		for _, n := range answered(t, r, "w").Nodes {
			for _, d := range n.Local.Disks {
				if d.Stuck != nil && strings.Contains(d.Stuck.Why, "cannot be mended now: 1 of 2 shards") {
					stuck += d.Stuck.Shards
				}
			}
		}
		if stuck != 5 {
			return fmt.Errorf("%d shards are stuck", stuck)
		}
		return nil
	})
	for _, n := range []cluster.NodeID{"a1", "b2"} {
		if got, err := read(t.Context(), r.Node(n).Stores(), "few", "k"); err == nil || len(got) > 0 {
			t.Errorf("%d bytes of it through %s, %v", len(got), n, err)
		}
	}
	flipOne("a3") // back
	r.Until("all is mended", func(context.Context) error {
		if now, _, _ := damage(t, r); now > 0 {
			return fmt.Errorf("%d shards are damaged", now)
		}
		return nil
	})
	r.Kill("a3", "b2") // the two that were well
	r.Until("the object is read from mended shards", func(context.Context) error {
		got, err := read(t.Context(), s, "few", "k")
		if err == nil && !bytes.Equal(got, data) {
			t.Fatal("other bytes")
		}
		return err
	})
}
