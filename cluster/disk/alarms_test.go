package disk

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// alarms takes the error lines of a disk. A crash must never look like damage,
// so there may be none but that the disk is fenced.
type alarms struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
}

func (a *alarms) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (a *alarms) WithAttrs([]slog.Attr) slog.Handler           { return a }
func (a *alarms) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(at slog.Attr) bool { line += " " + at.String(); return true })
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines = append(a.lines, line)
	return nil
}

func (a *alarms) err(ignore func(line string) bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lines {
		if !ignore(l) {
			return fmt.Errorf("the disk reported: %s", l)
		}
	}
	return nil
}
