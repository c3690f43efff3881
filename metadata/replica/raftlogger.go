package replica

import (
	"context"
	"fmt"
	"log/slog"
)

// raftLogger passes raft's own lines on. Its Info is about single votes and
// messages, so it goes to Debug; what an operator must see we log ourselves.
type raftLogger struct{ l *slog.Logger }

func (r raftLogger) log(level slog.Level, f func() string) {
	if r.l.Enabled(context.Background(), level) {
		r.l.Log(context.Background(), level, "raft: "+f())
	}
}

func line(v []any) func() string { return func() string { return fmt.Sprint(v...) } }
func linef(format string, v []any) func() string {
	return func() string { return fmt.Sprintf(format, v...) }
}

func (r raftLogger) Debug(v ...any)              { r.log(slog.LevelDebug, line(v)) }
func (r raftLogger) Debugf(f string, v ...any)   { r.log(slog.LevelDebug, linef(f, v)) }
func (r raftLogger) Info(v ...any)               { r.log(slog.LevelDebug, line(v)) }
func (r raftLogger) Infof(f string, v ...any)    { r.log(slog.LevelDebug, linef(f, v)) }
func (r raftLogger) Warning(v ...any)            { r.log(slog.LevelWarn, line(v)) }
func (r raftLogger) Warningf(f string, v ...any) { r.log(slog.LevelWarn, linef(f, v)) }
func (r raftLogger) Error(v ...any)              { r.log(slog.LevelError, line(v)) }
func (r raftLogger) Errorf(f string, v ...any)   { r.log(slog.LevelError, linef(f, v)) }
func (r raftLogger) Panic(v ...any)              { panic(fmt.Sprint(v...)) }
func (r raftLogger) Panicf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }
func (r raftLogger) Fatal(v ...any)              { panic(fmt.Sprint(v...)) }
func (r raftLogger) Fatalf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }
