package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"bivalve/server"

	"github.com/spf13/cobra"
)

// recoverFlags of `bivalve admin recover`.
type recoverFlags struct {
	configs, reports       []string
	force, yes, json, look bool
}

func recoverCommand() *cobra.Command {
	var f recoverFlags
	c := &cobra.Command{
		Use:   "recover --force-quorum --config FILE ...",
		Short: "Declare lost metadata voters dead and go on with what the survivors have (nodes stopped)",
		Long: `Recover works on the files of nodes that are stopped. Use it only when a majority of
the voters of a metadata group is lost for good: what they alone had acknowledged is lost
with them, and they can never come back but as new members.

Give the configurations of all surviving nodes of this host. If there are survivors on
other hosts, run it there first with --report and bring the files with --with: then run
it on every host with the reports of all others. It shows what it would do, and asks.
A recovery that was interrupted is gone on with when it is run again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	c.Flags().StringArrayVar(&f.configs, "config", nil, "configuration of a stopped, surviving node of this host; repeat for each")
	c.Flags().StringArrayVar(&f.reports, "with", nil, "report of survivors on another host; repeat for each")
	c.Flags().BoolVar(&f.look, "report", false, "only print the report of these nodes, for --with on another host")
	c.Flags().BoolVar(&f.force, "force-quorum", false, "do it")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON; needs --yes to do anything")
	return c
}

func (f *recoverFlags) run(cmd *cobra.Command) (err error) {
	if len(f.configs) == 0 {
		return errors.New("--config: name the configuration of at least one surviving node")
	}
	r, err := server.OpenRecovery(f.configs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	reports, err := r.Reports()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.look {
		return printJSON(out, reports)
	}
	for _, path := range f.reports {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var more []server.RecoveryReport
		if err := json.Unmarshal(raw, &more); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		reports = append(reports, more...)
	}
	plan, err := r.Plan(reports)
	if err != nil {
		return err
	}
	if f.json {
		if err := printJSON(out, plan); err != nil {
			return err
		}
	} else if err := printRecovery(out, plan); err != nil {
		return err
	}
	switch {
	case !plan.Forced():
		return nil
	case !f.force:
		return errors.New("nothing was done: say --force-quorum to do it")
	case !f.yes && f.json:
		return errors.New("nothing was done: --json needs --yes")
	case !f.yes:
		if err := confirm(cmd.InOrStdin(), out); err != nil {
			return err
		}
	}
	return f.execute(out, r, plan)
}

// execute shows progress, now and then.
func (f *recoverFlags) execute(out io.Writer, r *server.Recovery, plan *server.RecoveryPlan) error {
	began, last := time.Now(), time.Time{}
	var from server.RecoveryProgress // the first that was heard of this group of this node
	err := r.Execute(plan, func(p server.RecoveryProgress) {
		now := time.Now()
		if p.Node != from.Node || p.Group != from.Group {
			from, began = p, now
		}
		if p.Entries != p.Of && now.Sub(last) < time.Second {
			return
		}
		last = now
		rate, left := pace(p.Entries-from.Entries, p.Of-p.Entries, now.Sub(began))
		if f.json {
			raw, err := json.Marshal(recoverLine{p, rate, left.Seconds()})
			if err == nil {
				fmt.Fprintf(out, "%s\n", raw)
			}
			return
		}
		fmt.Fprintf(out, "node %s: group %d of %d: entry %d of %d  %.0f/s  %s left\n", p.Node, p.Group, p.Groups-1, p.Entries, p.Of, rate, left.Round(time.Second))
	})
	if err != nil {
		return fmt.Errorf("not finished; run it again: %w", err)
	}
	if !f.json {
		fmt.Fprintln(out, "done. Start the surviving nodes; they bring new voters in by themselves. Then run `bivalve admin scrub`.")
	}
	return nil
}

// recoverLine is a line of progress as JSON.
type recoverLine struct {
	server.RecoveryProgress
	Rate float64 `json:"entries_per_second"`
	Left float64 `json:"seconds_left"` // of this group
}

// pace is how many a second were done, and how long the rest takes at that rate; 0
// while that is not known.
func pace(done, rest uint64, took time.Duration) (rate float64, left time.Duration) {
	if done == 0 || took <= 0 {
		return 0, 0
	}
	rate = float64(done) / took.Seconds()
	return rate, time.Duration(float64(rest) / rate * float64(time.Second))
}

func printRecovery(out io.Writer, p *server.RecoveryPlan) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "GROUP\tGOES ON WITH\tUP TO ENTRY\tKNOWN COMMITTED\tLOST VOTERS\tSET ASIDE\tWHY\n") // Flush reports a failed write
	for _, v := range p.Verdicts {
		winner, lost, aside := "as it is", []string{}, []string{}
		if v.Winner != 0 {
			winner = p.Name(v.Winner)
		}
		for _, id := range v.Lost {
			lost = append(lost, p.Name(id))
		}
		for _, id := range v.Archive {
			aside = append(aside, p.Name(id))
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%s\t%s\t%s\n", v.Group, winner, v.Last, v.Commit, strings.Join(lost, ","), strings.Join(aside, ","), v.Why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if p.Forced() {
		_, err := fmt.Fprint(out, `
What could be lost: every change of metadata (objects put or deleted, buckets, settings)
that was acknowledged by the lost voters without any of the nodes given here; usually the
last moments before the disaster. Entries after the last known commit are taken for
acknowledged. The lost voters are declared dead: if they come back they are told so and
join as new members. Do not start them where they reach each other but not the survivors.
`)
		return err
	}
	return nil
}

func confirm(in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprint(out, "\nGo on? Type yes: "); err != nil {
		return err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if strings.TrimSpace(line) != "yes" {
		return errors.Join(errors.New("nothing was done"), ignoreEOF(err))
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
