package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"bivalve/server"
	"bivalve/server/demo"

	"github.com/spf13/cobra"
)

func statusCommand() *cobra.Command {
	var admin, dir string
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show the region: nodes, zones, disks, metadata groups, protection", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets := []string{admin}
			if dir != "" {
				info, err := demo.ReadInfo(dir)
				if err != nil {
					return err
				}
				targets = nil
				for _, n := range info.Nodes {
					targets = append(targets, n.Admin)
				}
			}
			raw, err := fetchStatus(cmd.Context(), targets)
			if err != nil {
				return err
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			var s server.Status
			if err := json.Unmarshal(raw, &s); err != nil {
				return err
			}
			return printStatus(cmd.OutOrStdout(), &s)
		},
	}
	c.Flags().StringVar(&admin, "admin", "http://127.0.0.1:9300", "admin endpoint of any node")
	c.Flags().StringVar(&dir, "dir", "", "folder of a demo, instead of --admin")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// fetchStatus asks the first node that answers.
func fetchStatus(ctx context.Context, targets []string) ([]byte, error) {
	var errs []error
	for _, t := range targets {
		rctx, cancel := context.WithTimeout(ctx, 12*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(rctx, http.MethodGet, strings.TrimRight(t, "/")+"/v1/status", nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
		if err == nil && resp.StatusCode == http.StatusOK {
			return raw, nil
		}
		errs = append(errs, fmt.Errorf("%s: %s", t, resp.Status), err)
	}
	return nil, errors.Join(errs...)
}

func printStatus(out io.Writer, s *server.Status) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } // Flush reports a failed write
	p("region %s\tlayout epoch %d\tk=%d m=%d\ttransport encryption %s", s.Region, s.Epoch, s.Profile.K, s.Profile.M, s.Encrypt)
	p("")
	p("ZONE\tSTATE\tIF IT DIED NOW")
	for _, z := range s.Zones {
		state := "up"
		if z.Down {
			state = "DOWN since " + z.Since.Format(time.RFC3339)
		}
		if s.Protected.Unknown {
			p("%s\t%s\tunknown", z.Zone, state)
		} else {
			p("%s\t%s\t%d objects lost", z.Zone, state, z.Lost)
		}
	}
	p("")
	p("NODE\tZONE\tROLE\tSTATE\tVERSION\tS3")
	for _, n := range s.Nodes {
		state, version := "dead", ""
		if n.Alive {
			state = "alive, does not answer"
		}
		if n.Local != nil {
			state, version = "ready", n.Local.Version
			if n.Local.Ready != "" {
				state = n.Local.Ready
			}
		}
		p("%s\t%s\t%s\t%s\t%s\t%s", n.ID, n.Zone, n.Role, state, version, n.S3)
	}
	p("")
	p("DISK\tNODE\tSTATE\tSHARDS\tLIVE\tDEAD\tFREE\tPATH")
	for _, n := range s.Nodes {
		if n.Local == nil {
			continue
		}
		for _, d := range n.Local.Disks {
			state := "ok"
			switch {
			case d.Failed != "":
				state = "OUT OF SERVICE: " + d.Failed
			case d.Free <= 0:
				state = "FULL"
			}
			p("%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s", d.ID.String()[:8], n.ID, state, d.Shards, bytesText(d.Live), bytesText(d.Dead), bytesText(d.Free), d.Path)
		}
	}
	p("")
	p("GROUP\tLEADER\tVOTERS\tALIVE")
	for _, g := range s.Groups {
		name := fmt.Sprint(g.Group)
		if g.Group == 0 {
			name = "root"
		}
		leader := string(g.Leader)
		if leader == "" {
			leader = "none"
		}
		p("%s\t%s\t%v\t%d of %d", name, leader, g.Voters, g.Alive, len(g.Voters))
	}
	p("")
	if s.Protected.Unknown {
		p("objects unknown")
	} else {
		p("objects %d\tbytes %s\tuploads %d\tgarbage blobs %d\tunder-protected %d (%s)", s.Protected.Objects, bytesText(s.Protected.Bytes),
			s.Protected.Uploads, s.Protected.Garbage, s.Protected.UnderProtected, bytesText(s.Protected.UnderBytes))
	}
	for _, problem := range s.Problems {
		p("problem: %s", problem)
	}
	return w.Flush()
}

func bytesText(n int64) string {
	for i, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v := float64(n) / float64(int64(1)<<(10*i)); v < 1024 {
			return fmt.Sprintf("%.4g %s", v, unit)
		}
	}
	return fmt.Sprintf("%.4g TiB", float64(n)/float64(int64(1)<<40))
}
