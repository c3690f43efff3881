// Command bivalve is the whole system in one binary: the server, the tools that
// make and watch a region, a demo and a load generator.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"bivalve/server"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bivalve:", err)
		stop()
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "bivalve",
		Short:         "An S3-compatible object store over two availability zones",
		Long:          "An S3-compatible object store over two availability zones.\nEvery flag can also be given as a BIVALVE_* variable: --nodes-per-zone is BIVALVE_NODES_PER_ZONE.",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnvironment(cmd.Flags())
		},
	}
	c.AddCommand(initCommand(), serverCommand(), demoCommand(), statusCommand(), adminCommand(), keyringCommand(), benchCommand(), versionCommand())
	return c
}

// fromEnvironment gives flags that were not on the command line the value of
// their variable.
func fromEnvironment(flags *pflag.FlagSet) error {
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "BIVALVE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, ok := os.LookupEnv(name); ok && !f.Changed && f.Name != "help" {
			if err := flags.Set(f.Name, v); err != nil && first == nil {
				first = fmt.Errorf("%s: %w", name, err)
			}
		}
	})
	return first
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "bivalve", server.Version) },
	}
}

func serverCommand() *cobra.Command {
	var config string
	c := &cobra.Command{
		Use: "server", Short: "Run one node until SIGTERM, which drains it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := server.LoadConfig(config)
			if err != nil {
				return err
			}
			return server.Run(cmd.Context(), cfg)
		},
	}
	c.Flags().StringVar(&config, "config", "config.yaml", "configuration file of the node")
	return c
}
