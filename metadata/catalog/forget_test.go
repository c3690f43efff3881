package catalog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// TestForgetDropped: a day after a bucket was deleted nothing is kept of it; one that
// lives, and one that was deleted just now, stay closed or open as they are; and what
// broke off midway is done again.
func TestForgetDropped(t *testing.T) {
	ctx := context.Background()
	groups := catalogtest.Open(t, 4)
	c := groups.Catalog(t)
	made := func(name string) metadata.Bucket {
		b := bucket(t, c, name)
		return must(c.ConfigureBucket(ctx, b.Name, metadata.FieldVersioning, []byte(metadata.VersioningEnabled)))(t)
	}
	old, alive := made("old"), made("alive")
	before := groups.Rows(t, "fences") + groups.Rows(t, "rules")
	if err := c.DeleteBucket(ctx, "old"); err != nil {
		t.Fatal(err)
	}
	forget := func(at time.Time, want int) {
		t.Helper()
		if n, err := c.ForgetDropped(ctx, at.UnixNano(), 10); err != nil || n != want {
			t.Fatalf("%d buckets forgotten, %v; want %d", n, err, want)
		}
	}
	forget(time.Now().Add(-time.Hour), 0)
	if err := put(c, old.ID, "late"); !errors.Is(err, metadata.ErrNoSuchBucket) {
		t.Errorf("a late write: %v", err)
	}
	later := time.Now().Add(time.Hour)
	groups.OnPropose = func(_ context.Context, g replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
		if kind == metadata.CmdForgetBucket && g == 3 {
			return false, replica.ErrUnavailable
		}
		return true, nil
	}
	if _, err := c.ForgetDropped(ctx, later.UnixNano(), 10); !errors.Is(err, metadata.ErrUnavailable) {
		t.Fatal(err)
	}
	groups.OnPropose = nil
	forget(later, 1)
	forget(later, 0)
	if n := groups.Rows(t, "fences") + groups.Rows(t, "rules"); n != before-4 {
		t.Errorf("%d rows of fences and rules, want %d", n, before-4)
	}
	v := must(c.PutVersion(ctx, metadata.Version{Bucket: alive.ID, Key: "k", ETag: "e"}, metadata.Condition{}))(t)
	if v.ID == metadata.NullVersion {
		t.Error("a bucket that lives has lost its rules")
	}
}
