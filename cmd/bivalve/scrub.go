package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"bivalve/server"

	"github.com/spf13/cobra"
)

func scrubCommand() *cobra.Command {
	var at adminFlags
	var wait, asJSON bool
	c := &cobra.Command{
		Use: "scrub", Short: "Verify every shard of the region now, at the full rate", Args: cobra.NoArgs,
		Long: "Verify every shard of the region now, at the full rate (scrub.rate of each node).\n" +
			"What is damaged is mended in place. With --wait the command fails when damage is left.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, err := at.targets()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			w := &scrubWait{targets: targets, began: time.Now(), progress: io.Discard}
			if err := w.start(cmd.Context()); err != nil {
				return err
			}
			switch {
			case !wait && asJSON:
				return writeJSON(out, w.asked)
			case !wait:
				w.printStarted(out)
				return nil
			case !asJSON:
				w.progress, w.tty = out, isTerminal(out)
			}
			if err := w.follow(cmd.Context()); err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(out, w.result)
			} else {
				w.printResult(out)
			}
			if r := w.result; err == nil && (r.Remaining > 0 || len(r.Problems) > 0) {
				err = fmt.Errorf("%d damaged shards remain, %d problems", r.Remaining, len(r.Problems))
			}
			return err
		},
	}
	at.add(c)
	c.Flags().BoolVar(&wait, "wait", false, "follow the scrub and the mending to their end")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// scrubResult is the end of a scrub.
type scrubResult struct {
	Disks     int      `json:"disks"`
	Shards    int64    `json:"shards"`
	Bytes     int64    `json:"bytes"`
	Damaged   int64    `json:"damaged_found"`
	Mended    int64    `json:"mended"`
	Remaining int64    `json:"remaining"`
	Seconds   float64  `json:"seconds"`
	Problems  []string `json:"problems"`
}

const (
	scrubLook     = 500 * time.Millisecond
	scrubLine     = 5 * time.Second // between two lines, when not on a terminal
	scrubSilence  = 30 * time.Second
	scrubPatience = 10 * time.Second // with shards that cannot be mended
)

// scrubWait follows the passes that were asked for.
type scrubWait struct {
	targets  []string
	began    time.Time
	progress io.Writer
	tty      bool

	asked  server.ScrubAnswer
	before map[string]int64 // mended, by disk
	line   time.Time        // of the last line
	result scrubResult
}

func (w *scrubWait) status(ctx context.Context) (map[string]server.DiskReport, error) {
	raw, err := askNodes(ctx, w.targets, http.MethodGet, "/v1/status")
	if err != nil {
		return nil, err
	}
	var s server.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	out := map[string]server.DiskReport{}
	for _, n := range s.Nodes {
		if n.Local != nil {
			for _, d := range n.Local.Disks {
				out[d.ID.String()] = d
			}
		}
	}
	return out, nil
}

func (w *scrubWait) start(ctx context.Context) error {
	before, err := w.status(ctx)
	if err != nil {
		return err
	}
	w.before = map[string]int64{}
	for id, d := range before {
		w.before[id] = d.Mended
	}
	raw, err := askNodes(ctx, w.targets, http.MethodPost, "/v1/scrub")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &w.asked); err != nil {
		return err
	}
	w.result.Problems = []string{}
	for _, n := range w.asked.Nodes {
		w.result.Disks += len(n.Disks)
		if n.Error != "" {
			w.result.Problems = append(w.result.Problems, fmt.Sprintf("node %s: %s", n.ID, n.Error))
		}
	}
	return nil
}

