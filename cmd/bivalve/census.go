package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"bivalve/server"

	"github.com/spf13/cobra"
)

func censusCommand() *cobra.Command {
	var at adminFlags
	var fix, asJSON bool
	c := &cobra.Command{
		Use: "census", Short: "Compare all records with all disks, and with the counters", Args: cobra.NoArgs,
		Long: "Goes through every record and the lists of every disk, and compares them with each other and with the\n" +
			"counters that `bivalve status` shows. Fails unless all agree. It changes nothing; with --fix it marks what is\n" +
			"missing, so that it is healed, and fails unless all of that was marked. A command that was cut short is given again: it follows what it had begun.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, err := at.targets()
			if err != nil {
				return err
			}
			w := &censusWait{targets: targets, fix: fix, progress: io.Discard}
			out := cmd.OutOrStdout()
			if !asJSON {
				w.progress, w.tty = out, isTerminal(out)
			}
			if err := w.follow(cmd.Context()); err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(out, w.last)
			} else {
				printCensus(out, &w.last)
			}
			marked := fix && w.last.Error == "" && w.last.Fixed == w.last.Missing
			if err == nil && !w.last.Agrees && !marked {
				err = errors.New("records, disks and counters do not agree")
			}
			return err
		},
	}
	at.add(c)
	c.Flags().BoolVar(&fix, "fix", false, "mark what is missing, so that it is healed")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

const (
	censusLook    = 500 * time.Millisecond
	censusLine    = 5 * time.Second  // between two lines, when not on a terminal
	censusSilence = 30 * time.Second // of the node that takes the census
)

// censusWait follows one census to its end.
type censusWait struct {
	targets  []string
	fix      bool
	progress io.Writer
	tty      bool

	last server.CensusAnswer
	line time.Time // of the last line
}

// start has the first node that answers take a census; it alone is asked from then on.
func (w *censusWait) start(ctx context.Context) (target string, err error) {
	path := "/v1/census"
	if w.fix {
		path += "?fix=true"
	}
	var errs []error
	for _, t := range w.targets {
		raw, err := askNodes(ctx, []string{t}, http.MethodPost, path)
		if err == nil {
			return t, json.Unmarshal(raw, &w.last)
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

func (w *censusWait) follow(ctx context.Context) error {
	target, err := w.start(ctx)
	if err != nil {
		return err
	}
	number, heard := w.last.Number, time.Now()
	t := time.NewTicker(censusLook)
	defer t.Stop()
	for w.last.Finished.IsZero() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		raw, err := askNodes(ctx, []string{target}, http.MethodGet, "/v1/census")
		if err == nil {
			var now server.CensusAnswer
			if err := json.Unmarshal(raw, &now); err != nil {
				return err
			}
			if now.Number != number || !now.Started.Equal(w.last.Started) {
				return fmt.Errorf("node %s has been restarted, and its census with it: give the order again", now.Node)
			}
			w.last, heard = now, time.Now()
			w.show(heard)
		} else if time.Since(heard) > censusSilence {
			return err
		}
	}
	if w.tty {
		fmt.Fprintln(w.progress)
	}
	return nil
}

func (w *censusWait) show(now time.Time) {
	if !w.tty && now.Sub(w.line) < censusLine {
		return
	}
	w.line = now
	r := &w.last
	left := "?"
	if r.Left > 0 {
		left = time.Duration(r.Left * float64(time.Second)).Round(time.Second).String()
	}
	text := fmt.Sprintf("census: %d of about %d shards  %.0f/s  %s left  missing %d", r.Shards, max(r.Total, r.Shards), r.Rate, left, r.Missing)
	if w.tty {
		fmt.Fprintf(w.progress, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(w.progress, text)
	}
}

func printCensus(out io.Writer, r *server.CensusAnswer) {
	p := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	p("%d objects, %d blobs, %d chunks: %d shards, seen in %.1f s", r.Objects, r.Blobs, r.Chunks, r.Shards, r.Finished.Sub(r.Started).Seconds())
	p("found %d, known to be missing %d, MISSING %d, there again %d, on disks that were not heard %d", r.Found, r.Noted, r.Missing, r.There, r.NotSeen)
	p("beside them: garbage %d, in flight %d, orphans %d, misplaced %d", r.Garbage, r.Young, r.Orphans, r.Misplaced)
	if r.Unreadable > 0 {
		p("UNREADABLE: %d chunks", r.Unreadable)
	}
	for _, d := range r.Differ {
		p("COUNTER of partition %d: %s: %d, counted %d", d.Partition, d.What, d.Counter, d.Counted)
	}
	for _, g := range r.Busy {
		p("partition %d changed too often for its counters to be compared", g)
	}
	for _, d := range r.Unheard {
		p("not heard: disk %s", d)
	}
	for _, m := range r.Examples {
		p("missing: disk %s: %s, of %q", m.Disk.String()[:8], m.Shard, m.Key)
	}
	if r.Fix {
		p("%d shards were marked as missing and are being healed: take a census again when they are", r.Fixed)
	}
	switch {
	case r.Error != "":
		p("the census ended early: %s", r.Error)
	case r.Agrees:
		p("records, disks and counters agree")
	}
}
