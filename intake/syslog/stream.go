package syslog

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

	"golang.org/x/sys/unix"

	"github.com/futago/futago"
)

// The defaults and limits of streams.
const (
	DefaultMaxConnections = 2000
	// handshakeTimeout bounds a TLS handshake.
	handshakeTimeout = 20 * time.Second
	// drainTime is how long a stopping receiver reads what senders have sent.
	drainTime = 250 * time.Millisecond
	// appendBatch is the most messages of one connection appended at once.
	appendBatch = 1024
)

// StreamConfig says where and how to receive streams.
type StreamConfig struct {
	// Address is host:port; an empty host is every address of the machine.
	Address string
	// TLS makes the receiver one of RFC 5425.
	TLS *tls.Config
	// MaxMessage is the longest message in bytes, 1 KiB to 1 MiB, 64 KiB when
	// 0. Longer ones are cut to it and marked.
	MaxMessage int
	// MaxConnections is the most connections at once, [DefaultMaxConnections]
	// when 0. Others are closed at once and counted.
	MaxConnections int
	// IdleTimeout closes a connection that brings nothing for so long; 0 keeps
	// it. A peer that is gone is found by TCP keepalive in about two minutes.
	IdleTimeout time.Duration
	Appender    Appender
	Logger      *slog.Logger
}

// StreamStatus is a snapshot of the counters since the start.
type StreamStatus struct {
	Address string `json:"address"`
	// Received and Bytes count messages that the spool took.
	Received uint64 `json:"received"`
	Bytes    uint64 `json:"bytes"`
	// Truncated counts messages that were cut to the limit or that a
	// connection's end cut; Discarded are the bytes that the limit cost.
	Truncated uint64 `json:"truncated"`
	Discarded uint64 `json:"discarded"`
	// Faults counts places where a sender's octet counts were wrong.
	Faults uint64 `json:"faults"`
	// Open of at most Limit connections; Waiting of them wait for the spool.
	Open    int `json:"open"`
	Limit   int `json:"limit"`
	Waiting int `json:"waiting"`
	// Accepted and Refused count connections, Handshakes failed TLS handshakes.
	Accepted   uint64 `json:"accepted"`
	Refused    uint64 `json:"refused"`
	Handshakes uint64 `json:"handshakes_failed"`
	// Lost counts messages that had been read when the receiver was stopped
	// and that the spool still refused.
	Lost   uint64    `json:"lost"`
	LastAt time.Time `json:"last_at,omitzero"`
}

// Stream receives syslog over TCP (RFC 6587) or TLS (RFC 5425). Both framings
// are found out for each connection. Its methods may be called from any
// goroutine.
type Stream struct {
	cfg       StreamConfig
	transport futago.Transport
	log       *slog.Logger
	ln        net.Listener
	door      door
	quiet     quiet

	received, bytes, truncated, discarded, faults atomic.Uint64
	accepted, refused, handshakes, lost           atomic.Uint64
	open                                          atomic.Int64
	lastAt                                        atomic.Int64
}

// ListenStream binds the socket. Connections queue in the kernel until Run.
func ListenStream(ctx context.Context, cfg StreamConfig) (*Stream, error) {
	if err := checkMax(&cfg.MaxMessage); err != nil {
		return nil, err
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = DefaultMaxConnections
	}
	if cfg.MaxConnections < 1 {
		return nil, futago.Errorf(futago.CodeInvalid, "limit of %d connections is out of range", cfg.MaxConnections).WithAction("use 1 or more")
	}
	s := &Stream{cfg: cfg, transport: futago.TransportTCP}
	name := "syslog/tcp"
	if cfg.TLS != nil {
		s.transport, name = futago.TransportTLS, "syslog/tls"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s.log = cfg.Logger.With("component", name, "address", cfg.Address)
	s.door = door{log: s.log, to: cfg.Appender}
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4,
	}}
	ln, err := lc.Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		e := futago.Errorf(futago.CodeUnavailable, "cannot listen on tcp %s", cfg.Address).Wrap(err)
		switch {
		case errors.Is(err, unix.EADDRINUSE):
			e = e.WithAction("another program has this port; find it with: ss -ltnp")
		case errors.Is(err, unix.EACCES):
			e = e.WithAction("ports under 1024 need CAP_NET_BIND_SERVICE")
		case errors.Is(err, unix.EADDRNOTAVAIL):
			e = e.WithAction("this host does not have the address; see: ip address")
		}
		return nil, e
	}
	s.ln = ln
	s.cfg.Address = ln.Addr().String()
	return s, nil
}

