package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"bivalve/server"
	"bivalve/server/keyring"

	"github.com/spf13/cobra"
)

func keyringCommand() *cobra.Command {
	var config string
	c := &cobra.Command{Use: "keyring", Short: "Look after the master keys of encryption at rest, in a node's keyring file",
		Long: "Rotation: `keyring add` on one node, copy its keyring file to every node, `keyring activate ID`,\ncopy it again. Nodes read the file anew within seconds. Keys are never removed: objects need them."}
	c.PersistentFlags().StringVar(&config, "config", "config.yaml", "configuration file of the node")
	show := func(out io.Writer, f *keyring.File) error {
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		for _, k := range f.Keys {
			state := ""
			if k.ID == f.Active {
				state = "active"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", k.ID, k.Created.Format(time.RFC3339), state)
		}
		return w.Flush()
	}
	run := func(cmd *cobra.Command, change func(*keyring.File, string, time.Time) error) error {
		f, err := server.ChangeKeyring(config, change)
		if err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), f)
	}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "The keys, oldest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, nil) },
	}, &cobra.Command{
		Use: "add", Short: "Draw a further key, which is not active yet", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd, func(f *keyring.File, secret string, now time.Time) error {
				_, err := f.Add(secret, now)
				return err
			})
		},
	}, &cobra.Command{
		Use: "activate ID", Short: "Seal what is new with this key, once every node has it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd, func(f *keyring.File, _ string, _ time.Time) error { return f.Activate(args[0]) })
		},
	})
	return c
}
