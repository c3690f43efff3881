package upkeep

import (
	"context"
	"fmt"

	"bivalve/cluster"
	"bivalve/metadata"
)

// strayBatch is how many blobs are asked for at a time that no record of the window is.
const strayBatch = 5000

// stray counts shards that no record of the window wants where they are.
func (w *censusWindow) stray(ctx context.Context, k cluster.ShardKey, shards int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	row, known := w.rows[k.Blob]
	switch {
	case known && len(row.Owners) > 0:
		w.sum.Misplaced += shards
		return nil
	case known:
		w.sum.Garbage += shards
		return nil
	}
	if w.strays[metadata.BlobID(k.Blob)] += shards; len(w.strays) < strayBatch {
		return nil
	}
	return w.ask(ctx)
}

func (w *censusWindow) askStrays(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ask(ctx)
}

// ask has the partition say what it knows of blobs that came up in lists.
func (w *censusWindow) ask(ctx context.Context) error {
	ids := make([]metadata.BlobID, 0, len(w.strays))
	for id := range w.strays {
		ids = append(ids, id)
	}
	states, err := w.c.cfg.Index.BlobStates(ctx, w.g, ids)
	if err != nil {
		return err
	}
	if len(states) != len(ids) {
		return fmt.Errorf("%w: %d answers for %d blobs", metadata.ErrMalformed, len(states), len(ids))
	}
	for i, id := range ids {
		switch young := w.c.cfg.Now().UnixMilli() - cluster.BlobID(id).UnixMilli(); {
		case states[i] == metadata.BlobHeld: // since the records were read
		case states[i] == metadata.BlobGarbage:
			w.sum.Garbage += w.strays[id]
		case young < w.c.cfg.Age.Milliseconds():
			w.sum.Young += w.strays[id]
		default:
			w.sum.Orphans += w.strays[id]
		}
	}
	clear(w.strays)
	return nil
}
