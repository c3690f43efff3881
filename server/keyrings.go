package server

import (
	"fmt"
	"time"

	"bivalve/server/keyring"
)

// ChangeKeyring changes the keyring of the node whose configuration file is given
// and returns it as it is then. The other nodes need the same file.
func ChangeKeyring(config string, change func(f *keyring.File, secret string, now time.Time) error) (*keyring.File, error) {
	cfg, err := LoadConfig(config)
	if err != nil {
		return nil, err
	}
	secrets, err := LoadSecrets(cfg.Secrets)
	if err != nil {
		return nil, err
	}
	if secrets.KeyringKey == "" {
		return nil, fmt.Errorf("secrets %s: no keyring_key: this region has no keyring", cfg.Secrets)
	}
	f, err := keyring.Load(cfg.Keyring)
	if err != nil || change == nil {
		return f, err
	}
	if err := change(f, secrets.KeyringKey, time.Now()); err != nil {
		return nil, err
	}
	return f, f.Save(cfg.Keyring)
}
