package main

import (
	"fmt"
	"os"

	"bivalve/server/demo"

	"github.com/spf13/cobra"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use: "demo", Short: "Run a two-zone region and its witness on this machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			return demo.Run(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	c.PersistentFlags().StringVar(&o.Dir, "dir", "bivalve-demo", "folder of the region; the same folder resumes it")
	c.Flags().IntVar(&o.Port, "port", 9000, "first S3 port; other listeners are at +100, +200 and +300")
	c.Flags().IntVar(&o.NodesPerZone, "nodes-per-zone", 3, "storage nodes in each zone")
	c.Flags().IntVar(&o.DisksPerNode, "disks-per-node", 2, "disks of each node")
	c.AddCommand(zoneCommand(&o.Dir))
	return c
}

func zoneCommand(dir *string) *cobra.Command {
	zone := &cobra.Command{Use: "zone", Short: "Pull the plug of a zone of a running demo, or plug it back in"}
	zone.AddCommand(&cobra.Command{
		Use: "stop ZONE", Short: "SIGKILL every server of the zone", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := demo.StopZone(*dir, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "zone %s is dark\n", args[0])
			return nil
		},
	}, &cobra.Command{
		Use: "start ZONE", Short: "Start the servers of the zone again", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := demo.StartZone(cmd.Context(), *dir, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "zone %s serves\n", args[0])
			return nil
		},
	})
	return zone
}
