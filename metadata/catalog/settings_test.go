package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// TestRulesReachEveryPartition: a change of versioning is acknowledged only when
// every partition has it, and one that broke off is told apart from a whole one.
func TestRulesReachEveryPartition(t *testing.T) {
	groups := catalogtest.Open(t, 4)
	cat := groups.Catalog(t)
	b, err := cat.CreateBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Int32
	cut := true
	groups.OnPropose = func(_ context.Context, g replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
		if kind == metadata.CmdSetRules {
			if g == 3 && cut {
				return false, replica.ErrUnavailable
			}
			told.Add(1)
		}
		return true, nil
	}
	_, err = cat.ConfigureBucket(t.Context(), "bucket", metadata.FieldVersioning, []byte(metadata.VersioningEnabled))
	if !errors.Is(err, metadata.ErrUnavailable) {
		t.Fatalf("with a partition away: %v", err)
	}
	if b, err = cat.GetBucketNow(t.Context(), "bucket"); err != nil || b.Spread == b.Revision {
		t.Fatalf("bucket %+v counts as spread, %v", b, err)
	}
	cut = false
	told.Store(0)
	if err := cat.SpreadRules(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if b, err = cat.GetBucketNow(t.Context(), "bucket"); err != nil || b.Spread != b.Revision || told.Load() != 4 {
		t.Fatalf("bucket %+v, %d partitions told, %v", b, told.Load(), err)
	}
	for field, value := range map[string][]byte{"": []byte("x"), "big": make([]byte, metadata.MaxSettingBytes+1),
		metadata.FieldVersioning: []byte("enabled"), metadata.FieldLock: []byte("junk")} {
		if _, err := cat.ConfigureBucket(t.Context(), "bucket", field, value); !errors.Is(err, metadata.ErrMalformed) {
			t.Errorf("field %q: %v", field, err)
		}
	}
}

// TestLockedBucketMadeTwice: the making of a bucket with object lock breaks off before
// every partition has its rules. Who then hears that there is such a bucket, as SDKs do
// when they try again, finds it locked in every partition.
func TestLockedBucketMadeTwice(t *testing.T) {
	for name, again := range map[string]func(*catalog.Catalog) error{
		"locked": func(c *catalog.Catalog) error { _, err := c.CreateLockedBucket(t.Context(), "bucket"); return err },
		"plain":  func(c *catalog.Catalog) error { _, err := c.CreateBucket(t.Context(), "bucket"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			groups := catalogtest.Open(t, 4)
			cat := groups.Catalog(t)
			cut := atomic.Bool{}
			cut.Store(true)
			groups.OnPropose = func(_ context.Context, g replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
				if kind == metadata.CmdSetRules && g == 3 && cut.Load() {
					return false, replica.ErrUnavailable
				}
				return true, nil
			}
			if _, err := cat.CreateLockedBucket(t.Context(), "bucket"); !errors.Is(err, metadata.ErrUnavailable) {
				t.Fatalf("with a partition away: %v", err)
			}
			if err := again(cat); !errors.Is(err, metadata.ErrUnavailable) {
				t.Errorf("again, with the partition away: %v", err)
			}
			cut.Store(false)
			if err := again(cat); !errors.Is(err, metadata.ErrBucketExists) {
				t.Errorf("again: %v", err)
			}
			b := must(cat.GetBucketNow(t.Context(), "bucket"))(t)
			for n := range 32 {
				v := must(cat.PutVersion(t.Context(), metadata.Version{Bucket: b.ID, Key: fmt.Sprint("k", n), ETag: "e"}, metadata.Condition{}))(t)
				if v.ID == metadata.NullVersion {
					t.Errorf("partition %d does not know that the bucket is versioned", cat.Partition(b.ID, v.Key))
				}
			}
		})
	}
}

// TestEncryptionReachesEveryPartition: once a bucket has its objects encrypted, no node
// that has not heard of it yet can store one that is not.
func TestEncryptionReachesEveryPartition(t *testing.T) {
	ctx := context.Background()
	cat := catalogtest.Open(t, 4).Catalog(t)
	b := bucket(t, cat, "bucket")
	configure := func(value string) {
		t.Helper()
		now := must(cat.ConfigureBucket(ctx, "bucket", metadata.FieldEncryption, []byte(value)))(t)
		if string(now.Settings[metadata.FieldEncryption]) != value {
			t.Errorf("settings %q", now.Settings)
		}
	}
	plain := metadata.Version{Bucket: b.ID, Key: "k", ETag: "e"}
	secret := plain
	secret.Parts = []metadata.Part{{Seal: &metadata.Seal{Kind: metadata.SealRegion}}}
	upload := metadata.Upload{Bucket: b.ID, Key: "k"}
	sealed := upload
	sealed.Seal = &metadata.Seal{Kind: metadata.SealClient}
	try := func(want error) {
		t.Helper()
		_, err1 := cat.PutVersion(ctx, plain, metadata.Condition{})
		_, err2 := cat.CreateUpload(ctx, upload)
		if !errors.Is(err1, want) || !errors.Is(err2, want) {
			t.Errorf("plain object: %v, plain upload: %v, want %v", err1, err2, want)
		}
		must(cat.PutVersion(ctx, secret, metadata.Condition{}))(t)
		must(cat.CreateUpload(ctx, sealed))(t)
	}
	try(nil)
	must(cat.ConfigureBucket(ctx, "bucket", metadata.FieldVersioning, []byte(metadata.VersioningEnabled)))(t)
	configure(metadata.EncryptAES256)
	try(metadata.ErrMustSeal)
	configure("")
	try(nil)
	if b := must(cat.GetBucketNow(ctx, "bucket"))(t); b.Rules.Versioning != metadata.VersioningEnabled {
		t.Errorf("rules %+v", b.Rules)
	}
}

// TestOwnCopyFollows: a change is answered when the copy of the node that made it has it.
func TestOwnCopyFollows(t *testing.T) {
	ctx := context.Background()
	groups := catalogtest.Open(t, 1)
	cat := groups.Catalog(t)
	bucket(t, cat, "bucket")
	for i, field := range []string{metadata.FieldEncryption, metadata.FieldLifecycle, metadata.FieldVersioning} {
		q, err := metadata.NewQuery(metadata.QueryBucket, metadata.BucketName{Name: "bucket"})
		if err != nil {
			t.Fatal(err)
		}
		old := must(groups.QueryLocal(catalog.Root, q))(t)
		behind := 3 + i // looks at a copy that does not have it yet
		groups.Local = func(g replica.GroupID, q []byte) ([]byte, error) {
			if behind--; behind >= 0 {
				return old, nil
			}
			return groups.Query(ctx, g, q)
		}
		value := []byte("AES256")
		if field == metadata.FieldVersioning {
			value = []byte(metadata.VersioningEnabled)
		}
		must(cat.ConfigureBucket(ctx, "bucket", field, value))(t)
		groups.Local = nil
		if behind >= 0 {
			t.Errorf("%s: answered while the copy was %d looks behind", field, behind)
		}
	}
}
