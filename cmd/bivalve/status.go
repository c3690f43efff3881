package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"bivalve/cluster"
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
	p("region %s\tlayout epoch %d\tk=%d m=%d\ttransport encryption %s\trelay %s", s.Region, s.Epoch, s.Profile.K, s.Profile.M, s.Encrypt, onOff(s.Relay))
	p("")
	printZones(p, s)
	printCatchUp(p, s)
	p("")
	printNodes(p, s)
	p("")
	printDisks(p, s)
	p("")
	printScrub(p, s)
	printOrphans(p, s)
	printLifecycle(p, s)
	p("")
	printGroups(p, s)
	p("")
	p("BETWEEN ZONES\tOUT\tIN\tNOW")
	for _, cause := range slices.Sorted(maps.Keys(s.Traffic)) {
		t := s.Traffic[cause]
		p("%s\t%s\t%s\t%s/s", cause, bytesText(t.Out), bytesText(t.In), bytesText(int64(t.Rate)))
	}
	p("")
	printObjects(p, s)
	for _, alert := range s.Alerts {
		p("ALERT: %s", alert)
	}
	for _, problem := range s.Problems {
		p("problem: %s", problem)
	}
	return w.Flush()
}

func printZones(p func(string, ...any), s *server.Status) {
	p("ZONE\tSTATE\tIF IT DIED NOW")
	for _, z := range s.Zones {
		state := "up"
		if z.Down {
			state = "DOWN since " + z.Since.Format(time.RFC3339)
			if z.Cut {
				state = "CUT OFF since " + z.Since.Format(time.RFC3339)
			}
		}
		if s.Protected.Unknown {
			p("%s\t%s\tunknown", z.Zone, state)
		} else {
			p("%s\t%s\t%d objects lost", z.Zone, state, z.Lost)
		}
	}
}

func printNodes(p func(string, ...any), s *server.Status) {
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
			if n.Slow {
				state += ", SLOW"
			}
			if n.SlowLog {
				state += ", SLOW LOG"
			}
		}
		p("%s\t%s\t%s\t%s\t%s\t%s", n.ID, n.Zone, n.Role, state, version, n.S3)
	}
}

func printGroups(p func(string, ...any), s *server.Status) {
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
		for _, r := range g.Replicas {
			if r.Lag > 0 || !r.Active || r.Kind == "leaving" {
				heard := "heard"
				if !r.Active {
					heard = "not heard"
				}
				p("\t%s\t%s %d\t%d behind, %s", r.Node, r.Kind, r.ID, r.Lag, heard)
			}
		}
	}
}

func printObjects(p func(string, ...any), s *server.Status) {
	o := s.Protected
	if o.Unknown {
		p("objects unknown")
		return
	}
	p("objects %d\tbytes %s\tuploads %d\treferences %d\tgarbage blobs %d", o.Objects, bytesText(o.Bytes), o.Uploads, o.References, o.Garbage)
	oldest := ""
	if !o.Oldest.IsZero() {
		oldest = "the oldest for " + o.OldestAge.Round(time.Second).String()
	}
	p("under-protected %d\tbytes %s\tunreadable %d\t%s", o.UnderProtected, bytesText(o.UnderBytes), o.Unreadable, oldest)
}

// printCatchUp is how far zones and nodes are that do not have all that they should.
func printCatchUp(p func(string, ...any), s *server.Status) {
	text := func(c *server.CatchUp) string {
		return fmt.Sprintf("%d metadata groups behind (%d entries)\t%d shards (%s) to heal\t%d groups to compare", c.Groups, c.Entries, c.Shards, bytesText(c.Bytes), c.Compare)
	}
	first := true
	line := func(format string, args ...any) {
		if first {
			p("")
			p("CATCHING UP\tMETADATA\tSHARDS\tPLACEMENT GROUPS\tRATE\tLEFT")
			first = false
		}
		p(format, args...)
	}
	for _, z := range s.Zones {
		c := z.CatchUp
		if c == nil {
			continue
		}
		rate, left := "", "?"
		if c.Rate > 0 {
			rate = bytesText(int64(c.Rate)) + "/s"
			left = time.Duration(c.Left * float64(time.Second)).Round(time.Second).String()
		}
		line("zone %s\t%s\t%s\t%s", z.Zone, text(c), rate, left)
	}
	for _, n := range s.Nodes {
		if n.CatchUp != nil {
			line("%s of %s\t%s", n.ID, n.Zone, text(n.CatchUp))
		}
	}
}

