package loadgen

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// maxKinds bounds the kinds of errors that are told apart.
const maxKinds = 32

// stats are the requests of one operation.
type stats struct {
	latency histogram
	bytes   int64
	errors  map[string]uint64
}

func (s *stats) fail(kind string) { s.failed(kind, 1) }

func (s *stats) failed(kind string, n uint64) {
	if s.errors == nil {
		s.errors = map[string]uint64{}
	}
	if _, known := s.errors[kind]; !known && len(s.errors) >= maxKinds-1 {
		kind = "other"
	}
	s.errors[kind] += n
}

func (s *stats) merge(o *stats) {
	s.latency.merge(&o.latency)
	s.bytes += o.bytes
	for kind, n := range o.errors {
		s.failed(kind, n)
	}
}

// Report is what a run measured.
type Report struct {
	Op        Op      `json:"op"`
	SizeBytes int64   `json:"size_bytes"`
	Clients   int     `json:"clients"`
	Endpoints int     `json:"endpoints"`
	Seconds   float64 `json:"seconds"`
	Figures
	ByOp    []OpFigures `json:"by_op,omitempty"` // of Mixed
	Process *Use        `json:"process,omitempty"`
}

// Figures sum up requests. Latencies are of successful requests, in
// milliseconds, exact to 1/64.
type Figures struct {
	Ops          uint64            `json:"ops"` // successful
	OpsPerSecond float64           `json:"ops_per_second"`
	MiBPerSecond float64           `json:"mib_per_second"`
	P50          float64           `json:"p50_ms"`
	P90          float64           `json:"p90_ms"`
	P99          float64           `json:"p99_ms"`
	Max          float64           `json:"max_ms"`
	Failed       uint64            `json:"failed"`
	Errors       map[string]uint64 `json:"errors,omitempty"` // by kind
}

// OpFigures are the Figures of one operation of a mix.
type OpFigures struct {
	Op Op `json:"op"`
	Figures
}

// Use is what the processes on this machine spent while the clock ran.
type Use struct {
	ClientCPU   float64 `json:"client_cpu_seconds"`
	ServerCPU   float64 `json:"server_cpu_seconds"`
	ServerPerOp float64 `json:"server_cpu_ms_per_op"`
	ServerPeak  int64   `json:"server_peak_bytes"` // resident, of the largest server
}

func (r *run) report(elapsed time.Duration, use *Use) *Report {
	rep := &Report{Op: r.cfg.Op, SizeBytes: r.cfg.Size, Clients: r.cfg.Clients, Endpoints: min(len(r.cfg.Endpoints), r.cfg.Clients), Seconds: elapsed.Seconds(), Process: use}
	var total stats
	for _, op := range Ops() {
		var s stats
		seen := false
		for _, w := range r.workers {
			if part := w.stats[op]; part != nil {
				seen = true
				s.merge(part)
			}
		}
		if !seen {
			continue
		}
		total.merge(&s)
		if r.cfg.Op == Mixed {
			rep.ByOp = append(rep.ByOp, OpFigures{op, s.figures(elapsed)})
		}
	}
	rep.Figures = total.figures(elapsed)
	if use != nil && rep.Ops > 0 {
		use.ServerPerOp = use.ServerCPU * 1000 / float64(rep.Ops)
	}
	return rep
}

func (s *stats) figures(elapsed time.Duration) Figures {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	f := Figures{Ops: s.latency.n, Errors: s.errors, P50: ms(s.latency.quantile(0.5)), P90: ms(s.latency.quantile(0.9)),
		P99: ms(s.latency.quantile(0.99)), Max: ms(s.latency.max)}
	if elapsed > 0 {
		f.OpsPerSecond = float64(f.Ops) / elapsed.Seconds()
		f.MiBPerSecond = float64(s.bytes) / (1 << 20) / elapsed.Seconds()
	}
	for _, n := range s.errors {
		f.Failed += n
	}
	return f
}

// WriteJSON writes the report as one indented document, a value to a line.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes it for people.
func (r *Report) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } // Flush reports a failed write
	row := func(op Op, f Figures) {
		p("%s\t%d\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d", op, f.Ops, f.OpsPerSecond, f.MiBPerSecond, f.P50, f.P90, f.P99, f.Max, f.Failed)
	}
	p("%d bytes, %d clients on %d endpoints, %.2f s", r.SizeBytes, r.Clients, r.Endpoints, r.Seconds)
	p("")
	p("OP\tOPS\tOPS/S\tMIB/S\tP50 MS\tP90 MS\tP99 MS\tMAX MS\tFAILED")
	for _, o := range r.ByOp {
		row(o.Op, o.Figures)
	}
	row(r.Op, r.Figures)
	if u := r.Process; u != nil {
		p("")
		p("client CPU %.2f s\tservers' CPU %.2f s, %.3f ms/op\tlargest server %.1f MiB", u.ClientCPU, u.ServerCPU, u.ServerPerOp, float64(u.ServerPeak)/(1<<20))
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		p("failed: %s: %d", strings.TrimSpace(kind), r.Errors[kind])
	}
	return w.Flush()
}
