package server_test

import (
	"fmt"
	"strings"
	"testing"

	"bivalve/cluster"
	"bivalve/server"
)

// TestRegionFileAddresses: two nodes at one address, as when a host is named in
// both zones, are not a region. What only the host itself asks may look alike.
func TestRegionFileAddresses(t *testing.T) {
	r := server.RegionFile{Cluster: strings.Repeat("ab", 16), Name: "r", Partitions: 4, PGs: 32,
		Profile: cluster.Profile{K: 1}, Zones: [2]cluster.Zone{"a", "b"}}
	for i, z := range r.Zones {
		host := fmt.Sprintf("10.%d.0.1", i)
		r.Members = append(r.Members, server.SeedMember{ID: cluster.NodeID(z + "1"), Zone: z, Role: cluster.RoleStorage, Replica: uint64(i + 1),
			Addr: host + ":9100", Gossip: host + ":9200", S3: host + ":9000", Admin: "127.0.0.1:9300"})
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, field := range []func(*server.SeedMember) *string{
		func(m *server.SeedMember) *string { return &m.Addr },
		func(m *server.SeedMember) *string { return &m.Gossip },
		func(m *server.SeedMember) *string { return &m.S3 },
	} {
		f := field(&r.Members[1])
		old := *f
		*f = *field(&r.Members[0])
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "is that of a1") {
			t.Errorf("%s: %v", *f, err)
		}
		*f = old
	}
}
