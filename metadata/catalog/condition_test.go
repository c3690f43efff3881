package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// gathered lets proposals through once so many have come, or their callers gave up:
// whoever looks before it proposes has looked by then.
type gathered struct {
	catalog.Groups
	all *sync.WaitGroup
}

func (g gathered) Propose(ctx context.Context, id replica.GroupID, data []byte) ([]byte, error) {
	g.all.Done()
	g.all.Wait()
	return g.Groups.Propose(ctx, id, data)
}

// TestConditionsRace: of many who put a key only if it is not there, or only over the
// same version, exactly one succeeds.
func TestConditionsRace(t *testing.T) {
	const writers = 32
	groups := catalogtest.Open(t, 2)
	plain := groups.Catalog(t)
	b := bucket(t, plain, "races")
	if err := put(plain, b.ID, "there"); err != nil {
		t.Fatal(err)
	}
	for key, cond := range map[string]metadata.Condition{
		"new":   {IfNoneMatchAny: true},
		"there": {IfMatch: "there"},
	} {
		var all, done sync.WaitGroup
		all.Add(writers)
		c := must(catalog.New(catalog.Config{Groups: gathered{groups, &all}, Local: groups, Partitions: 2}))(t)
		var mu sync.Mutex
		won := 0
		for i := range writers {
			done.Go(func() {
				_, err := c.PutVersion(t.Context(), metadata.Version{Bucket: b.ID, Key: key, ID: metadata.NullVersion, ETag: fmt.Sprint(i)}, cond)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, metadata.ErrConditionFailed) {
					t.Error(err)
				}
			})
		}
		done.Wait()
		if won != 1 {
			t.Errorf("%d of %d writers of %q succeeded where one may", won, writers, key)
		}
	}
}