// follow looks until every pass is over and its damage mended, or stuck.
func (w *scrubWait) follow(ctx context.Context) error {
	heard, moved := map[string]time.Time{}, time.Now()
	t := time.NewTicker(scrubLook)
	defer t.Stop()
	for {
		now := time.Now()
		disks, err := w.status(ctx)
		if err != nil && now.Sub(moved) > scrubSilence {
			return err
		}
		if err == nil {
			sum := w.look(disks, heard, now)
			switch {
			case sum.open > 0:
				w.show(sum, now)
				moved = now
			case sum.remaining < w.result.Remaining || sum.remaining > sum.stuck:
				w.show(sum, now)
				moved = now
			}
			w.result.Remaining = sum.remaining
			if sum.open == 0 && (sum.remaining == 0 || now.Sub(moved) > scrubPatience) {
				w.finish(disks, now)
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// scrubSum is one look at all disks.
type scrubSum struct {
	open                      int // passes under way
	done, all                 float64
	damaged, remaining, stuck int64
}

func (w *scrubWait) look(disks map[string]server.DiskReport, heard map[string]time.Time, now time.Time) (sum scrubSum) {
	for _, n := range w.asked.Nodes {
		for _, asked := range n.Disks {
			id := asked.Disk.String()
			d, ok := disks[id]
			p := d.Scrub
			if !ok || p == nil || p.Pass < asked.Pass {
				if heard[id].IsZero() {
					heard[id] = now
				}
				if now.Sub(heard[id]) < scrubSilence {
					sum.open++
				}
				continue
			}
			heard[id] = now
			sum.remaining += d.Damaged
			if d.Stuck != nil {
				sum.stuck += int64(d.Stuck.Shards)
			}
			over := p.Last != nil && p.Last.Pass >= asked.Pass
			sum.all += float64(d.Live)
			if over {
				sum.done, sum.damaged = sum.done+float64(d.Live), sum.damaged+p.Last.Damaged
				continue
			}
			sum.open++
			sum.done, sum.damaged = sum.done+float64(d.Live)*p.Fraction, sum.damaged+p.Damaged
		}
	}
	return sum
}

// finish takes the counts of the passes, and names the disks without one.
func (w *scrubWait) finish(disks map[string]server.DiskReport, now time.Time) {
	r := &w.result
	r.Seconds = now.Sub(w.began).Seconds()
	if w.tty {
		fmt.Fprintln(w.progress)
	}
	for _, n := range w.asked.Nodes {
		for _, asked := range n.Disks {
			id := asked.Disk.String()
			d := disks[id]
			if d.Scrub == nil || d.Scrub.Last == nil || d.Scrub.Last.Pass < asked.Pass {
				r.Problems = append(r.Problems, fmt.Sprintf("disk %s of %s: its pass did not come to an end", id[:8], n.ID))
				continue
			}
			last := d.Scrub.Last
			r.Shards, r.Bytes, r.Damaged = r.Shards+last.Shards, r.Bytes+last.Bytes, r.Damaged+last.Damaged
			// A node that was restarted counts from zero again.
			r.Mended += max(0, d.Mended-min(d.Mended, w.before[id]))
			if d.Stuck != nil && d.Damaged > 0 {
				r.Problems = append(r.Problems, fmt.Sprintf("disk %s of %s: %d shards: %s", id[:8], n.ID, d.Stuck.Shards, d.Stuck.Why))
			}
		}
	}
}

func (w *scrubWait) show(s scrubSum, now time.Time) {
	if !w.tty && now.Sub(w.line) < scrubLine {
		return
	}
	w.line = now
	text := fmt.Sprintf("mending: %d damaged shards left", s.remaining)
	if s.open > 0 {
		elapsed := now.Sub(w.began).Seconds()
		rate := s.done / max(0.001, elapsed)
		left := "?"
		if rate > 0 {
			left = time.Duration((s.all - s.done) / rate * float64(time.Second)).Round(time.Second).String()
		}
		text = fmt.Sprintf("scrub: %5.1f%%  %s/s  %s left  damaged %d, not mended %d", 100*s.done/max(1, s.all), bytesText(int64(rate)), left, s.damaged, s.remaining)
	}
	if w.tty {
		fmt.Fprintf(w.progress, "\r\x1b[K%s", text)
	} else {
		fmt.Fprintln(w.progress, text)
	}
}

func (w *scrubWait) printStarted(out io.Writer) {
	fmt.Fprintf(out, "%d disks are being scrubbed; `bivalve status` shows how far they are\n", w.result.Disks)
	for _, p := range w.result.Problems {
		fmt.Fprintf(out, "problem: %s\n", p)
	}
}

func (w *scrubWait) printResult(out io.Writer) {
	r := w.result
	fmt.Fprintf(out, "%d disks: %d shards, %s checked in %.1f s; %d damaged found, %d mended, %d remain\n",
		r.Disks, r.Shards, bytesText(r.Bytes), r.Seconds, r.Damaged, r.Mended, r.Remaining)
	for _, p := range r.Problems {
		fmt.Fprintf(out, "problem: %s\n", p)
	}
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
