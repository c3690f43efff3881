//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bivalve/metadata/replica"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const racers = 64

// TestRace lets 64 clients create the same key. One of them is told that it did,
// and what it wrote is what is there; in some rounds the node that leads the
// key's metadata group is killed in between.
func TestRace(t *testing.T) {
	rounds := int(sized(200, 30))
	r := startDemo(t, options{})
	r.makeBucket(t, "race")
	c := &contest{t: t, r: r}
	for _, e := range r.endpoints(t) {
		c.clients = append(c.clients, r.impatient(t, e))
	}
	kills, leaderless := 0, 0
	for round := range rounds {
		key := fmt.Sprintf("key-%d", round)
		if round%10 != 9 {
			c.round(key, round, nil)
			continue
		}
		r.allUp(t)
		leader := c.leaderOf(key)
		// After some of the answers, a different number each time.
		c.round(key, round, &kill{node: leader, after: int64(round * 7 % racers)})
		kills++
		if c.unknown > 0 && !c.claimed {
			leaderless++
		}
		r.startNode(t, leader)
	}
	t.Logf("%d rounds, %d leaders killed, %d answers of unknown outcome; in %d rounds the winner was one of those",
		rounds, kills, c.unknowns, leaderless)
}

type contest struct {
	t       *testing.T
	r       *region
	clients []*s3.Client

	unknowns int // of all rounds
	unknown  int // of the last
	claimed  bool
}

// kill says which node dies after how many answers.
type kill struct {
	node  string
	after int64
}

// leaderOf finds the group of a key by what a write to it moves, and who leads
// it. The key is gone again afterwards.
func (c *contest) leaderOf(key string) string {
	t := c.t
	client := c.r.client(t, c.r.endpoint(t, "a"))
	ctx := t.Context()
	before := c.applied()
	const writes = 3
	for range writes {
		if err := put(ctx, client, "race", key, bytes.NewReader([]byte("x"))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("race"), Key: &key}); err != nil {
		t.Fatal(err)
	}
	after := c.applied()
	var found replica.GroupID
	for g, n := range after {
		if g != 0 && n-before[g] > after[found]-before[found] || found == 0 && g != 0 {
			found = g
		}
	}
	if after[found]-before[found] < writes+1 {
		t.Fatalf("no group moved: %v, then %v", before, after)
	}
	for _, g := range c.r.status(t).Groups {
		if g.Group == found && g.Leader != "" && g.Leader != "w1" {
			return string(g.Leader)
		}
	}
	t.Fatalf("group %d has no leader among the storage nodes", found)
	return ""
}

// applied is how far each group has come.
func (c *contest) applied() map[replica.GroupID]uint64 {
	out := map[replica.GroupID]uint64{}
	for _, n := range c.r.status(c.t).Nodes {
		if n.Local != nil {
			for _, g := range n.Local.Groups {
				out[g.Group] = max(out[g.Group], g.Applied)
			}
		}
	}
	return out
}

// round runs one race and judges it.
func (c *contest) round(key string, round int, k *kill) {
	t := c.t
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var winners, doubtful []int
	bodies := make([][]byte, racers)
	// Some inline in the metadata, some as shards on the disks.
	size := []int{100, 40 << 10}[round%2]
	start := make(chan struct{})
	var answers atomic.Int64
	var once sync.Once
	var wg sync.WaitGroup
	for i := range racers {
		bodies[i] = noiseBytes(uint64(round*racers+i), size)
		wg.Go(func() {
			<-start
			won, doubt, err := c.race(ctx, i, key, bodies[i], func() {
				if k != nil && answers.Add(1) > k.after {
					once.Do(func() { c.r.killNode(t, k.node) })
				}
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("round %d, client %d: %v", round, i, err)
			}
			if won {
				winners = append(winners, i)
			}
			if doubt > 0 {
				doubtful = append(doubtful, i)
				c.unknowns += doubt
			}
		})
	}
	close(start)
	wg.Wait()
	c.unknown, c.claimed = len(doubtful), len(winners) > 0

	content, err := c.content(ctx, key, round)
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	owner := -1
	for i := range bodies {
		if bytes.Equal(content, bodies[i]) {
			owner = i
		}
	}
	switch {
	case len(winners) > 1:
		t.Errorf("round %d: clients %v were all told that they made the key", round, winners)
	case len(winners) == 1 && owner != winners[0]:
		t.Errorf("round %d: client %d made the key, but it holds what client %d wrote", round, winners[0], owner)
	case len(winners) == 0 && len(doubtful) == 0:
		t.Errorf("round %d: nobody made the key, and nobody is in doubt", round)
	case len(winners) == 0:
		for _, i := range doubtful {
			if i == owner {
				return
			}
		}
		t.Errorf("round %d: the key holds what client %d wrote, who was told that it did not; in doubt are %v", round, owner, doubtful)
	}
}

// race puts until the outcome is known: 200, or 412 or 409. Anything else says
// nothing about whether it was done, so another node is asked.
func (c *contest) race(ctx context.Context, i int, key string, body []byte, answered func()) (won bool, doubt int, err error) {
	for try := 0; ; try++ {
		rctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, err := c.clients[(i+try)%len(c.clients)].PutObject(rctx, &s3.PutObjectInput{Bucket: aws.String("race"), Key: &key,
			Body: bytes.NewReader(body), IfNoneMatch: aws.String("*")})
		cancel()
		answered()
		if err == nil {
			return true, doubt, nil
		}
		switch status, _ := statusOf(err); {
		case status == http.StatusPreconditionFailed || status == http.StatusConflict:
			return false, doubt, nil
		case ctx.Err() != nil:
			return false, doubt, err
		case status != 0 && status < 500:
			return false, doubt, fmt.Errorf("an answer that has no place here: %w", err)
		}
		doubt++
	}
}

// content reads the key through one node after the other until one answers.
func (c *contest) content(ctx context.Context, key string, round int) ([]byte, error) {
	for i := 0; ; i++ {
		body, err := fetch(ctx, c.clients[(round+i)%len(c.clients)], "race", key)
		if err == nil || ctx.Err() != nil {
			return body, err
		}
		if status, _ := statusOf(err); status == http.StatusNotFound {
			return nil, err
		}
	}
}
