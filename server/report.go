package server

import (
	"context"
	"time"

	"bivalve/metadata"

	"github.com/fxamacker/cbor/v2"
)

// keepReported keeps the region informed of something that this node alone knows: a
// row of the root group under the prefix and the node's id, which nobody else writes.
// Every so often news says what the row should be, and whether the region does not
// know it yet. What could not be written is tried again at the next look.
func (n *Node) keepReported(ctx context.Context, prefix string, every time.Duration, news func() (row any, is bool)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		row, is := news()
		if !is {
			continue
		}
		value, err := cbor.Marshal(row)
		if err != nil {
			return err
		}
		pctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err = n.catalog.PutConfig(pctx, metadata.PutConfig{Key: prefix + string(n.self.ID), Value: value, Any: true})
		cancel()
		if err == nil {
			err = n.region.refresh()
		}
		if err != nil {
			n.logger.Debug("the region is not informed yet", "of", prefix, "err", err)
		}
	}
}
