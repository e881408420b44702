package generate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/futago/futago"
)

// Network is where traps are sent from: a lab.Host, or [Local].
type Network interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
}

// Local is the network of this process.
type Local struct{}

// DialContext implements [Network].
func (Local) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// ListenPacket implements [Network].
func (Local) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, address)
}

// Target is where one manager receives. Only what the plan's flavours need must be set.
type Target struct {
	Member    futago.MemberID
	SyslogUDP netip.AddrPort
	SyslogTCP netip.AddrPort
	SyslogTLS netip.AddrPort
	SNMP      netip.AddrPort
	// CustomURL is like "https://10.77.0.10:8082/". The host must be an address.
	CustomURL string
}

// datagramAddr is where a datagram flavour goes.
func (t *Target) datagramAddr(f Flavour) netip.AddrPort {
	if f.Kind() == futago.KindSNMPTrap {
		return t.SNMP
	}
	return t.SyslogUDP
}

// supports names what is missing for a flavour.
func (t *Target) supports(f Flavour) error {
	var ok bool
	switch f {
	case SyslogBSDStream, SyslogIETFStream:
		ok = t.SyslogTCP.IsValid()
	case SyslogIETFTLS:
		ok = t.SyslogTLS.IsValid()
	case Custom:
		ok = t.CustomURL != ""
	default:
		ok = t.datagramAddr(f).IsValid()
	}
	if !ok {
		return fmt.Errorf("target %s has no address for %s", t.Member, f)
	}
	return nil
}

// Config is what a [Generator] needs.
type Config struct {
	Plan    Plan
	Targets []Target
	// Network is where the traps come from. Default: Local.
	Network Network
	// Run marks the traps, so that those of several runs can be told apart.
	Run uint32
	// Host is the name that the sender gives itself. Default "generator".
	Host      string
	Community string   // default "public"
	SNMPUser  SNMPUser // needed for SNMPv3
	TLS       *tls.Config
	// Token is the bearer token of custom traps; "" sends none.
	Token string
	// Timeout is how long a stream write, an answer to an inform or to a custom
	// trap may take. Default 15 s, above the managers' own 10 s for custom traps.
	Timeout time.Duration
	// Queue is how many copies of one flavour may wait for one manager; more are
	// entered as Unsent, for a plan is never held up. Default 4096.
	Queue  int
	Logger *slog.Logger // default: discard
}

// Generator sends a plan once.
type Generator struct {
	cfg     Config
	log     *slog.Logger
	journal *Journal
	usm     *usm
	ids     atomic.Uint32
	started time.Time
	sent    atomic.Uint64 // items begun
}

// New checks a configuration.
func New(cfg Config) (*Generator, error) {
	if err := cfg.Plan.validate(); err != nil {
		return nil, err
	}
	if len(cfg.Plan.Mix) == 0 {
		cfg.Plan.Mix = EvenMix()
	}
	if len(cfg.Targets) == 0 {
		return nil, errors.New("no target is given")
	}
	if cfg.Network == nil {
		cfg.Network = Local{}
	}
	if cfg.Host == "" {
		cfg.Host = "generator"
	}
	if cfg.Community == "" {
		cfg.Community = "public"
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 4096
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Generator{cfg: cfg, log: cfg.Logger.With("component", "generator"), journal: &Journal{Run: cfg.Run}}
	for _, s := range cfg.Plan.Mix {
		for i := range cfg.Targets {
			if err := cfg.Targets[i].supports(s.Flavour); err != nil {
				return nil, err
			}
		}
		if s.Flavour == SNMPv3 && g.usm == nil {
			var err error
			if g.usm, err = newUSM(cfg.SNMPUser, engineID(cfg.Run)); err != nil {
				return nil, err
			}
		}
	}
	return g, nil
}

// Journal is the account of what was sent; it fills while Run runs.
func (g *Generator) Journal() *Journal { return g.journal }

// Progress is how many occurrences were begun so far.
func (g *Generator) Progress() uint64 { return g.sent.Load() }

func (g *Generator) encoder() *encoder {
	return &encoder{
		run: g.cfg.Run, start: g.started, host: g.cfg.Host, community: g.cfg.Community, ids: &g.ids, usm: g.usm,
	}
}

// Run sends the plan and returns when the fate of every copy is in the
// journal. It ends early when ctx ends, with its error; copies that were begun
// are in the journal then as well. It may be called once.
func (g *Generator) Run(ctx context.Context) error {
	g.started = time.Now()
	udp, err := g.cfg.Network.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return fmt.Errorf("socket for datagrams: %w", err)
	}
	defer udp.Close()

	var wg sync.WaitGroup
	lanes := make(map[laneKey]*lane)
	for i := range g.cfg.Targets {
		for _, s := range g.cfg.Plan.Mix {
			if key := (laneKey{i, s.Flavour}); !s.Flavour.Datagram() && lanes[key] == nil {
				l := &lane{g: g, target: &g.cfg.Targets[i], flavour: s.Flavour, queue: make(chan job, g.cfg.Queue)}
				lanes[key] = l
				wg.Go(func() { l.run(ctx) })
			}
		}
	}
	defer func() {
		for _, l := range lanes {
			close(l.queue)
		}
		wg.Wait()
	}()

	enc := g.encoder()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var buf []byte
	for it := range g.cfg.Plan.Items() {
		due := g.started.Add(it.At)
		if wait := time.Until(due); wait > 100*time.Microsecond {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
		g.sent.Add(1)
		now := time.Now()
		if it.Flavour.Kind() == futago.KindSyslog {
			// Both managers get the very same bytes, time stamp included.
			buf = enc.append(buf[:0], it, now)
		}
		for i := range g.cfg.Targets {
			t := &g.cfg.Targets[i]
			c := Copy{
				Number: it.Number, Occurrence: it.Occurrence, Flavour: it.Flavour, Member: t.Member,
				At: now.UnixNano(), Outcome: Sent,
			}
			if !it.Flavour.Datagram() {
				lanes[laneKey{i, it.Flavour}].put(c, it.First)
				continue
			}
			if it.Flavour.Kind() == futago.KindSNMPTrap {
				buf = enc.append(buf[:0], it, now)
			}
			// The socket is not connected, so a manager that is down and says so
			// by ICMP does not make the next datagram fail.
			if _, err := udp.WriteTo(buf, net.UDPAddrFromAddrPort(t.datagramAddr(it.Flavour))); err != nil {
				c.Outcome, c.Why = Unsent, err.Error()
			}
			c.Done = time.Now().UnixNano()
			g.journal.Add(c)
		}
	}
	return nil
}
