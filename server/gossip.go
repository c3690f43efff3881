package server

import (
	"encoding/base64"
	"fmt"
	"net"

	"bivalve/cluster/membership"
)

// openGossip binds the gossip sockets; Run joins.
func (n *Node) openGossip() error {
	key, err := base64.StdEncoding.DecodeString(n.secrets.GossipKey)
	if err != nil {
		return fmt.Errorf("gossip_key: %w", err)
	}
	bind := orElse(n.cfg.Listen.Gossip, n.self.Gossip)
	host, port, err := splitAddr(bind)
	if err != nil {
		return err
	}
	advHost, advPort, err := splitAddr(n.self.Gossip)
	if err != nil {
		return err
	}
	if ip, err := net.ResolveIPAddr("ip", advHost); err == nil {
		advHost = ip.String() // memberlist wants an IP
	} else {
		return fmt.Errorf("gossip address %s: %w", n.self.Gossip, err)
	}
	n.meta = membership.Meta{Cluster: n.file.Cluster, Zone: n.self.Zone, Role: n.self.Role, Addr: n.self.Addr,
		S3: n.self.S3, Admin: n.self.Admin, Version: Version, Disks: n.diskSummary()}
	n.gossip, err = membership.New(membership.Config{
		ID: n.cfg.Node, BindAddr: host, BindPort: port, AdvertiseAddr: advHost, AdvertisePort: advPort,
		Key: key, Logger: n.logger, Seeds: n.seeds,
		Meta: n.meta, Lost: n.cfg.Faults.Lost,
	})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.gossip.Close)
	n.region.gossip = n.gossip
	return nil
}

func (n *Node) seeds() []string {
	var out []string
	for _, m := range n.peers() {
		if m.ID != n.cfg.Node {
			out = append(out, m.Gossip)
		}
	}
	return out
}
