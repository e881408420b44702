package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/spool"
	"github.com/futago/futago/raftfsm/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testBase = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func rec(n int) futago.Received {
	return futago.Received{
		At: testBase.Add(time.Duration(n) * time.Millisecond).UnixNano(), Kind: futago.KindSyslog,
		Transport: futago.TransportUDP, Source: netip.MustParseAddrPort("192.0.2.7:514"),
		Raw: fmt.Appendf(nil, "<13>Nov 22 10:00:00 host app: record %d", n),
	}
}

func recs(from, to int) (rs []futago.Received) {
	for i := from; i <= to; i++ {
		rs = append(rs, rec(i))
	}
	return rs
}

// plain decodes like a syslog decoder would, without its subtleties.
func plain(r *futago.Received, _ *futago.IntakeSettings) (futago.Trap, futago.Key) {
	_, msg, ok := bytes.Cut(r.Raw, []byte(": "))
	t := futago.Trap{
		Kind: r.Kind, Transport: r.Transport, Source: r.Source, Severity: futago.SeverityNotice, Parsed: ok,
		Charset: "utf-8", Host: "host", Message: string(msg), Raw: r.Raw,
	}
	if ok {
		t.Syslog = &futago.SyslogFields{Format: "rfc3164", Facility: 1, HasPRI: true, Time: string(r.Raw[4:19]), App: "app"}
	}
	return t, futago.NewKey(r.Kind, r.Source.Addr(), []byte("host"), msg)
}

var plainDecoders = map[futago.Kind]Decoder{
	futago.KindSyslog: plain, futago.KindSNMPTrap: plain, futago.KindCustomTrap: plain,
}

// machine is what the state machine knows about spools, and what it applied.
type machine struct {
	mu        sync.Mutex
	applied   map[command.ID]uint64
	replaced  map[command.ID]bool
	current   command.ID
	traps     []string // Raw in the order applied
	watermark int64
	empty     int
	errs      []error
	entries   int
}

func newMachine() *machine {
	return &machine{applied: map[command.ID]uint64{}, replaced: map[command.ID]bool{}}
}

func (m *machine) fault(format string, args ...any) {
	m.errs = append(m.errs, fmt.Errorf(format, args...))
}

func (m *machine) apply(b *command.TrapBatch) command.BatchResult {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries++
	if m.replaced[b.Spool] {
		return command.BatchResult{Applied: m.applied[b.Spool], Stale: true}
	}
	at := m.applied[b.Spool]
	if b.First > at+1 {
		return command.BatchResult{Applied: at, Gap: true}
	}
	if b.Spool != m.current {
		if !m.current.IsZero() {
			m.replaced[m.current] = true
		}
		m.current = b.Spool
	}
	if len(b.Copies) == 0 {
		m.empty++
	}
	for i, c := range b.Copies {
		if b.First+uint64(i) <= at {
			continue
		}
		body := b.Bodies[c.Body]
		if len(body.Trap) == 0 {
			return command.BatchResult{Applied: m.applied[b.Spool], NeedBody: true}
		}
		t, err := command.DecodeTrap(body.Trap)
		if err != nil {
			m.fault("body: %v", err)
		}
		if body.Key == (futago.Key{}) || body.Source != t.Source.Addr().WithZone("") || body.Severity != t.Severity || body.Kind != t.Kind {
			m.fault("body %+v does not fit its trap %+v", body, t)
		}
		m.traps = append(m.traps, string(t.Raw))
		m.applied[b.Spool]++
	}
	m.watermark = max(m.watermark, b.Watermark)
	return command.BatchResult{Applied: m.applied[b.Spool]}
}

func (m *machine) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.traps)
}

// want checks that exactly the records 1..n were applied, each once, in order.
func (m *machine) want(t interface {
	Helper()
	Fatalf(string, ...any)
}, n int,
) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, err := range m.errs {
		t.Fatalf("%v", err)
	}
	for i, raw := range m.traps {
		if want := string(rec(i + 1).Raw); raw != want {
			t.Fatalf("applied %q as number %d, want %q", raw, i+1, want)
		}
	}
	if len(m.traps) != n {
		t.Fatalf("%d records applied, want %d", len(m.traps), n)
	}
}

// future is a Pending.
type future struct {
	done chan struct{}
	res  command.BatchResult
	err  error
}

func (f *future) Wait(ctx context.Context) (command.BatchResult, error) {
	select {
	case <-f.done:
		return f.res, f.err
	case <-ctx.Done():
		return command.BatchResult{}, futago.Errorf(futago.CodeUnknown, "outcome unknown").Wrap(ctx.Err())
	}
}

func ready(res command.BatchResult, err error) *future {
	f := &future{done: make(chan struct{}), res: res, err: err}
	close(f.done)
	return f
}

// log is a leader with bad habits. One goroutine applies what is submitted.
type raftLog struct {
	m      *machine
	queue  chan queued
	wg     sync.WaitGroup
	closed chan struct{}

	mu      sync.Mutex
	rng     *rand.Rand
	faults  bool
	blank   float64 // part of bodies left out
	refuse  int     // how many submits are refused next
	compact *Compactor
	applyTo func(*command.TrapBatch) command.BatchResult // default: m.apply
	term    uint64
	latency time.Duration
}

type queued struct {
	data []byte
	f    *future
	lose bool
}

func newLog(m *machine, seed uint64, faults bool) *raftLog {
	l := &raftLog{
		m: m, queue: make(chan queued, 1024), closed: make(chan struct{}),
		rng: rand.New(rand.NewPCG(seed, 1)), faults: faults,
	}
	l.wg.Go(l.run)
	return l
}

func (l *raftLog) stop() {
	close(l.closed)
	l.wg.Wait()
}

func (l *raftLog) roll(p float64) bool { return l.faults && l.rng.Float64() < p }

func (l *raftLog) submit(_ context.Context, b *command.TrapBatch) Pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse > 0 {
		l.refuse--
		return ready(command.BatchResult{}, futago.Errorf(futago.CodeUnavailable, "there is no leader now"))
	}
	if l.roll(0.02) {
		l.refuse = l.rng.IntN(6)
	}
	if l.roll(0.05) {
		return ready(command.BatchResult{}, futago.Errorf(futago.CodeNotLeader, "not me"))
	}
	if l.compact != nil {
		l.compact.Compact(l.term, b)
	}
	for i := range b.Bodies {
		if l.blank > 0 && l.rng.Float64() < l.blank {
			b.Bodies[i].Trap = nil
		}
	}
	data, err := command.Encode(b)
	if err != nil {
		return ready(command.BatchResult{}, err)
	}
	q := queued{data: data, f: &future{done: make(chan struct{})}, lose: l.roll(0.05)}
	if l.roll(0.05) { // lost on the way
		q.f.err = futago.Errorf(futago.CodeUnknown, "outcome unknown")
		close(q.f.done)
		return q.f
	}
	l.queue <- q
	return q.f
}

func (l *raftLog) run() {
	var held []queued
	for {
		select {
		case <-l.closed:
			return
		case q := <-l.queue:
			l.mu.Lock()
			hold, release := l.roll(0.05), len(held) > 0 && l.roll(0.5)
			latency := l.latency
			l.mu.Unlock()
			if latency > 0 {
				select {
				case <-time.After(latency):
				case <-l.closed:
					return
				}
			}
			if hold { // comes into the log later, perhaps much later
				if l.f(q) {
					held = append(held, q)
				}
				continue
			}
			l.commit(q)
			if release {
				for _, h := range held {
					l.commit(h)
				}
				held = nil
			}
		}
	}
}

// f answers unknown for a batch that is held back.
func (l *raftLog) f(q queued) bool {
	q.f.err = futago.Errorf(futago.CodeUnknown, "outcome unknown")
	close(q.f.done)
	return true
}

func (l *raftLog) commit(q queued) {
	e, err := command.Decode(q.data)
	if err != nil {
		l.m.mu.Lock()
		l.m.fault("decode: %v", err)
		l.m.mu.Unlock()
		return
	}
	l.mu.Lock()
	apply := l.applyTo
	l.mu.Unlock()
	if apply == nil {
		apply = l.m.apply
	}
	res := apply(e.(*command.TrapBatch))
	select {
	case <-q.f.done: // answered already
		return
	default:
	}
	if q.lose {
		q.f.err = futago.Errorf(futago.CodeUnknown, "outcome unknown")
	} else {
		q.f.res = res
	}
	close(q.f.done)
}

func memDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "forward-test-") //nolint:usetesting // in memory: nothing is flushed
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func openSpool(t testing.TB, dir string) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, SegmentBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func options(s *spool.Spool, l *raftLog) Options {
	return Options{
		Member: futago.MemberA, Spool: s, Submit: l.submit, Decoders: plainDecoders,
		Settings: func() *futago.IntakeSettings { return &futago.IntakeSettings{} },
	}
}

// start runs a forwarder until stop is called.
func start(t testing.TB, o Options) (f *Forwarder, stop func()) {
	t.Helper()
	f = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return f, func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func appendTo(t testing.TB, s *spool.Spool, rs []futago.Received) {
	t.Helper()
	p := s.Producer("test", true)
	defer p.Close()
	if _, err := p.Append(rs); err != nil {
		t.Fatal(err)
	}
}

func poll(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func newSilent() *slog.Logger { return slog.New(slog.DiscardHandler) }
