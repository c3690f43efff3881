package main

import (
	"fmt"
	"net/http"
	"net/url"

	"bivalve/server"

	"github.com/spf13/cobra"
)

func readOnlyCommand() *cobra.Command {
	var at adminFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "read-only on|off", Short: "Answer reads from the most advanced replicas while no majority is left", Args: cobra.ExactArgs(1), ValidArgs: []string{"on", "off"},
		Long: `Read-only on lets the nodes within reach answer reads of metadata groups that have lost
their majority from the most advanced replica that is left. What was acknowledged last may
be missing from the answers, and every answer says so (X-Bivalve-Read-Only). Writes go on
to answer 503. Where a majority is back the mode does nothing; switch it off then.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != "on" && args[0] != "off" {
				return fmt.Errorf("%q: want on or off", args[0])
			}
			var r server.ReadOnlyReport
			raw, err := at.ask(cmd.Context(), http.MethodPost, "/v1/read-only", url.Values{"on": {fmt.Sprint(args[0] == "on")}}, &r)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				_, err = out.Write(raw)
				return err
			}
			fmt.Fprintf(out, "read-only mode is %s at %v\n", args[0], r.Told)
			for id, why := range r.Silent {
				fmt.Fprintf(out, "%s could not be told: %s\n", id, why)
			}
			return nil
		},
	}
	at.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
