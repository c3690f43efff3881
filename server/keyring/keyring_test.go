package keyring

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bivalve/server/object/seal"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func made(t *testing.T) (path, secret string) {
	t.Helper()
	secret, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(secret, time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "keyring.yaml")
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	return path, secret
}

// Rotation: what was sealed before opens after; a node that has read the file only
// before follows when it changes.
func TestRotation(t *testing.T) {
	path, secret := made(t)
	c := &clock{time.Now()}
	r, err := Open(path, secret, slog.New(slog.DiscardHandler), c.now)
	if err != nil {
		t.Fatal(err)
	}
	k, err := seal.NewKey(random)
	if err != nil {
		t.Fatal(err)
	}
	first, sealed, err := r.Seal(k, []byte("blob"))
	if err != nil || first != r.Active() {
		t.Fatal(first, err)
	}
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Add(secret, time.Unix(1_800_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Activate(second); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	if id, _, _ := r.Seal(k, nil); id != first {
		t.Errorf("sealed with %s at once", id)
	}
	c.t = c.t.Add(lookEvery)
	id, sealed2, err := r.Seal(k, []byte("blob"))
	if err != nil || id != second {
		t.Errorf("sealed with %s, %v, want %s", id, err, second)
	}
	for id, s := range map[string][]byte{first: sealed, second: sealed2} {
		if got, err := r.Open(id, s, []byte("blob")); err != nil || got != k {
			t.Errorf("key %s: %v", id, err)
		}
	}
	if _, err := r.Open(first, sealed, []byte("other blob")); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("a key opened for another blob: %v", err)
	}
	if _, err := r.Open("unknown", sealed, []byte("blob")); err == nil || errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("unknown master key: %v", err)
	}
	// A file that is damaged leaves what is known.
	if err := os.WriteFile(path, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.t = c.t.Add(lookEvery)
	if id, _, err := r.Seal(k, nil); err != nil || id != second {
		t.Errorf("after damage: %s, %v", id, err)
	}
}

func TestFileRules(t *testing.T) {
	path, secret := made(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open := func(text string, mode os.FileMode, secret string) error {
		p := filepath.Join(t.TempDir(), "k.yaml")
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(p, secret, slog.New(slog.DiscardHandler), time.Now)
		return err
	}
	other, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	if err := open(good, 0o600, secret); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"readable by others": open(good, 0o640, secret),
		"other secret":       open(good, 0o600, other),
		"no secret":          open(good, 0o600, ""),
		"newer version":      open(strings.Replace(good, "version: 1", "version: 2", 1), 0o600, secret),
		"active not there":   open(strings.Replace(good, "active: 2", "active: 3", 1), 0o600, secret),
		"unknown field":      open(good+"x: 1\n", 0o600, secret),
		"id changed":         open(strings.ReplaceAll(good, "20231114", "20231115"), 0o600, secret),
		"empty":              open("", 0o600, secret),
	} {
		if err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
