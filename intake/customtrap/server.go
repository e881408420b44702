package customtrap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"github.com/futago/futago"
)

// The defaults and limits of a [Server].
const (
	// DefaultAddress has the port of Hinemos.
	DefaultAddress = ":8082"
	// DefaultCommitTimeout is how long a request waits for its commitment.
	DefaultCommitTimeout = 10 * time.Second
	// DefaultMaxConns is how many connections are open at once; more wait to
	// be accepted.
	DefaultMaxConns = 4096
	// MaxBody is the longest body in bytes.
	MaxBody = 1 << 20

	maxRequests   = 4096     // in work at once
	maxBodyMemory = 64 << 20 // bytes of bodies being read at once
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10
)

// Producer takes what arrived: a producer of the spool.
type Producer interface {
	// Append stores records and sets their Seq to their positions, 0 where a
	// record was not stored. It keeps none of them.
	Append(recs []futago.Received) (last uint64, err error)
}

// Commits says what is committed: the spool.
type Commits interface {
	// WaitAcked returns nil once the record with the sequence number and all
	// before it are committed.
	WaitAcked(ctx context.Context, seq uint64) error
}

// Config of a [Server]. Producer, Commits and Settings are needed.
type Config struct {
	// Address is host:port, [DefaultAddress] when "".
	Address string
	// TLS is for HTTPS, with HTTP/2; nil serves plain HTTP.
	TLS      *tls.Config
	Producer Producer
	Commits  Commits
	// Settings returns the settings in force. They are not changed afterwards.
	Settings func() *futago.IntakeSettings
	Logger   *slog.Logger
	// CommitTimeout is [DefaultCommitTimeout] when 0, MaxConns [DefaultMaxConns].
	CommitTimeout time.Duration
	MaxConns      int
}

// Status is a snapshot of a server's counters since its start.
type Status struct {
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
	// Requests were answered, each in one of the ways below.
	Requests uint64 `json:"requests"`
	// Accepted requests were committed with all their elements.
	Accepted uint64 `json:"accepted"`
	// Rejected were wrong, Unauthorized among them.
	Rejected     uint64 `json:"rejected"`
	Unauthorized uint64 `json:"unauthorized"`
	// Overloaded found too many others in work.
	Overloaded uint64 `json:"overloaded"`
	// Refused found no room in the spool.
	Refused uint64 `json:"refused"`
	// Uncommitted were spooled and not committed in time, or their sender left.
	Uncommitted uint64 `json:"uncommitted"`
	// Elements counts those put into the spool.
	Elements uint64 `json:"elements"`
	// InWork counts requests being read or waiting for their commitment.
	InWork int `json:"in_work"`
}

// Server receives custom traps on one address.
type Server struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	http     *http.Server
	scheme   futago.Transport

	zones zoneCache

	appendMu sync.Mutex // a producer is for one goroutine

	inWork, bodyMemory                         atomic.Int64
	requests, accepted, rejected, unauthorized atomic.Uint64
	overloaded, refused, uncommitted, elements atomic.Uint64
}

// Listen binds the address. Connections wait in the kernel until Run.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Address == "" {
		cfg.Address = DefaultAddress
	}
	if cfg.CommitTimeout == 0 {
		cfg.CommitTimeout = DefaultCommitTimeout
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, listenError(cfg.Address, err)
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger.With("component", "customtrap", "address", l.Addr().String()),
		listener: netutil.LimitListener(l, cfg.MaxConns), scheme: futago.TransportHTTP,
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	if cfg.TLS != nil {
		s.scheme = futago.TransportHTTPS
		protocols.SetHTTP2(true)
	}
	s.http = &http.Server{
		Handler: s, TLSConfig: cfg.TLS.Clone(), Protocols: &protocols,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		WriteTimeout: readTimeout + cfg.CommitTimeout + headerTimeout, MaxHeaderBytes: maxHeader,
		// Mostly scanners and clients that do not know our authority.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

func listenError(address string, err error) error {
	e := futago.Errorf(futago.CodeUnavailable, "cannot listen on tcp %s", address).Wrap(err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return e.WithAction("another program has this port; find it with: ss -ltnp")
	case errors.Is(err, syscall.EACCES):
		return e.WithAction("ports under 1024 need CAP_NET_BIND_SERVICE")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return e.WithAction("this host does not have the address; see: ip address")
	}
	return e
}

// Addr returns the address that the server is bound to.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends. It then takes no more connections, lets requests
// in work end for as long as one may wait for its commitment, and closes the rest.
func (s *Server) Run(ctx context.Context) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.CommitTimeout)
		defer cancel()
		err := s.http.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.http.Close()
		}
		stopped <- err
	})
	var err error
	if s.cfg.TLS != nil {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if stop() { // not ended by ctx
		return fmt.Errorf("custom trap receiver: %w", errors.Join(err, s.http.Close()))
	}
	return <-stopped
}

// Close closes the socket of a server that is not run; Run closes it itself.
func (s *Server) Close() error { return s.listener.Close() }

// Status reads the counters.
func (s *Server) Status() Status {
	st := s.counters()
	st.Address, st.TLS = s.Addr().String(), s.cfg.TLS != nil
	return st
}

func (s *Server) counters() Status {
	return Status{
		Requests: s.requests.Load(), Accepted: s.accepted.Load(), Rejected: s.rejected.Load(),
		Unauthorized: s.unauthorized.Load(), Overloaded: s.overloaded.Load(), Refused: s.refused.Load(),
		Uncommitted: s.uncommitted.Load(), Elements: s.elements.Load(), InWork: int(s.inWork.Load()),
	}
}
