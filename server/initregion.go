package server

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/transport"
	"bivalve/erasure"
	"bivalve/server/keyring"

	"go.yaml.in/yaml/v3"
)

// InitOptions describe a region to be made.
type InitOptions struct {
	Dir        string // one folder per node is made in it, and one for the CA
	Name       string // the S3 region
	Partitions int
	PGs        int
	Profile    cluster.Profile // zero: the default for the failure domains
	Members    []InitMember
}

// InitMember is one node of it: its addresses and its own configuration.
type InitMember struct {
	SeedMember
	Config Config // paths are relative to the node's folder
}

// InitRegion writes everything that the nodes of a new region need: cluster id,
// CA, certificates, gossip key, root credentials, region file and one
// configuration for each node. It never touches a folder that exists. It returns
// the root credentials.
func InitRegion(o InitOptions) (*Secrets, error) {
	file, err := o.regionFile()
	if err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty; a region is made once", o.Dir)
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "ca"), 0o700); err != nil {
		return nil, err
	}
	ca, err := transport.NewCA(file.Cluster, time.Now())
	if err != nil {
		return nil, err
	}
	if err := ca.Save(filepath.Join(o.Dir, "ca")); err != nil {
		return nil, err
	}
	secrets, err := newSecrets()
	if err != nil {
		return nil, err
	}
	keys, err := keyring.NewFile(secrets.KeyringKey, time.Now())
	if err != nil {
		return nil, err
	}
	for _, m := range o.Members {
		if err := initNode(filepath.Join(o.Dir, string(m.ID)), ca, file, secrets, keys, m); err != nil {
			return nil, fmt.Errorf("node %s: %w", m.ID, err)
		}
	}
	return secrets, nil
}

func (o InitOptions) regionFile() (*RegionFile, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	f := &RegionFile{Cluster: hex.EncodeToString(id[:]), Name: o.Name, Partitions: o.Partitions, PGs: o.PGs, Profile: o.Profile}
	domains := map[cluster.Zone][2]int{} // nodes, disks
	for i, m := range o.Members {
		s := m.SeedMember
		s.Replica = uint64(i + 1)
		f.Members = append(f.Members, s)
		if m.Role != cluster.RoleStorage {
			continue
		}
		d := domains[m.Zone]
		domains[m.Zone] = [2]int{d[0] + 1, d[1] + len(m.Config.Disks)}
		switch {
		case f.Zones[0] == "" || f.Zones[0] == m.Zone:
			f.Zones[0] = m.Zone
		case f.Zones[1] == "" || f.Zones[1] == m.Zone:
			f.Zones[1] = m.Zone
		default:
			return nil, fmt.Errorf("a third data zone %q", m.Zone)
		}
	}
	if f.Zones[0] > f.Zones[1] {
		f.Zones[0], f.Zones[1] = f.Zones[1], f.Zones[0]
	}
	if f.Profile.K == 0 {
		least := 1 << 30
		for _, d := range domains {
			n := d[0]
			if n < 3 {
				n = d[1] // a zone of few nodes counts its disks
			}
			least = min(least, n)
		}
		g := erasure.DefaultGeometry(least)
		f.Profile = cluster.Profile{K: uint8(g.K), M: uint8(g.M)}
	}
	if err := f.Validate(); err != nil {
		return nil, fmt.Errorf("region:\n%w", err)
	}
	return f, nil
}

// newSecrets makes keys that nobody has chosen.
func newSecrets() (*Secrets, error) {
	var raw [32 + 12 + 30]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, err
	}
	keyringKey, err := keyring.NewSecret()
	if err != nil {
		return nil, err
	}
	return &Secrets{
		GossipKey:  base64.StdEncoding.EncodeToString(raw[:32]),
		AccessKey:  "BV" + strings.TrimRight(base32.StdEncoding.EncodeToString(raw[32:44]), "=")[:18],
		SecretKey:  base64.RawURLEncoding.EncodeToString(raw[44:]),
		KeyringKey: keyringKey,
	}, nil
}

func initNode(dir string, ca *transport.CA, file *RegionFile, secrets *Secrets, keys *keyring.File, m InitMember) error {
	identity := filepath.Join(dir, "identity")
	if err := os.MkdirAll(identity, 0o700); err != nil {
		return err
	}
	cert, err := ca.IssueNode(m.ID, time.Now())
	if err != nil {
		return err
	}
	if err := transport.SaveNode(identity, ca.CertPEM, cert); err != nil {
		return err
	}
	cfg := m.Config
	cfg.Node, cfg.Region, cfg.Identity, cfg.Secrets = m.ID, "region.yaml", "identity", "secrets.yaml"
	setDefault(&cfg.Data, "data")
	data := cfg.Data
	if !filepath.IsAbs(data) {
		data = filepath.Join(dir, data)
	}
	for name, v := range map[string]any{"region.yaml": file, "secrets.yaml": secrets, "keyring.yaml": keys, "config.yaml": cfg} {
		if err := writeYAML(filepath.Join(dir, name), v); err != nil {
			return err
		}
	}
	if filepath.IsAbs(cfg.Data) {
		// The node's own host has that path, not this one: the mark travels in the
		// node's folder and the operator puts it there.
		return os.WriteFile(filepath.Join(dir, bootstrapMark), []byte(bootstrapText), 0o600)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(data, bootstrapMark), []byte(bootstrapText), 0o600)
}

const bootstrapText = "This file lets the node found its metadata once. The node removes it.\n"

func writeYAML(path string, v any) error {
	raw, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}
