package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"bivalve/cluster"
	"bivalve/server"

	"github.com/spf13/cobra"
)

func layoutCommand() *cobra.Command {
	c := &cobra.Command{Use: "layout", Short: "Which disk owns which placement groups: show it, plan a change, apply it"}
	c.AddCommand(layoutShowCommand(), layoutPlanCommand(), layoutApplyCommand())
	return c
}

func layoutShowCommand() *cobra.Command {
	var at adminFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "show", Short: "Show the disks with their slots, and what is moving", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, raw, err := askLayout(cmd.Context(), &at)
			if err != nil {
				return err
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			return printLayout(cmd.OutOrStdout(), l)
		},
	}
	at.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func askLayout(ctx context.Context, at *adminFlags) (*server.LayoutReport, []byte, error) {
	l := &server.LayoutReport{}
	raw, err := at.ask(ctx, http.MethodGet, "/v1/layout", nil, l)
	return l, raw, err
}

func layoutPlanCommand() *cobra.Command {
	var at adminFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "plan", Short: "Preview the layout that the nodes and disks of now ask for, and what would move", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, raw, err := askPlan(cmd.Context(), &at)
			if err != nil {
				return err
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			return printPlan(cmd.OutOrStdout(), p)
		},
	}
	at.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func askPlan(ctx context.Context, at *adminFlags) (*server.LayoutPlan, []byte, error) {
	p := &server.LayoutPlan{}
	raw, err := at.ask(ctx, http.MethodPost, "/v1/layout/plan", nil, p)
	return p, raw, err
}

func layoutApplyCommand() *cobra.Command {
	var f applyFlags
	var id string
	c := &cobra.Command{
		Use: "apply", Short: "Make the planned layout the next one", Args: cobra.NoArgs,
		Long: "Make the planned layout the next one. With --plan it must still be the plan of that name, or nothing\n" +
			"is done. The nodes move the shards by themselves; --wait follows them, now or when run again.",
		RunE: func(cmd *cobra.Command, _ []string) error { return f.apply(cmd, id) },
	}
	f.add(c)
	c.Flags().StringVar(&id, "plan", "", "name of the plan, as `layout plan` printed it")
	return c
}

// applyFlags are those of every command that changes the layout.
type applyFlags struct {
	at           adminFlags
	wait, asJSON bool
	only         bool // the state, not the layout
}

func (f *applyFlags) add(c *cobra.Command) {
	f.at.add(c)
	c.Flags().BoolVar(&f.wait, "wait", false, "follow the moves to their end")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
}

// applied is what an applying command prints as JSON.
type applied struct {
	Plan  *server.LayoutPlan `json:"layout,omitempty"`
	Moved *movesResult       `json:"moved,omitempty"`
}

// apply proposes the plan and, if asked to, follows its moves.
func (f *applyFlags) apply(cmd *cobra.Command, id string) error {
	out := cmd.OutOrStdout()
	p := &server.LayoutPlan{}
	if _, err := f.at.ask(cmd.Context(), http.MethodPost, "/v1/layout/apply", url.Values{"plan": {id}}, p); err != nil {
		return err
	}
	return f.report(cmd.Context(), out, p)
}

// report prints a plan that was applied, if there is one, and follows the moves if
// asked to.
func (f *applyFlags) report(ctx context.Context, out io.Writer, p *server.LayoutPlan) error {
	a := applied{Plan: p}
	if p != nil && !f.asJSON {
		if err := printPlan(out, p); err != nil {
			return err
		}
		if p.Change {
			fmt.Fprintf(out, "layout epoch %d is agreed\n", p.Epoch)
		}
	}
	if f.wait {
		w := &moveWait{at: &f.at, progress: io.Discard}
		if !f.asJSON {
			w.progress, w.tty = out, isTerminal(out)
		}
		var err error
		if a.Moved, err = w.follow(ctx); err != nil {
			return err
		}
	}
	if f.asJSON {
		return writeJSON(out, a)
	}
	return nil
}

func printLayout(out io.Writer, l *server.LayoutReport) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } // Flush reports a failed write
	p("layout epoch %d\t%d placement groups\t%d slots", l.Epoch, l.PGs, l.Slots)
	p("")
	p("DISK\tNODE\tZONE\tSTATE\tWEIGHT\tSLOTS\tMOVING IN\tMOVING AWAY\tHOLDS\tPATH")
	for _, d := range l.Disks {
		state := string(d.State)
		if !d.Up && d.State != cluster.StateRemoved {
			state += ", OUT OF SERVICE"
		}
		holds := bytesText(d.Live)
		if d.Unknown {
			holds = "?"
		}
		p("%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s", d.Disk.ID.String()[:8], d.Disk.Node, d.Zone, state, d.Weight, d.Slots, d.In, d.Out, holds, d.Disk.Path)
	}
	p("")
	p("%s", movingText(l.Moving.Slots, l.Moving.Groups, l.Moving.Bytes))
	return w.Flush()
}

