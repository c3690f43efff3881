package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"bivalve/cluster"
	"bivalve/server"

	"github.com/spf13/cobra"
)

type addNodeFlags struct {
	at                        adminFlags
	id, zone, host            string
	ca, like, out             string
	data, listen, adminListen string
	reserve                   string
	disks                     []string
	s3, transp, gossip, adm   int
	asJSON                    bool
}

// addNodeCommand tells the region of a node and makes the node's folder.
func addNodeCommand() *cobra.Command {
	f := &addNodeFlags{}
	c := &cobra.Command{
		Use: "add --id NODE --zone ZONE --host HOST --disk DIRECTORY --like FOLDER --ca FOLDER --out FOLDER", Args: cobra.NoArgs,
		Short: "Take a storage node into the region and make its folder, with a certificate of the region's CA",
		Long: "Take a storage node into the region and make its folder, with a certificate of the region's CA.\n" +
			"The other nodes know it from then on. Copy the folder to its host and start it there; at its first start it\n" +
			"formats its empty disks. It gets its share by `layout apply`, or takes that of a lost node by `node replace`.\n" +
			"If the folder could not be made, give the same order again.",
		Example: `  bivalve admin node add --id a4 --zone a --host 10.1.0.4 --disk /srv/disk1 \
    --ca region/ca --like region/a1 --out region/a4`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.at.add(c)
	fl := c.Flags()
	fl.StringVar(&f.id, "id", "", "name of the node, which no node of the region ever had")
	fl.StringVar(&f.zone, "zone", "", "its data zone")
	fl.StringVar(&f.host, "host", "", "its host, as the other nodes reach it")
	fl.StringVar(&f.ca, "ca", "region/ca", "folder of the region's CA, which `bivalve init` made")
	fl.StringVar(&f.like, "like", "", "folder of a node of the region, whose region file, secrets and keyring it gets")
	fl.StringVar(&f.out, "out", "", "folder to write; must not exist")
	fl.StringArrayVar(&f.disks, "disk", nil, "directory of a disk on the node; give it once per disk")
	fl.StringVar(&f.data, "data", "data", "directory of the metadata on the node; relative to its folder")
	fl.IntVar(&f.s3, "s3-port", 9000, "port of S3")
	fl.IntVar(&f.transp, "transport-port", 9100, "port of the traffic between nodes")
	fl.IntVar(&f.gossip, "gossip-port", 9200, "port of gossip, TCP and UDP")
	fl.IntVar(&f.adm, "admin-port", 9300, "port of the admin listener")
	fl.StringVar(&f.listen, "listen", "", "address that the node listens on, when it is not the host's own")
	fl.StringVar(&f.adminListen, "admin-listen", "127.0.0.1", "address that the admin listener binds")
	fl.StringVar(&f.reserve, "disk-reserve", "", "free space that writes leave on each disk; default max(1GiB, 5%)")
	fl.BoolVar(&f.asJSON, "json", false, "print JSON")
	for _, name := range []string{"id", "zone", "host", "like", "out", "disk"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // there is no such flag
		}
	}
	return c
}

func (f *addNodeFlags) run(cmd *cobra.Command) error {
	folder := server.NodeFolder{Out: f.out, CA: f.ca, Like: f.like, Config: server.Config{Data: f.data, Disks: f.disks}}
	if f.reserve != "" {
		reserve, err := server.ParseSize(f.reserve)
		if err != nil {
			return err
		}
		folder.Config.Limits.DiskReserve = reserve
	}
	if f.listen != "" {
		folder.Config.Listen = server.Listen{Transport: at(f.listen, f.transp), Gossip: at(f.listen, f.gossip), S3: at(f.listen, f.s3)}
	}
	if err := folder.Check(); err != nil {
		return err // before the region hears of it
	}
	raw, err := f.at.ask(cmd.Context(), http.MethodPost, "/v1/nodes", url.Values{"id": {f.id}, "zone": {f.zone},
		"transport": {at(f.host, f.transp)}, "gossip": {at(f.host, f.gossip)}, "s3": {at(f.host, f.s3)}, "admin": {at(f.adminListen, f.adm)}}, nil)
	if err == nil {
		err = json.Unmarshal(raw, &folder.Member)
	}
	if err != nil {
		return err
	}
	if err := folder.Write(); err != nil {
		return fmt.Errorf("node %s is a member now, but its folder could not be made; give the order again: %w", f.id, err)
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		return writeJSON(out, folder.Member)
	}
	fmt.Fprintf(out, `Node %s is a member. Copy %s to its host and run there:

  bivalve server --config FOLDER/config.yaml

Once it is ready, "bivalve admin layout plan" shows its share and "bivalve admin layout apply" moves it there.
`, folder.Member.ID, f.out)
	return nil
}

// replaceNodeCommand gives the share of a lost node to another.
func replaceNodeCommand() *cobra.Command {
	var f applyFlags
	var by string
	c := &cobra.Command{
		Use: "replace NODE --by NODE", Short: "Declare a dead node lost with its disks, and rebuild its share on one that was added for it", Args: cobra.ExactArgs(1),
		Long: "Declare a dead node lost with its disks, and rebuild its share on one that was added for it. There is no way back:\n" +
			"the lost node, should it come again, is nobody. Its votes go to other nodes of its zone by themselves.",
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &server.NodeReplaced{}
			path := "/v1/nodes/" + url.PathEscape(args[0]) + "/replace"
			if _, err := f.at.ask(cmd.Context(), http.MethodPost, path, url.Values{"by": {by}}, r); err != nil {
				return err
			}
			if !f.asJSON && r.State.Before != cluster.StateRemoved {
				fmt.Fprintf(cmd.OutOrStdout(), "declared lost: %s\n", r.State.Cost)
			}
			return f.report(cmd.Context(), cmd.OutOrStdout(), r.Plan)
		},
	}
	f.add(c)
	c.Flags().StringVar(&by, "by", "", "the node that was added for it")
	if err := c.MarkFlagRequired("by"); err != nil {
		panic(err) // there is no such flag
	}
	return c
}
