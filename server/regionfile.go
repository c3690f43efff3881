package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sort"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata/replica"
)

// RegionFile is what all nodes of a region agree on before they first meet. It is
// written once by `bivalve init`; what changes later is in the root group.
type RegionFile struct {
	Cluster    string          `yaml:"cluster"`    // 32 hex digits
	Name       string          `yaml:"name"`       // the S3 region, such as us-east-1
	Partitions int             `yaml:"partitions"` // metadata partitions; a power of two
	PGs        int             `yaml:"pgs"`        // placement groups
	Profile    cluster.Profile `yaml:"profile"`    // k and m of the standard profile
	Zones      [2]cluster.Zone `yaml:"zones"`      // the data zones
	Members    []SeedMember    `yaml:"members"`
	// Joined are nodes that came later, in their own files: the founders' list stays
	// as it was, since who votes at first is worked out of it. Others know them by
	// the root group.
	Joined []SeedMember `yaml:"joined,omitempty"`
}

// SeedMember is a node that the region begins with, or one that joins it.
type SeedMember struct {
	ID      cluster.NodeID `yaml:"id" json:"id"`
	Zone    cluster.Zone   `yaml:"zone" json:"zone"`
	Role    cluster.Role   `yaml:"role" json:"role"`
	Replica uint64         `yaml:"replica" json:"replica"` // its number, and the raft id of the replicas that it founds
	Addr    string         `yaml:"transport" json:"transport"`
	Gossip  string         `yaml:"gossip" json:"gossip"`
	S3      string         `yaml:"s3,omitempty" json:"s3"`
	Admin   string         `yaml:"admin" json:"admin"`
}

// LoadRegion reads and checks a region file.
func LoadRegion(path string) (*RegionFile, error) {
	r := &RegionFile{}
	if err := loadYAML(path, r); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("region %s:\n%w", path, err)
	}
	return r, nil
}

// Validate reports every fault at once.
func (r *RegionFile) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("  "+format, args...)) }
	if _, err := cluster.ParseDiskID(r.Cluster); err != nil {
		fault("cluster: %q is not 32 hex digits", r.Cluster)
	}
	if r.Name == "" {
		fault("name: missing")
	}
	if p := r.Partitions; p < 1 || p > 4096 || p&(p-1) != 0 {
		fault("partitions: %d, want a power of two up to 4096", p)
	}
	if r.PGs < 1 || r.PGs > 1<<16 {
		fault("pgs: %d, want 1 to 65536", r.PGs)
	}
	if err := r.Geometry().Validate(); err != nil {
		fault("profile: %v", err)
	}
	if r.Zones[0] == "" || r.Zones[1] == "" || r.Zones[0] >= r.Zones[1] {
		fault("zones: %q, want two names in order", r.Zones)
	}
	ids, replicas := map[cluster.NodeID]bool{}, map[uint64]bool{}
	users := map[string]cluster.NodeID{} // of addresses
	for i, m := range slices.Concat(r.Members, r.Joined) {
		if !nodeName.MatchString(string(m.ID)) || ids[m.ID] {
			fault("member %q: bad or repeated id", m.ID)
		}
		if m.Replica == 0 || m.Replica > uint64(replica.MaxHost) || replicas[m.Replica] {
			fault("member %s: replica %d is zero, too great or repeated", m.ID, m.Replica)
		}
		ids[m.ID], replicas[m.Replica] = true, true
		if data := m.Zone == r.Zones[0] || m.Zone == r.Zones[1]; data != (m.Role == cluster.RoleStorage) {
			fault("member %s: role %s in zone %s; data zones hold storage nodes, other sites witnesses", m.ID, m.Role, m.Zone)
		}
		addrs := []string{m.Addr, m.Gossip, m.Admin}
		if m.Role == cluster.RoleStorage {
			addrs = append(addrs, m.S3)
		}
		for _, a := range addrs {
			if _, _, err := net.SplitHostPort(a); err != nil {
				fault("member %s: address %q: %v", m.ID, a, err)
			}
			if a == m.Admin || i >= len(r.Members) {
				continue // every host has a loopback of its own; and a host may have a new node
			}
			if owner, taken := users[a]; taken {
				fault("member %s: address %s is that of %s", m.ID, a, owner)
			}
			users[a] = m.ID
		}
	}
	for _, z := range r.Zones {
		if len(r.in(z)) == 0 {
			fault("zone %s has no storage node", z)
		}
	}
	return errors.Join(errs...)
}

