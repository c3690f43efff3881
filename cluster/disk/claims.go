package disk

import (
	"context"
	"fmt"
	"sync"

	"bivalve/cluster"
)

// claims lets one writer at a time look a key up, write and change the index.
// Without it a tombstone and a shard of one key could be synced in one order and
// enter the index in the other.
type claims struct {
	mu   sync.Mutex
	held map[cluster.ShardKey]chan struct{} // nil until somebody waits
}

// take claims all the keys at once, or waits; so two takers cannot deadlock. It
// gives up when hung is closed.
func (c *claims) take(ctx context.Context, keys []cluster.ShardKey, hung <-chan struct{}) error {
	for {
		c.mu.Lock()
		if c.held == nil {
			c.held = map[cluster.ShardKey]chan struct{}{}
		}
		var wait chan struct{}
		for _, k := range keys {
			if ch, ok := c.held[k]; ok {
				if ch == nil {
					ch = make(chan struct{})
					c.held[k] = ch
				}
				wait = ch
				break
			}
		}
		if wait == nil {
			for _, k := range keys {
				c.held[k] = nil
			}
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		case <-hung:
			return fmt.Errorf("%w: it hangs", cluster.ErrDiskFailed)
		}
	}
}

func (c *claims) release(keys []cluster.ShardKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if ch := c.held[k]; ch != nil {
			close(ch)
		}
		delete(c.held, k)
	}
}
