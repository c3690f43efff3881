package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"bivalve/cluster"
	"bivalve/server"

	"github.com/spf13/cobra"
)

type initFlags struct {
	out, name, witness       string
	zones, disks             []string
	data                     string
	partitions, pgs          int
	k, m                     uint8
	s3, transp, gossip, adm  int
	listen, adminListen, res string
	ifMissing                bool
}

func initCommand() *cobra.Command {
	f := &initFlags{}
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the files of a new region: one folder per node, to be copied to its host",
		Example: `  bivalve init --out region --name eu-1 \
    --zone a=10.1.0.1,10.1.0.2,10.1.0.3 --zone b=10.2.0.1,10.2.0.2,10.2.0.3 \
    --witness w=10.3.0.1 --disk /srv/disk1 --disk /srv/disk2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			if f.ifMissing {
				if _, err := os.Stat(filepath.Join(f.out, "ca")); err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s holds a region already; it is left as it is.\n", f.out)
					return nil
				}
			}
			secrets, err := server.InitRegion(o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), `Wrote %s: one folder per node, and ca/ with the key of the region's CA.
Keep ca/ offline. Copy each node's folder to its host and run there:

  bivalve server --config FOLDER/config.yaml

Root access key: %s
Root secret key: %s
`, f.out, secrets.AccessKey, secrets.SecretKey)
			return nil
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.out, "out", "region", "folder to write; must not exist or be empty")
	fl.StringVar(&f.name, "name", "us-east-1", "name of the S3 region")
	fl.StringArrayVar(&f.zones, "zone", nil, "data zone and the hosts of its nodes, NAME=HOST,HOST,...; give it twice")
	fl.StringVar(&f.witness, "witness", "", "witness site and its host, NAME=HOST")
	fl.StringArrayVar(&f.disks, "disk", nil, "directory of a disk on every storage node; give it once per disk")
	fl.StringVar(&f.data, "data", "data", "directory of the metadata on every node; relative to the node's folder")
	fl.IntVar(&f.partitions, "partitions", 16, "metadata partitions, a power of two up to 4096; fixed for good")
	fl.IntVar(&f.pgs, "pgs", cluster.DefaultPGs, "placement groups; fixed for good")
	fl.Uint8Var(&f.k, "k", 0, "data shards of the standard profile; 0: by the number of failure domains")
	fl.Uint8Var(&f.m, "m", 0, "further losses that each zone survives")
	fl.IntVar(&f.s3, "s3-port", 9000, "port of S3")
	fl.IntVar(&f.transp, "transport-port", 9100, "port of the traffic between nodes")
	fl.IntVar(&f.gossip, "gossip-port", 9200, "port of gossip, TCP and UDP")
	fl.IntVar(&f.adm, "admin-port", 9300, "port of the admin listener")
	fl.StringVar(&f.listen, "listen", "", "address that nodes listen on, when it is not the host's own (such as 0.0.0.0 in containers)")
	fl.StringVar(&f.adminListen, "admin-listen", "127.0.0.1", "address that the admin listener binds")
	fl.StringVar(&f.res, "disk-reserve", "", "free space that writes leave on each disk; default max(1GiB, 5%)")
	fl.BoolVar(&f.ifMissing, "if-missing", false, "leave a region that is there already as it is")
	return c
}

func (f *initFlags) options() (server.InitOptions, error) {
	o := server.InitOptions{Dir: f.out, Name: f.name, Partitions: f.partitions, PGs: f.pgs, Profile: cluster.Profile{K: f.k, M: f.m}}
	if len(f.zones) != 2 {
		return o, fmt.Errorf("give --zone twice, once for each data zone")
	}
	if len(f.disks) == 0 {
		return o, fmt.Errorf("give --disk at least once")
	}
	var reserve server.Size
	if f.res != "" {
		var err error
		if reserve, err = server.ParseSize(f.res); err != nil {
			return o, err
		}
	}
	for i, arg := range append(append([]string(nil), f.zones...), f.witness) {
		if arg == "" {
			continue // no witness: allowed, and the README says what that costs
		}
		zone, hosts, ok := strings.Cut(arg, "=")
		if !ok || zone == "" || hosts == "" {
			return o, fmt.Errorf("%q: want NAME=HOST or NAME=HOST,HOST", arg)
		}
		for j, host := range strings.Split(hosts, ",") {
			m := server.InitMember{SeedMember: server.SeedMember{
				ID: cluster.NodeID(fmt.Sprintf("%s%d", zone, j+1)), Zone: cluster.Zone(zone), Role: cluster.RoleStorage,
				Addr: at(host, f.transp), Gossip: at(host, f.gossip), Admin: at(f.adminListen, f.adm), S3: at(host, f.s3),
			}, Config: server.Config{Data: f.data, Disks: f.disks}}
			m.Config.Limits.DiskReserve = reserve
			if i == 2 {
				m.Role, m.S3, m.Config.Disks = cluster.RoleWitness, "", nil
			}
			if f.listen != "" {
				m.Config.Listen = server.Listen{Transport: at(f.listen, f.transp), Gossip: at(f.listen, f.gossip)}
				if m.S3 != "" {
					m.Config.Listen.S3 = at(f.listen, f.s3)
				}
			}
			o.Members = append(o.Members, m)
		}
	}
	return o, nil
}

func at(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
