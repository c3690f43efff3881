package server

import (
	"fmt"
	"net"
	"strings"

	"bivalve/cluster"
)

// RelayMode says whether a chunk goes once to a node of the other zone, which makes
// that zone's shards of it, or every shard to its own node.
type RelayMode string

const (
	// RelayAuto relays unless the nodes of both zones are on loopback addresses:
	// there bytes between zones cost nothing, and a relay only CPU.
	RelayAuto RelayMode = "auto"
	RelayOn   RelayMode = "on"
	RelayOff  RelayMode = "off"
)

func (m RelayMode) validate() error {
	switch m {
	case RelayAuto, RelayOn, RelayOff:
		return nil
	}
	return fmt.Errorf("%q, want auto, on or off", string(m))
}

// relays tells whether this node sends chunks to relays. Every node serves as one.
func (n *Node) relays() bool {
	switch n.cfg.Transport.Relay {
	case RelayOn:
		return true
	case RelayOff:
		return false
	}
	for _, m := range n.file.Members {
		if m.Role == cluster.RoleStorage && !loopback(m.Addr) {
			return true
		}
	}
	return false
}

// loopback tells an address that is certainly on this machine; a name other than
// localhost is not asked for.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