// Addr returns the address that the socket is bound to.
func (s *Stream) Addr() netip.AddrPort {
	a := s.ln.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Close stops listening; Run returns when its connections have ended.
func (s *Stream) Close() error {
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run accepts connections until ctx ends or Close; call it once. When ctx ends
// it takes no more connections, takes what senders have already sent for a
// quarter of a second, closes, and returns when all has been appended. What a
// sender has sent later, its own TCP stack knows as not received.
//
// While the spool refuses, connections wait: senders feel it as a slow network
// and lose nothing.
func (s *Stream) Run(ctx context.Context) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { _ = s.ln.Close() }) // Accept tells of it
	defer stop()
	for {
		c, err := s.ln.Accept()
		switch {
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case isAcceptTransient(err):
			if s.quiet.allow() {
				s.log.Warn("accepting connections fails; trying again", "error", err)
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		default:
			return fmt.Errorf("accept on tcp %s: %w", s.cfg.Address, err)
		}
		if s.open.Add(1) > int64(s.cfg.MaxConnections) {
			s.open.Add(-1)
			s.refused.Add(1)
			if s.quiet.allow() {
				s.log.Warn("connection refused: too many are open", "source", c.RemoteAddr().String(),
					"limit", s.cfg.MaxConnections, "refused", s.refused.Load())
			}
			_ = c.Close() // nothing was read from it
			continue
		}
		s.accepted.Add(1)
		conns.Go(func() {
			defer s.open.Add(-1)
			s.serve(ctx, c)
		})
	}
}

// isAcceptTransient tells what passes by itself from a broken socket: accept(2)
// also reports errors of the network and of the new connection.
func isAcceptTransient(err error) bool {
	for _, e := range [...]error{
		unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR, unix.EPERM, unix.EPROTO,
		unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// serve reads one connection to its end.
func (s *Stream) serve(ctx context.Context, c net.Conn) {
	source := plainSource(remote(c))
	log := s.log.With("source", source.String())
	defer func() { _ = c.Close() }()
	if s.cfg.TLS != nil {
		t := tls.Server(c, s.cfg.TLS)
		hs, cancel := context.WithTimeout(ctx, handshakeTimeout)
		err := t.HandshakeContext(hs)
		cancel()
		if err != nil {
			s.handshakes.Add(1)
			if s.quiet.allow() {
				log.Warn("TLS handshake failed", "error", err)
			}
			return
		}
		c = t
	}
	r := &reader{s: s, source: source, f: framer{max: s.cfg.MaxMessage}}
	// The deadline is set from here when the receiver stops, and by read for
	// the idle time-out; r.stopping keeps the one from undoing the other.
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stopping = true
		_ = c.SetReadDeadline(time.Now().Add(drainTime)) // a closed connection ends the read too
		close(stopped)
	})
	defer func() {
		if !stop() {
			<-stopped
		}
	}()
	if err := r.read(ctx, c); err != nil {
		log.Info("connection ended", "error", err)
	}
}

func remote(c net.Conn) netip.AddrPort {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := a.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// Status reads the counters.
func (s *Stream) Status() StreamStatus {
	st := StreamStatus{
		Address: s.cfg.Address, Received: s.received.Load(), Bytes: s.bytes.Load(), Truncated: s.truncated.Load(),
		Discarded: s.discarded.Load(), Faults: s.faults.Load(), Open: int(s.open.Load()), Limit: s.cfg.MaxConnections,
		Waiting: int(s.door.waiting.Load()), Accepted: s.accepted.Load(), Refused: s.refused.Load(),
		Handshakes: s.handshakes.Load(), Lost: s.lost.Load(),
	}
	if at := s.lastAt.Load(); at != 0 {
		st.LastAt = time.Unix(0, at)
	}
	return st
}