func movingText(slots, groups int, bytes int64) string {
	if slots == 0 {
		return "nothing is moving"
	}
	return fmt.Sprintf("moving: %d slots of %d placement groups, about %s", slots, groups, bytesText(bytes))
}

func printPlan(out io.Writer, l *server.LayoutPlan) error {
	if !l.Change {
		_, err := fmt.Fprintf(out, "the layout of epoch %d is as it should be; %s\n", l.Base, movingText(l.Price.Slots, l.Price.Groups, l.Price.Bytes))
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } // Flush reports a failed write
	p("plan %s: from layout epoch %d to %d", l.ID, l.Base, l.Epoch)
	p("%d slots of %d placement groups move, about %s; %d of them are rebuilt from others; about %s between zones",
		l.Price.Slots, l.Price.Groups, bytesText(l.Price.Bytes), l.Price.Rebuilt, bytesText(l.Price.Between))
	p("")
	p("ZONE\tSLOTS\tBYTES\tFROM THE OTHER ZONE")
	for _, z := range l.Price.Zones {
		p("%s\t%d\t%s\t%s", z.Zone, z.Slots, bytesText(z.Bytes), bytesText(z.Between))
	}
	p("")
	p("DISK\tNODE\tSLOTS IN\tBYTES IN\tSLOTS OUT\tBYTES OUT\tPATH")
	for _, d := range l.Price.Disks {
		p("%s\t%s\t%d\t%s\t%d\t%s\t%s", d.Disk.ID.String()[:8], d.Disk.Node, d.In, bytesText(d.BytesIn), d.Out, bytesText(d.BytesOut), d.Disk.Path)
	}
	return w.Flush()
}

// movesResult is the end of moves that were followed.
type movesResult struct {
	Epoch   cluster.Epoch `json:"epoch"`
	Copied  int64         `json:"shards_copied"`
	Rebuilt int64         `json:"shards_rebuilt"`
	Bytes   int64         `json:"bytes"`
	Seconds float64       `json:"seconds"` // that were followed
}

// moveWait follows the moves of the agreed layout, whoever began them.
type moveWait struct {
	at       *adminFlags
	progress io.Writer
	tty      bool

	began time.Time
	line  time.Time
	first int   // slots that were left at the first look
	bytes int64 // moved before it
}

// follow looks until nothing moves any more.
func (w *moveWait) follow(ctx context.Context) (*movesResult, error) {
	w.began = time.Now()
	heard := w.began
	t := time.NewTicker(scrubLook)
	defer t.Stop()
	for {
		now := time.Now()
		l, _, err := askLayout(ctx, w.at)
		if err != nil && now.Sub(heard) > scrubSilence {
			return nil, err
		}
		if err == nil {
			heard = now
			r, waiting := w.sum(ctx, l.Epoch)
			r.Seconds = now.Sub(w.began).Seconds()
			if l.Moving.Slots == 0 {
				if w.tty {
					fmt.Fprintln(w.progress)
				}
				fmt.Fprintf(w.progress, "all slots have moved: %d shards copied, %d rebuilt, %s\n", r.Copied, r.Rebuilt, bytesText(r.Bytes))
				return r, nil
			}
			w.show(l, r, waiting, now)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// sum adds up what the disks say of this epoch, and why some of them wait.
func (w *moveWait) sum(ctx context.Context, e cluster.Epoch) (*movesResult, string) {
	r := &movesResult{Epoch: e}
	var s server.Status
	raw, err := w.at.ask(ctx, http.MethodGet, "/v1/status", nil, nil)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return r, ""
	}
	waiting := ""
	for _, n := range s.Nodes {
		if n.Local == nil {
			continue
		}
		for _, d := range n.Local.Disks {
			if m := d.Move; m != nil && m.Epoch == e {
				r.Copied, r.Rebuilt, r.Bytes = r.Copied+m.Copied, r.Rebuilt+m.Rebuilt, r.Bytes+m.Bytes
				if m.Waiting != "" {
					waiting = m.Waiting
				}
			}
		}
	}
	return r, waiting
}

func (w *moveWait) show(l *server.LayoutReport, r *movesResult, waiting string, now time.Time) {
	if w.first == 0 {
		w.first, w.bytes = l.Moving.Slots, r.Bytes
	}
	if !w.tty && now.Sub(w.line) < scrubLine {
		return
	}
	w.line = now
	elapsed := now.Sub(w.began).Seconds()
	left := "?"
	if done := w.first - l.Moving.Slots; done > 0 {
		left = time.Duration(float64(l.Moving.Slots) * elapsed / float64(done) * float64(time.Second)).Round(time.Second).String()
	}
	text := fmt.Sprintf("moving: %d slots left (%s)  %s/s  %s left", l.Moving.Slots, bytesText(l.Moving.Bytes),
		bytesText(int64(float64(r.Bytes-w.bytes)/max(0.001, elapsed))), left)
	if waiting != "" {
		text += "  waiting: " + strings.ReplaceAll(waiting, "\n", "; ")
	}
	if w.tty {
		fmt.Fprintf(w.progress, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(w.progress, text)
	}
}
