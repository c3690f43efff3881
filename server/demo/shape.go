package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"bivalve/cluster"
	"bivalve/server"
)

// Options of a demo.
type Options struct {
	Dir          string
	Port         int // S3 ports from here on; the others at +100, +200, +300
	NodesPerZone int
	DisksPerNode int
	Binary       string // of the server
}

// Validate reports every fault at once.
func (o Options) Validate() error {
	var errs []error
	if o.NodesPerZone < 1 || o.NodesPerZone > 40 {
		errs = append(errs, fmt.Errorf("--nodes-per-zone %d: want 1 to 40", o.NodesPerZone))
	}
	if o.DisksPerNode < 1 || o.DisksPerNode > 24 {
		errs = append(errs, fmt.Errorf("--disks-per-node %d: want 1 to 24", o.DisksPerNode))
	}
	if o.Port < 1024 || o.Port > 65000 {
		errs = append(errs, fmt.Errorf("--port %d: want 1024 to 65000", o.Port))
	}
	return errors.Join(errs...)
}

// Info is DIR/demo.json: what a test or a script needs to use the region.
type Info struct {
	Endpoints map[string][]string `json:"endpoints"` // by zone
	AccessKey string              `json:"access_key"`
	SecretKey string              `json:"secret_key"`
	Region    string              `json:"region"`
	Profile   cluster.Profile     `json:"profile"`
	Nodes     []NodeInfo          `json:"nodes"`
}

// NodeInfo is one server process. PID is 0 while it does not run.
type NodeInfo struct {
	ID    string   `json:"id"`
	Zone  string   `json:"zone"`
	Role  string   `json:"role"`
	PID   int      `json:"pid"`
	S3    string   `json:"s3,omitempty"`
	Admin string   `json:"admin"`
	Dir   string   `json:"dir"`
	Disks []string `json:"disks"`
}

// infoFile is written once the region serves.
const infoFile = "demo.json"

// ReadInfo reads DIR/demo.json.
func ReadInfo(dir string) (*Info, error) {
	raw, err := os.ReadFile(filepath.Join(dir, infoFile))
	if err != nil {
		return nil, err
	}
	info := &Info{}
	return info, json.Unmarshal(raw, info)
}

func (i *Info) write(dir string) error {
	raw, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, infoFile+".new")
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, infoFile))
}

// prepare makes the region in dir, or finds the one that is there.
func prepare(o Options) (*Info, error) {
	if _, err := os.Stat(filepath.Join(o.Dir, "ca")); errors.Is(err, os.ErrNotExist) {
		if err := create(o); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return describe(o.Dir)
}

func create(o Options) error {
	init := server.InitOptions{Dir: o.Dir, Name: "us-east-1", Partitions: 4, PGs: cluster.DefaultPGs}
	n := 0
	add := func(id, zone string, role cluster.Role) {
		addr := func(group int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port+100*group+n)) }
		m := server.InitMember{SeedMember: server.SeedMember{ID: cluster.NodeID(id), Zone: cluster.Zone(zone), Role: role,
			Addr: addr(1), Gossip: addr(2), Admin: addr(3)}}
		m.Config.Limits.DiskReserve = 256 << 20 // the disks of a demo share one file system
		if role == cluster.RoleStorage {
			m.S3 = addr(0)
			for d := range o.DisksPerNode {
				m.Config.Disks = append(m.Config.Disks, fmt.Sprintf("disks/d%d", d+1))
			}
		}
		init.Members = append(init.Members, m)
		n++
	}
	for _, zone := range []string{"a", "b"} {
		for i := range o.NodesPerZone {
			add(fmt.Sprintf("%s%d", zone, i+1), zone, cluster.RoleStorage)
		}
	}
	add("w1", "w", cluster.RoleWitness)
	_, err := server.InitRegion(init)
	return err
}

// describe reads the shape of a region that InitRegion made in dir.
func describe(dir string) (*Info, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	configs, err := filepath.Glob(filepath.Join(dir, "*", "config.yaml"))
	if err != nil || len(configs) == 0 {
		return nil, fmt.Errorf("%s holds no region: %w", dir, errors.Join(err, os.ErrNotExist))
	}
	info := &Info{Endpoints: map[string][]string{}}
	for _, path := range configs {
		cfg, err := server.LoadConfig(path)
		if err != nil {
			return nil, err
		}
		file, err := server.LoadRegion(cfg.Region)
		if err != nil {
			return nil, err
		}
		secrets, err := server.LoadSecrets(cfg.Secrets)
		if err != nil {
			return nil, err
		}
		info.AccessKey, info.SecretKey = secrets.AccessKey, secrets.SecretKey
		info.Region, info.Profile = file.Name, file.Profile
		m, ok := file.Member(cfg.Node)
		if !ok {
			return nil, fmt.Errorf("%s: node %s is not in its region file", path, cfg.Node)
		}
		node := NodeInfo{ID: string(m.ID), Zone: string(m.Zone), Role: string(m.Role), Admin: "http://" + m.Admin,
			Dir: filepath.Dir(path), Disks: append([]string{}, cfg.Disks...)}
		if m.S3 != "" {
			node.S3 = scheme(cfg) + m.S3
			info.Endpoints[node.Zone] = append(info.Endpoints[node.Zone], node.S3)
		}
		info.Nodes = append(info.Nodes, node)
	}
	return info, nil
}

func scheme(cfg *server.Config) string {
	if cfg.S3.TLS.Cert != "" {
		return "https://"
	}
	return "http://"
}
