//go:build e2e

package chaos

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
)

var ledgerSizes = []int{0, 500, 16 << 10, 16<<10 + 1, 60_000, 60_000, 150_000, 300_000, 1 << 20}

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// keep is one turn with the ledger: put a fresh key, or read or delete one that was
// acknowledged to any client.
func (w *worker) keep(n int) {
	node, verb, size, which := w.nodes[w.rng.IntN(len(w.nodes))], w.rng.IntN(100), w.rng.IntN(len(ledgerSizes)), w.rng.Uint64()
	key := fmt.Sprintf("l/%02d/%05d", w.id, n)
	switch {
	case verb < 52:
		w.share(key, w.enter(node, key, Noise(key, ledgerSizes[size])))
	case verb < 55:
		const part = 5 << 20
		w.share(key, w.enter(node, key, Noise(key, part+ledgerSizes[size])))
	case verb < 85:
		if key, ok := w.known(which, false); ok {
			w.lookup(node, key)
		}
	default:
		if key, ok := w.known(which, true); ok {
			w.strike(node, key)
		}
	}
}

// known picks an acknowledged key; one that is taken is nobody else's any more.
func (c *crowd) known(which uint64, take bool) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acked) == 0 {
		return "", false
	}
	i := int(which % uint64(len(c.acked)))
	key := c.acked[i]
	if take {
		c.acked = slices.Delete(c.acked, i, i+1)
	}
	return key, true
}

// enter puts a fresh key; what is longer than a part goes as several.
func (w *worker) enter(n *node, key string, body []byte) (a answer) {
	const part = 5 << 20
	parts := [][]byte{body}
	var id string
	if len(body) > part {
		parts = [][]byte{body[:part], body[part:]}
		var ok bool
		if id, ok = w.upload(n, ledgerBucket, key, parts...); !ok {
			return answer{Outcome: Nothing}
		}
	}
	w.ledger.Putting(key, sumOf(body), w.now())
	if id != "" {
		a = w.client.complete(context.Background(), n, ledgerBucket, key, id, parts...)
	} else {
		a = w.client.do(context.Background(), n, request{method: http.MethodPut, path: "/" + ledgerBucket + "/" + key, body: body})
	}
	w.ledger.Put(key, a.Outcome, w.now())
	w.count(w.zone, true, "PUT "+key, a)
	return a
}

// share lets all clients read and delete a key.
func (c *crowd) share(key string, a answer) {
	if a.Outcome != Done {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = append(c.acked, key)
}

// lookup reads a key of the ledger.
func (w *worker) lookup(n *node, key string) (a answer) {
	from := w.now()
	a = w.client.do(context.Background(), n, request{method: http.MethodGet, path: "/" + ledgerBucket + "/" + key})
	to := w.now()
	w.count(w.zone, false, "GET "+key, a)
	if a.Outcome != Done && a.Outcome != Missing {
		return a
	}
	if err := w.ledger.Judge(key, a.Outcome == Done, sumOf(a.body), from, to); err != nil {
		w.broken("GET via %s: %v", n.id, err)
	}
	return a
}

// strike deletes a key of the ledger.
func (w *worker) strike(n *node, key string) {
	w.ledger.Removing(key, w.now())
	a := w.client.do(context.Background(), n, request{method: http.MethodDelete, path: "/" + ledgerBucket + "/" + key})
	w.ledger.Removed(key, a.Outcome, w.now())
	w.count(w.zone, true, "DELETE "+key, a)
}

// walk lists the ledger, or one client's part of it, page by page.
func (w *worker) walk(int) {
	node, prefix, most := w.nodes[w.rng.IntN(len(w.nodes))], "l/", []int{1000, 130, 17}[w.rng.IntN(3)]
	if who := w.rng.IntN(16); most < 100 {
		prefix = fmt.Sprintf("l/%02d/", who)
	}
	walk, ok := w.walkAll(node, prefix, most)
	if !ok {
		return
	}
	for _, text := range w.ledger.Listed(walk) {
		w.broken("LIST %q via %s by pages of %d: %s", prefix, node.id, most, text)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.walks++
}

// walkAll lists to the end; a page that does not come ends it.
func (w *worker) walkAll(n *node, prefix string, most int) (Walk, bool) {
	walk := Walk{Prefix: prefix, From: w.now()}
	for token := ""; ; {
		p, a := w.client.list(context.Background(), n, ledgerBucket, prefix, token, most)
		if !w.count(w.zone, false, "LIST "+prefix, a) || a.Outcome != Done {
			return walk, false
		}
		var keys []string
		for _, c := range p.Contents {
			keys = append(keys, c.Key)
		}
		walk.Pages = append(walk.Pages, keys)
		if !p.IsTruncated {
			break
		}
		if token = p.NextContinuationToken; token == "" {
			w.broken("LIST %q via %s: a page that is not the last has no token", prefix, n.id)
			return walk, false
		}
	}
	walk.To = w.now()
	return walk, true
}