// printDisks lists the disks that their nodes tell of, then those of the layout that
// nobody tells of.
func printDisks(p func(string, ...any), s *server.Status) {
	risks := map[cluster.DiskID]server.DiskRisk{}
	for _, r := range s.Disks {
		risks[r.Disk] = r
	}
	risk := func(id cluster.DiskID) (died, lacks string) {
		r, known := risks[id]
		delete(risks, id)
		switch {
		case !known:
			return "", "" // it is not of the layout
		case s.Protected.Unknown:
			return "unknown", "unknown"
		}
		died, lacks = fmt.Sprintf("%d objects lost", r.Lost), fmt.Sprint(r.Lacks)
		if r.AtMost {
			died = "at most " + died
		}
		if r.Lacks > 0 {
			lacks += fmt.Sprintf(" (%s)", bytesText(r.Bytes))
		}
		return died, lacks
	}
	p("DISK\tNODE\tSTATE\tIF IT DIED NOW\tSHARDS\tLACKS\tDAMAGED\tMENDED\tLIVE\tDEAD\tFREE\tPATH")
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
			died, lacks := risk(d.ID)
			p("%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\t%s", d.ID.String()[:8], n.ID, state, died, d.Shards, lacks, d.Damaged, d.Mended,
				bytesText(d.Live), bytesText(d.Dead), bytesText(d.Free), d.Path)
		}
	}
	for _, r := range s.Disks {
		if _, left := risks[r.Disk]; left {
			died, lacks := risk(r.Disk)
			p("%s\t%s\tNOT HEARD\t%s\t\t%s", r.Disk.String()[:8], r.Node, died, lacks)
		}
	}
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

// printOrphans is what the sweep of orphans has removed, and whether it comes through.
func printOrphans(p func(string, ...any), s *server.Status) {
	var shards, bytes int64
	var disks, full int
	var last time.Time // the oldest of the last full passes
	var why string
	for _, n := range s.Nodes {
		if n.Local == nil {
			continue
		}
		for _, d := range n.Local.Disks {
			o := d.Orphans
			disks++
			if o == nil {
				continue
			}
			shards, bytes = shards+o.RemovedTotal, bytes+o.BytesTotal
			if o.Error != "" {
				why = fmt.Sprintf("\tdisk %s of %s: %s", d.ID.String()[:8], n.ID, o.Error)
			}
			if !o.Last.IsZero() {
				if full++; last.IsZero() || o.Last.Before(last) {
					last = o.Last
				}
			}
		}
	}
	text := "not yet"
	if disks > 0 && full == disks {
		text = last.UTC().Format(time.RFC3339)
	}
	p("orphans removed %d (%s)\tlast full pass of all: %s%s", shards, bytesText(bytes), text, why)
}

// printLifecycle is how far the walks of this day are through the partitions, and where
// one that is under way stands; nothing where no bucket has rules.
func printLifecycle(p func(string, ...any), s *server.Status) {
	var done, walks int
	var scanned, expired, aborted int64
	var at string
	for _, n := range s.Nodes {
		if n.Local == nil {
			continue
		}
		for _, l := range n.Local.Lifecycle {
			walks++
			scanned, expired, aborted = scanned+l.Scanned, expired+l.Expired, aborted+l.Aborted
			if l.Finished != 0 {
				done++
			} else if at == "" {
				at = fmt.Sprintf("\tpartition %d is in bucket %s", l.Partition, l.Bucket)
			}
		}
	}
	if walks > 0 {
		p("lifecycle %d of %d walks done\tscanned %d\tversions expired %d, uploads aborted %d%s", done, walks, scanned, expired, aborted, at)
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func bytesText(n int64) string {
	for i, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v := float64(n) / float64(int64(1)<<(10*i)); v < 1024 {
			return fmt.Sprintf("%.4g %s", v, unit)
		}
	}
	return fmt.Sprintf("%.4g TiB", float64(n)/float64(int64(1)<<40))
}
