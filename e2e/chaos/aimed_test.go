//go:build e2e

package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestAimed does to a region what no check may be missing for. Each part is aimed at one
// of them: on a program that leaves that check out it is red for certain, which no
// schedule of drawn faults is; see scripts/chaos_checkers.sh.
func TestAimed(t *testing.T) {
	needNetworks(t)
	r := startRegion(t, shape{disks: 1})
	a := &aimed{region: r, client: r.client("a")}
	if got := a.client.do(t.Context(), r.node("a1"), request{method: http.MethodPut, path: "/aimed"}); got.Outcome != Done {
		t.Fatalf("create bucket: %s", got)
	}
	t.Run("a node that has fallen behind answers nothing old", a.fallBehind)
	t.Run("one of many who create a key succeeds", a.race)
	t.Run("nothing is rebuilt of what rots", a.rot)
	t.Run("a read outlives the object", a.outlive)
	for _, text := range r.crashes() {
		t.Errorf("CRASH: %s", text)
	}
}

// aimed is a region and one client of it.
type aimed struct {
	*region
	client *client
}

// put puts an object, again if it certainly was not put.
func (a *aimed) put(t *testing.T, n *node, key string, body []byte) {
	t.Helper()
	var got answer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := until(ctx, 200*time.Millisecond, func() error {
		if got = a.client.do(ctx, n, request{method: http.MethodPut, path: "/aimed/" + key, body: body}); got.Outcome != Done {
			return fmt.Errorf("PUT %s via %s: %s", key, n.id, got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (a *aimed) get(t *testing.T, n *node, key string) answer {
	return a.client.do(t.Context(), n, request{method: http.MethodGet, path: "/aimed/" + key})
}

func (a *aimed) whole(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wholeWithin)
	defer cancel()
	if err := a.healthy(ctx); err != nil {
		t.Fatal(err)
	}
}

// fallBehind cuts a voter off from the leader of its group, and from nobody else, and has
// the leader overwrite what it holds records of.
func (a *aimed) fallBehind(t *testing.T) {
	const keys, group = 48, 1 // so many that the group has some of them for certain
	leader, err := a.leader(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := a.follower(t.Context(), group, leader)
	if err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("behind/%02d", i) }
	for i := range keys {
		a.put(t, leader, name(i), []byte("old"))
	}
	for i := range keys {
		a.reads(t, behind, name(i), "old") // it has applied what it may tell of later
	}
	undo, err := a.net.rule(bothWays(behind.host.addr, leader.host.addr, "drop"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		a.put(t, leader, name(i), []byte("new"))
	}
	var g errgroup.Group
	g.SetLimit(16)
	for i := range keys {
		g.Go(func() error {
			if got := a.get(t, behind, name(i)); (got.Outcome == Done || got.Outcome == Missing) && string(got.body) != "new" {
				t.Errorf("BROKEN: %s is answered %q after %q was acknowledged, by %s, which does not hear %s", name(i), got.body, "new", behind.id, leader.id)
			}
			return nil
		})
	}
	if err := errors.Join(g.Wait(), undo()); err != nil {
		t.Fatal(err)
	}
	a.whole(t)
	for i := range keys {
		a.reads(t, behind, name(i), "new")
	}
}

// follower is a voter of a group, of the data zones, that does not lead it.
func (a *aimed) follower(ctx context.Context, group int, leader *node) (*node, error) {
	s, err := a.status(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range s.Groups {
		for _, id := range g.Voters {
			if n := a.node(string(id)); int(g.Group) == group && n != leader && n.zone != "w" {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("nobody follows %s in group %d", leader.id, group)
}

// reads waits until a key is read so.
func (a *aimed) reads(t *testing.T, n *node, key, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := until(ctx, 50*time.Millisecond, func() error {
		if got := a.get(t, n, key); got.Outcome != Done || string(got.body) != want {
			return fmt.Errorf("GET %s via %s: %s %q", key, n.id, got, got.body)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// race has many create the same key at once, through all nodes, on condition that it is
// not there.
func (a *aimed) race(t *testing.T) {
	const rounds, each = 20, 3
	nodes := a.zone("")
	for i := range rounds {
		var mu sync.Mutex
		won, open := 0, 0
		var all sync.WaitGroup
		for j := range each * len(nodes) {
			all.Go(func() {
				n := nodes[j%len(nodes)]
				got := a.client.do(t.Context(), n, request{method: http.MethodPut, path: fmt.Sprintf("/aimed/race/%02d", i),
					header: map[string]string{"If-None-Match": "*"}, body: fmt.Appendf(nil, "%d via %s", j, n.id)})
				mu.Lock()
				defer mu.Unlock()
				switch got.Outcome {
				case Done:
					won++
				case Unmet, Nothing:
				case Unknown:
					open++
				default:
					t.Errorf("PUT via %s: %s", n.id, got)
				}
			})
		}
		all.Wait()
		if won > 1 || won+open == 0 {
			t.Errorf("BROKEN: %d of %d who created a key at once succeeded, %d do not know", won, each*len(nodes), open)
		}
	}
}

// rot damages every shard of a disk and then empties that of another node of the zone.
// With k = 2 and m = 1 what is left of the zone holds k shards of every chunk, one of
// which is damaged.
func (a *aimed) rot(t *testing.T) {
	const objects, size = 24, 1 << 20
	rotten, wiped := a.node("a1"), a.node("a2")
	name := func(i int) string { return fmt.Sprintf("rot/%02d", i) }
	for i := range objects {
		a.put(t, rotten, name(i), Noise(name(i), size))
	}
	if err := a.quiet(t.Context()); err != nil {
		t.Fatal(err)
	}
	flips, err := flipBlocks(rotten.disks[0])
	if err != nil || flips < objects {
		t.Fatalf("%d bytes were flipped: %v", flips, err)
	}
	dir := wiped.disks[0]
	if err := errors.Join(empty(dir), a.noticed(wiped, dir), a.replaceDisk(wiped, dir)); err != nil {
		t.Fatal(err)
	}
	for i := range objects {
		for _, n := range a.zone("") {
			got := a.get(t, n, name(i))
			if got.Outcome != Done {
				t.Errorf("GET %s via %s: %s", name(i), n.id, got)
			} else if !bytes.Equal(got.body, Noise(name(i), size)) {
				t.Errorf("BROKEN: %s has wrong bytes, read via %s", name(i), n.id)
			}
		}
	}
	if err := a.scrubbed(); err != nil {
		t.Fatal(err)
	}
	a.whole(t)
}

// flipBlocks changes one byte in every 64 KiB of the large segments of a disk: some in
// each of their shards.
func flipBlocks(dir string) (flips int, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(e.Name(), ".large") {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		end, err := dataEnd(f)
		for at := int64(superblock + 40_000); err == nil && at < end; at += 64 << 10 {
			var b [1]byte
			if _, err = f.ReadAt(b[:], at); err == nil {
				b[0] ^= 0x55
				_, err = f.WriteAt(b[:], at)
				flips++
			}
		}
		return err
	})
	return flips, err
}

// outlive begins to read an object, has it deleted, waits until whoever removes garbage
// has looked, and reads on.
func (a *aimed) outlive(t *testing.T) {
	const key = "outlived"
	body := Noise(key, 48<<20) // more than a node reads ahead and a connection holds
	a.put(t, a.node("a2"), key, body)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := a.client.send(ctx, a.node("a1"), request{method: http.MethodGet, path: "/aimed/" + key})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 64<<10)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	if got := a.client.do(ctx, a.node("a2"), request{method: http.MethodDelete, path: "/aimed/" + key}); got.Outcome != Done {
		t.Fatalf("DELETE: %s", got)
	}
	sleep(ctx, 8*time.Second) // they look every five, a quarter of the grace
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(append(first, rest...), body) {
		t.Errorf("BROKEN: a read that began before the object was deleted got %d of its %d bytes: %v", len(first)+len(rest), len(body), err)
	}
}
