// Package catalogtest serves tests of the catalog and of what stands upon it:
// Groups is every metadata group of a region as a bare index in this process,
// applied in the order of arrival, without raft.
package catalogtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/index"
	"bivalve/metadata/replica"

	"go.etcd.io/bbolt"
)

// Stats adds up what all partitions of a catalog hold.
func Stats(ctx context.Context, c *catalog.Catalog) (metadata.Stats, error) {
	sum := metadata.Stats{AtRisk: map[string]int64{}}
	for g := 1; g <= c.Partitions(); g++ {
		s, err := c.GroupStats(ctx, replica.GroupID(g))
		if err != nil {
			return sum, err
		}
		sum.Add(s)
	}
	return sum, nil
}

// Groups stands for a replica.Router and for the node's own copy of the root
// group alike. The hooks are set before use.
type Groups struct {
	// OnPropose is asked before a command is applied. apply says whether it takes
	// effect; err, if not nil, is what the caller hears either way, so that "failed"
	// and "done but reported failed" can be told apart.
	OnPropose func(ctx context.Context, g replica.GroupID, kind metadata.CommandKind, c metadata.Command) (apply bool, err error)
	// OnQuery is asked before a query; its error is the answer.
	OnQuery func(ctx context.Context, g replica.GroupID, kind metadata.QueryKind) error
	// Local, if set, answers QueryLocal in place of the present state: a copy that
	// is behind.
	Local func(g replica.GroupID, q []byte) ([]byte, error)

	groups []*group
}

type group struct {
	mu sync.Mutex
	ix *index.Index
	at uint64
}

// Open makes the root group and the partitions in a folder of the test.
func Open(t testing.TB, partitions int) *Groups {
	t.Helper()
	g := &Groups{}
	dir := t.TempDir()
	for i := range partitions + 1 {
		ix, err := index.Open(filepath.Join(dir, fmt.Sprintf("%d.db", i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ix.Close(); err != nil {
				t.Error(err)
			}
		})
		g.groups = append(g.groups, &group{ix: ix})
	}
	return g
}

// Catalog answers a catalog over the groups.
func (g *Groups) Catalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, err := catalog.New(catalog.Config{Groups: g, Local: g, Partitions: len(g.groups) - 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Propose applies one command.
func (g *Groups) Propose(ctx context.Context, id replica.GroupID, data []byte) ([]byte, error) {
	apply, answer := true, error(nil)
	if g.OnPropose != nil {
		c, err := metadata.ParseCommand(data)
		if err != nil {
			return nil, err
		}
		apply, answer = g.OnPropose(ctx, id, c.Kind, c)
	}
	if !apply {
		if answer == nil {
			answer = replica.ErrUnavailable
		}
		return nil, answer
	}
	out, err := g.groups[id].apply(data)
	if answer != nil {
		return nil, answer
	}
	return out, err
}

func (g *group) apply(data []byte) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at++
	out, err := g.ix.ApplyBatch([]index.Entry{{Index: g.at, Term: 1, Data: data}}, nil)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// Flush makes what all groups have applied durable. Whoever fills them with very much
// does so now and then: the open transaction is made for little.
func (g *Groups) Flush(t testing.TB) {
	t.Helper()
	for _, is := range g.groups {
		if _, err := is.ix.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// Rows counts the rows that a table has in all groups.
func (g *Groups) Rows(t testing.TB, table string) (n int) {
	t.Helper()
	for _, is := range g.groups {
		f, err := os.Create(filepath.Join(t.TempDir(), "state"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = is.ix.StreamSnapshot(f)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(f.Name(), 0o600, &bbolt.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bbolt.Tx) error {
			n += tx.Bucket([]byte(table)).Stats().KeyN
			return nil
		})
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Query reads one group as it is.
func (g *Groups) Query(ctx context.Context, id replica.GroupID, q []byte) ([]byte, error) {
	if g.OnQuery != nil {
		kind, _, err := metadata.ParseQuery(q)
		if err == nil {
			err = g.OnQuery(ctx, id, kind)
		}
		if err != nil {
			return nil, err
		}
	}
	return g.groups[id].ix.Query(q)
}

// QueryLocal reads the node's own copy.
func (g *Groups) QueryLocal(id replica.GroupID, q []byte) ([]byte, error) {
	if g.Local != nil {
		return g.Local(id, q)
	}
	return g.groups[id].ix.Query(q)
}