// Geometry is the standard profile as erasure counts it.
func (r *RegionFile) Geometry() erasure.Geometry {
	return erasure.Geometry{K: int(r.Profile.K), M: int(r.Profile.M)}
}

// ClusterID is the parsed cluster id.
func (r *RegionFile) ClusterID() [16]byte {
	id, err := cluster.ParseDiskID(r.Cluster) // the same text form; validated
	if err != nil {
		panic(err)
	}
	return id
}

// Member finds a node of the file.
func (r *RegionFile) Member(id cluster.NodeID) (SeedMember, bool) {
	for _, m := range slices.Concat(r.Members, r.Joined) {
		if m.ID == id {
			return m, true
		}
	}
	return SeedMember{}, false
}

// in lists the members of a zone by id; witness sites count as one zone.
func (r *RegionFile) in(z cluster.Zone) []SeedMember {
	var out []SeedMember
	for _, m := range r.Members {
		if m.Zone == z || z == "" && m.Role == cluster.RoleWitness {
			out = append(out, m)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// Voters of a group: two nodes of each zone and one witness, turning with the
// group's number so that the nodes share the work; one of each zone where a zone
// has a single node, so that no zone has a majority.
func (r *RegionFile) Voters(g replica.GroupID) []replica.ReplicaID {
	a, b, w := r.in(r.Zones[0]), r.in(r.Zones[1]), r.in("")
	per := min(2, len(a), len(b))
	var out []replica.ReplicaID
	for _, zone := range [][]SeedMember{a, b} {
		for i := range per {
			out = append(out, replica.ReplicaID(zone[(int(g)*per+i)%len(zone)].Replica))
		}
	}
	if len(w) > 0 {
		out = append(out, replica.ReplicaID(w[int(g)%len(w)].Replica))
	}
	return out
}

// Learners of a group: everybody else follows the root group; partitions have none.
func (r *RegionFile) Learners(g replica.GroupID) []replica.ReplicaID {
	if g != 0 {
		return nil
	}
	voters := r.Voters(g)
	var out []replica.ReplicaID
	for _, m := range r.Members {
		if id := replica.ReplicaID(m.Replica); !slices.Contains(voters, id) {
			out = append(out, id)
		}
	}
	return out
}

// Secrets are the node's secrets file.
type Secrets struct {
	GossipKey string `yaml:"gossip_key"` // base64 of 32 bytes
	AccessKey string `yaml:"access_key"` // of the root user
	SecretKey string `yaml:"secret_key"`
	// KeyringKey seals the keyring: base64 of 32 bytes. Without it there is no
	// encryption with the region's own keys.
	KeyringKey string `yaml:"keyring_key,omitempty"`
}

// LoadSecrets refuses a file that others may read.
func LoadSecrets(path string) (*Secrets, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("secrets %s: mode %o lets others read it, want 600", path, info.Mode().Perm())
	}
	s := &Secrets{}
	if err := loadYAML(path, s); err != nil {
		return nil, err
	}
	if len(s.AccessKey) < 8 || len(s.SecretKey) < 16 {
		return nil, fmt.Errorf("secrets %s: access_key needs 8 characters or more, secret_key 16", path)
	}
	return s, nil
}

// String keeps secrets out of logs.
func (s Secrets) String() string { return "secrets(redacted)" }
