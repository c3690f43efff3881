package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"bivalve/server/object/seal"

	"go.yaml.in/yaml/v3"
)

const (
	fileVersion = 1
	maxKeys     = 1024
	maxFile     = 1 << 20
)

// File is the keyring as it lies in its file.
type File struct {
	Version int        `yaml:"version"`
	Active  string     `yaml:"active"`
	Keys    []KeyEntry `yaml:"keys"` // oldest first
}

// KeyEntry is one master key, sealed.
type KeyEntry struct {
	ID      string    `yaml:"id"`
	Created time.Time `yaml:"created"`
	Sealed  string    `yaml:"sealed"` // base64 of seal.Wrap, with the id as its context
}

var keyID = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

func random(p []byte) error { _, err := rand.Read(p); return err }

// NewSecret draws what a keyring is sealed with.
func NewSecret() (string, error) {
	k, err := seal.NewKey(random)
	return base64.StdEncoding.EncodeToString(k[:]), err
}

// NewFile is a keyring with one key, which is active.
func NewFile(secret string, now time.Time) (*File, error) {
	f := &File{Version: fileVersion}
	id, err := f.Add(secret, now)
	if err != nil {
		return nil, err
	}
	return f, f.Activate(id)
}

// Add draws a further key. It is not active yet.
func (f *File) Add(secret string, now time.Time) (id string, err error) {
	if len(f.Keys) >= maxKeys {
		return "", fmt.Errorf("keyring: it holds %d keys, which is the most", maxKeys)
	}
	key, err := seal.NewKey(random)
	if err != nil {
		return "", err
	}
	var tail [4]byte
	if err := random(tail[:]); err != nil {
		return "", err
	}
	id = now.UTC().Format("20060102") + "-" + hex.EncodeToString(tail[:])
	master, err := decodeSecret(secret)
	if err != nil {
		return "", err
	}
	sealed, err := seal.Wrap(master, key, []byte(id), random)
	if err != nil {
		return "", err
	}
	f.Keys = append(f.Keys, KeyEntry{ID: id, Created: now.UTC().Truncate(time.Second), Sealed: base64.StdEncoding.EncodeToString(sealed)})
	return id, nil
}

// Activate has new data keys sealed with the key of that id.
func (f *File) Activate(id string) error {
	for _, k := range f.Keys {
		if k.ID == id {
			f.Active = id
			return nil
		}
	}
	return fmt.Errorf("keyring: no key %q", id)
}

func decodeSecret(secret string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(secret)
	if err != nil || len(raw) != seal.KeyBytes {
		return nil, errors.New("keyring: keyring_key of the secrets file is not base64 of 32 bytes")
	}
	return raw, nil
}

// open opens every key of the file.
func (f *File) open(secret string) (map[string]seal.Key, error) {
	master, err := decodeSecret(secret)
	if err != nil {
		return nil, err
	}
	keys := map[string]seal.Key{}
	for _, k := range f.Keys {
		raw, err := base64.StdEncoding.Strict().DecodeString(k.Sealed)
		if err != nil {
			return nil, fmt.Errorf("keyring: key %s: %w", k.ID, err)
		}
		if keys[k.ID], err = seal.Unwrap(master, raw, []byte(k.ID)); err != nil {
			return nil, fmt.Errorf("keyring: key %s does not open with keyring_key of the secrets file: %w", k.ID, err)
		}
	}
	return keys, nil
}

// Load reads and checks a keyring file, which nobody else may read.
func Load(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("keyring %s: mode %o lets others read it, want 600", path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, err
	}
	f := &File{}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(f); err != nil {
		return nil, fmt.Errorf("keyring %s: %w", path, err)
	}
	if f.Version != fileVersion {
		return nil, fmt.Errorf("keyring %s: version %d, this build reads %d", path, f.Version, fileVersion)
	}
	seen := map[string]bool{}
	for _, k := range f.Keys {
		if !keyID.MatchString(k.ID) || seen[k.ID] {
			return nil, fmt.Errorf("keyring %s: bad or repeated id %q", path, k.ID)
		}
		seen[k.ID] = true
	}
	if !seen[f.Active] {
		return nil, fmt.Errorf("keyring %s: the active key %q is not there", path, f.Active)
	}
	return f, nil
}

// Save puts the keyring into its file, whole or not at all.
func (f *File) Save(path string) (err error) {
	raw, err := yaml.Marshal(f)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".keyring-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name()) // best effort: it holds sealed keys only
		}
	}()
	_, err = tmp.Write(raw)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
