package forward

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/spool"
	"github.com/futago/futago/raftfsm/command"
)

// Pending is a batch under way.
type Pending interface {
	// Wait returns the outcome; it is called once. When ctx ends first, the
	// outcome is unknown.
	Wait(ctx context.Context) (command.BatchResult, error)
}

// Defaults of Options.
const (
	DefaultInFlight   = 16
	DefaultMaxCopies  = 1024
	DefaultMaxBytes   = 256 << 10
	DefaultLinger     = 10 * time.Millisecond
	DefaultTimeout    = 5 * time.Second
	DefaultCacheBytes = 16 << 20
)

// Options configure a Forwarder. Member, Spool, Submit, Decoders and Settings
// are needed.
type Options struct {
	// Member is the manager whose spool it is.
	Member futago.MemberID
	Spool  *spool.Spool
	// Submit sends a batch towards the log, and takes it over. Batches must be
	// proposed in the order in which Submit is called.
	Submit func(ctx context.Context, b *command.TrapBatch) Pending
	// Decoders by kind. A kind without one is recorded as received.
	Decoders map[futago.Kind]Decoder
	// Settings returns the intake settings in force; nil means the defaults.
	Settings func() *futago.IntakeSettings
	Logger   *slog.Logger
	// Report, when set, takes what an operator must learn: topic
	// "spool-conflict". It is called by Run and must not block for long.
	Report func(ctx context.Context, topic string, severity futago.Severity, message string)
	// Now is the clock; default [time.Now].
	Now func() time.Time

	// InFlight is how many batches may be under way. Default 16.
	InFlight int
	// MaxCopies and MaxBytes bound a batch. Defaults 1024 and 256 KiB: larger
	// ones are no cheaper, and everything behind one waits until it is written.
	MaxCopies, MaxBytes int
	// Linger is how long records gather while something is under way or a fair
	// number was just sent. Default 10 ms.
	Linger time.Duration
	// Timeout is how long to wait for an outcome after the one before it.
	// Default 5 s.
	Timeout time.Duration
	// CacheBytes bounds the decoded messages kept for repeats. Default 16 MiB.
	CacheBytes int64
	// Workers is how many goroutines decode. Default: the processors.
	Workers int
}

// Forwarder brings one manager's spool into the log.
type Forwarder struct {
	o    Options
	log  *slog.Logger
	kick chan struct{}

	mu       sync.Mutex // guards what follows
	st       Status
	stale    time.Time // when a conflict was last acted upon
	needBody uint64    // position behind which a body was missing last
}

// Status describes a Forwarder.
type Status struct {
	// InFlight is the number of batches under way.
	InFlight int
	// Batches and Copies count what was sent, repetitions included; Bodies the
	// distinct traps in it.
	Batches, Copies, Bodies uint64
	// Retried counts returns to the last record applied, by cause.
	Unavailable, Gaps, NeedBodies, Conflicts uint64
	// Decoded counts messages decoded, Cached those that were known already.
	Decoded, Cached uint64
	// Lag is the number of records that the log does not hold yet; LagSince
	// the arrival of the oldest of them, as far as known.
	Lag      uint64
	LagSince time.Time
	// LastError is the newest reason for a retry, nil after a success.
	LastError error
	// LastErrorAt is when it happened; kept after a success.
	LastErrorAt time.Time
}

// New returns a Forwarder; Run starts it.
func New(o Options) *Forwarder {
	if o.InFlight <= 0 {
		o.InFlight = DefaultInFlight
	}
	if o.MaxCopies <= 0 {
		o.MaxCopies = DefaultMaxCopies
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Linger <= 0 {
		o.Linger = DefaultLinger
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Settings == nil {
		o.Settings = func() *futago.IntakeSettings { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{o: o, log: o.Logger.With("component", "forward"), kick: make(chan struct{}, 1)}
}

// Status returns the present state.
func (f *Forwarder) Status() Status {
	f.mu.Lock()
	st := f.st
	f.mu.Unlock()
	sp := f.o.Spool.Status()
	st.Lag, st.LagSince = sp.Depth, sp.OldestAt
	return st
}

// Kick ends a pause between retries: there is a leader again.
func (f *Forwarder) Kick() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// Pauses between retries grow from the first to the second, each drawn between
// half and the whole.
const (
	pauseMin = 5 * time.Millisecond
	pauseMax = time.Second
)

// Run forwards until ctx ends, then returns nil. It returns an error only when
// the spool is closed. Call it once.
func (f *Forwarder) Run(ctx context.Context) error {
	m := &builder{
		member: f.o.Member, decoders: f.o.Decoders, settings: f.o.Settings, maxBytes: f.o.MaxBytes,
		workers: f.o.Workers, log: f.log, cache: newCache(f.o.CacheBytes),
	}
	pause := pauseMin
	var logged time.Time
	for {
		before := f.o.Spool.Acked()
		v := f.session(ctx, m)
		if stopped(ctx) {
			return nil
		}
		if v.closed {
			return v.err
		}
		progress := f.o.Spool.Acked() > before
		f.failed(v)
		if progress {
			pause = pauseMin
		}
		if v.again && (progress || v.once) {
			continue
		}
		if now := f.o.Now(); now.Sub(logged) >= 10*time.Second || now.Before(logged) {
			logged = now
			f.log.Warn("forwarding waits", "error", v.err, "records", f.o.Spool.Last()-f.o.Spool.Acked())
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-f.kick:
			pause = pauseMin
		case <-ctx.Done():
			return nil
		}
		pause = min(pause*3/2, pauseMax)
	}
}

func stopped(ctx context.Context) bool { return ctx.Err() != nil }

func (f *Forwarder) failed(v verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch v.cause {
	case causeNone:
	case causeGap:
		f.st.Gaps++
	case causeNeedBody:
		f.st.NeedBodies++
	case causeConflict:
		f.st.Conflicts++
	case causeError:
		f.st.Unavailable++
	}
	if v.err != nil {
		f.st.LastError, f.st.LastErrorAt = v.err, f.o.Now()
	}
}
