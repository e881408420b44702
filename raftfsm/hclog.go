package raftfsm

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLogger makes hashicorp/raft write to a slog.Logger. Raft's info lines
// tell of every vote and snapshot and are kept; its debug lines are not, unless
// the slog handler asks for them. Warnings and errors that repeat themselves, as
// those about a dead peer do several times a second, are logged once a minute.
type raftLogger struct {
	l       *slog.Logger
	name    string
	args    []any
	repeats *repeats
}

func newRaftLogger(l *slog.Logger) *raftLogger {
	return &raftLogger{l: l, repeats: newRepeats(time.Now)}
}

var _ hclog.Logger = (*raftLogger)(nil)

func level(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace, hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

func (r *raftLogger) Log(l hclog.Level, msg string, args ...any) {
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok {
			args[i] = formatOf(f)
		}
	}
	if level(l) >= slog.LevelWarn {
		left, ok := r.repeats.logs(msg + fmt.Sprint(args...))
		if !ok {
			return
		}
		if left > 0 {
			args = append(slices.Clip(args), "repeated", left)
		}
	}
	r.l.Log(context.Background(), level(l), msg, args...) //nolint:sloglint // a forwarder: message and pairs are raft's
}

// formatOf renders hclog's lazy format lists.
func formatOf(f hclog.Format) any {
	if len(f) == 2 {
		return f[1]
	}
	return []any(f)
}

func (r *raftLogger) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }
func (r *raftLogger) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }
func (r *raftLogger) Info(msg string, args ...any)  { r.Log(hclog.Info, msg, args...) }
func (r *raftLogger) Warn(msg string, args ...any)  { r.Log(hclog.Warn, msg, args...) }
func (r *raftLogger) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

func (r *raftLogger) enabled(l slog.Level) bool { return r.l.Enabled(context.Background(), l) }
func (r *raftLogger) IsTrace() bool             { return r.enabled(slog.LevelDebug) }
func (r *raftLogger) IsDebug() bool             { return r.enabled(slog.LevelDebug) }
func (r *raftLogger) IsInfo() bool              { return r.enabled(slog.LevelInfo) }
func (r *raftLogger) IsWarn() bool              { return r.enabled(slog.LevelWarn) }
func (r *raftLogger) IsError() bool             { return r.enabled(slog.LevelError) }

func (r *raftLogger) ImpliedArgs() []any { return r.args }
func (r *raftLogger) Name() string       { return r.name }

func (r *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{l: r.l.With(args...), name: r.name, args: append(slices.Clip(r.args), args...), repeats: r.repeats}
}

func (r *raftLogger) Named(name string) hclog.Logger {
	return &raftLogger{l: r.l.With("part", name), name: name, args: r.args, repeats: r.repeats}
}

func (r *raftLogger) ResetNamed(name string) hclog.Logger { return r.Named(name) }

// SetLevel does nothing: the slog handler decides.
func (r *raftLogger) SetLevel(hclog.Level) {}

func (r *raftLogger) GetLevel() hclog.Level { return hclog.Info }

func (r *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(r.l.Handler(), slog.LevelInfo)
}

func (r *raftLogger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return r.StandardLogger(o).Writer()
}
