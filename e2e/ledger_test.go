//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// ledger is what clients were told is stored: the SHA-256 of each acknowledged
// object. Every key is written once, so that an unknown outcome leaves no doubt
// about the others.
type ledger struct {
	bucket string

	mu      sync.Mutex
	acked   map[string]string
	refused int // puts that were not acknowledged
}

func newLedger(bucket string) *ledger { return &ledger{bucket: bucket, acked: map[string]string{}} }

func (l *ledger) ack(key, sum string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[key] = sum
}

func (l *ledger) count() (acked, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked), l.refused
}

// put stores noise under a fresh key and enters it when it is acknowledged.
func (l *ledger) put(ctx context.Context, c *s3.Client, key string, seed uint64, size int) error {
	body := noiseBytes(seed, size)
	err := put(ctx, c, l.bucket, key, bytes.NewReader(body))
	if err == nil {
		l.ack(key, sumBytes(body))
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
	return err
}

// verify reads every acknowledged object back, spread over the clients.
func (l *ledger) verify(t testing.TB, clients ...*s3.Client) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(8)
	var lost, wrong atomic.Int64
	var first sync.Once
	i := 0
	for key, want := range l.acked {
		c := clients[i%len(clients)]
		i++
		g.Go(func() error {
			body, err := fetch(ctx, c, l.bucket, key)
			switch {
			case err != nil:
				lost.Add(1)
			case sumBytes(body) != want:
				wrong.Add(1)
				err = fmt.Errorf("%d bytes that are not those that were acknowledged", len(body))
			default:
				return nil
			}
			first.Do(func() { t.Errorf("acknowledged object %s: %v", key, err) })
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, w := lost.Load(), wrong.Load(); n+w > 0 {
		t.Errorf("of %d acknowledged objects %d cannot be read and %d are wrong", len(l.acked), n, w)
	}
}
