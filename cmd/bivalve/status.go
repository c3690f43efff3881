package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"bivalve/server"

	"github.com/spf13/cobra"
)

func statusCommand() *cobra.Command {
	var at adminFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show the region: nodes, zones, disks, metadata groups, protection", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, err := at.targets()
			if err != nil {
				return err
			}
			raw, err := askNodes(cmd.Context(), targets, http.MethodGet, "/v1/status")
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
	at.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
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
	p("DISK\tNODE\tSTATE\tSHARDS\tDAMAGED\tMENDED\tLIVE\tDEAD\tFREE\tPATH")
	for _, n := range s.Nodes {
		if n.Local == nil {
			continue
		}
		for _, d := range n.Local.Disks {
			state := string(d.State)
			if d.State != "ok" {
				state = strings.ToUpper(state)
			}
			if d.Failed != "" {
				state += ", takes no writes: " + d.Failed
			}
			p("%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s", d.ID.String()[:8], n.ID, state, d.Shards, d.Damaged, d.Mended, bytesText(d.Live), bytesText(d.Dead), bytesText(d.Free), d.Path)
		}
	}
	p("")
	printScrub(p, s)
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

// printScrub is how far the scrub is, and what damage could not be mended.
func printScrub(p func(string, ...any), s *server.Status) {
	var disks, never int
	var done float64
	var found int64
	var last time.Time // the oldest of the last full passes
	var stuck []string
	for _, n := range s.Nodes {
		if n.Local == nil {
			continue
		}
		for _, d := range n.Local.Disks {
			if d.Loss != "" {
				lost := fmt.Sprintf("loss: disk %s of %s: %s", d.ID.String()[:8], n.ID, d.Loss)
				if r := d.Restore; r != nil {
					lost += fmt.Sprintf("; %d of %d groups compared, %d shards (%s) restored", r.Done, r.Groups, r.Restored, bytesText(r.Bytes))
					if r.Waiting != "" {
						lost += "; waiting: " + r.Waiting
					}
				}
				stuck = append(stuck, lost)
			}
			if d.Stuck != nil {
				stuck = append(stuck, fmt.Sprintf("damage: disk %s of %s: %d shards: %s", d.ID.String()[:8], n.ID, d.Stuck.Shards, d.Stuck.Why))
			}
			if d.Scrub == nil {
				continue
			}
			disks++
			done, found = done+d.Scrub.Fraction, found+d.Scrub.Damaged
			if d.Scrub.Last == nil {
				never++
			} else if t := d.Scrub.Last.Finished; last.IsZero() || t.Before(last) {
				last = t
			}
		}
	}
	text := "not yet"
	if disks > 0 && never == 0 {
		text = last.UTC().Format(time.RFC3339)
	}
	p("scrub %.0f%% of a pass over %d disks\tdamaged found in it %d\tlast full pass of all: %s", 100*done/float64(max(1, disks)), disks, found, text)
	for _, line := range stuck {
		p("%s", line)
	}
}

func bytesText(n int64) string {
	for i, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v := float64(n) / float64(int64(1)<<(10*i)); v < 1024 {
			return fmt.Sprintf("%.4g %s", v, unit)
		}
	}
	return fmt.Sprintf("%.4g TiB", float64(n)/float64(int64(1)<<40))
}
