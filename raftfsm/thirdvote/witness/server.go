package witness

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

// DefaultListen is where a witness listens unless told otherwise.
const DefaultListen = ":7702"

// Limits that no healthy manager meets.
const (
	maxBody           = 16 << 10
	maxHeader         = 8 << 10
	headerTimeout     = 5 * time.Second // also bounds the TLS handshake
	requestTimeout    = 10 * time.Second
	responseTimeout   = 30 * time.Second // longer than a slow disk's flush
	idleTimeout       = 5 * time.Minute  // longer than any manager's
	shutdownTimeout   = 5 * time.Second
	defaultMaxConns   = 4096
	maxClustersInMind = 4096
	deniedLog         = 10 * time.Second // at most one line about wrong tokens in
)

// Config is what New needs.
type Config struct {
	// Dir is the data directory. It is made if missing, and one process at a
	// time may use it.
	Dir string
	// Listen is the TCP address, DefaultListen if empty.
	Listen string
	// Names are host names and addresses to put into the certificate, for tools
	// that check names. Managers check the pin instead.
	Names []string
	// MaxConns bounds the open connections, 4096 if zero. A manager holds one
	// or two.
	MaxConns int
	// Logger must not be nil.
	Logger *slog.Logger
	// MetricsListen is the TCP address of GET /metrics, in plain HTTP and
	// without credentials: give it a loopback address. None if empty.
	MetricsListen string
	// Registry takes the metrics and is what MetricsListen serves; a new one if
	// nil. Others may register in it too.
	Registry *prometheus.Registry
}

// Server is a witness. It holds the data directory and the listening socket
// from New until Run or Close has returned.
type Server struct {
	cfg  Config
	log  *slog.Logger
	disk *atomicfile.Disk
	id   *identity
	root string
	lock *os.File
	ln   net.Listener
	met  *metrics
	http *http.Server

	// metricsLn and metricsHTTP serve /metrics; nil without MetricsListen.
	metricsLn   net.Listener
	metricsHTTP *http.Server

	grace  time.Duration // for requests under way at the end
	denied *throttle

	closeOnce sync.Once
	closeErr  error

	mu       sync.RWMutex // guards clusters
	clusters map[string]*cluster
}

// New takes the data directory, reads every record and listens. Errors are
// *futago.Error where the operator can do something: the directory is in use,
// the address is taken, the identity is damaged. A damaged record is logged,
// and the other clusters are served.
func New(cfg Config) (*Server, error) { return newServer(cfg, atomicfile.OS()) }

func newServer(cfg Config, disk *atomicfile.Disk) (_ *Server, err error) {
	if cfg.Dir == "" {
		return nil, futago.Errorf(futago.CodeInvalid, "no data directory given")
	}
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = defaultMaxConns
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	s := &Server{
		cfg: cfg, disk: disk, clusters: make(map[string]*cluster), grace: shutdownTimeout, denied: &throttle{every: deniedLog},
		log: cfg.Logger.With(slog.String("component", "witness")),
	}
	s.met = newMetrics(func() int {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return len(s.clusters)
	})
	if s.root, err = prepareDir(disk, cfg.Dir); err != nil {
		return nil, diskError(err, cfg.Dir)
	}
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, diskError(err, cfg.Dir)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.id, err = loadIdentity(disk, cfg.Dir, cfg.Names, time.Now()); err != nil {
		return nil, diskError(err, cfg.Dir)
	}
	if err := s.loadClusters(); err != nil {
		return nil, diskError(err, cfg.Dir)
	}
	ln, err := listen(cfg.Listen, "--listen")
	if err != nil {
		return nil, err
	}
	s.ln = &limitListener{Listener: ln, max: int64(cfg.MaxConns), m: s.met}
	if err := s.met.register(cfg.Registry); err != nil {
		return nil, err
	}
	s.http = s.server(s.handler())
	if cfg.MetricsListen != "" {
		if s.metricsLn, err = listen(cfg.MetricsListen, "--metrics-listen"); err != nil {
			return nil, err
		}
		s.metricsHTTP = s.server(metricsHandler(cfg.Registry))
	}
	return s, nil
}

func listen(addr, flag string) (net.Listener, error) {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, futago.Errorf(futago.CodeUnavailable, "cannot listen on %s", addr).
			WithAction("free the address, or give another one with %s", flag).Wrap(err)
	}
	return ln, nil
}

func (s *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      responseTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) loadClusters() error {
	names, err := clusterNames(s.root)
	if err != nil {
		return err
	}
	for _, n := range names {
		c := openCluster(s.root, n, s.disk, s.met.observeFlush)
		s.clusters[n] = c
		if err := c.cur.Load().err; err != nil {
			s.log.Error("record cannot be served", slog.String("cluster", n), slog.Any("error", err))
		}
	}
	return nil
}

// cluster returns the cluster of that name, nil when there is none. One made
// by NewInvitation since the start is found too.
func (s *Server) cluster(name string) (*cluster, error) {
	s.mu.RLock()
	c := s.clusters[name]
	s.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	if _, err := os.Stat(filepath.Join(s.root, name, "tokens")); err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clusters[name]; c != nil {
		return c, nil
	}
	if len(s.clusters) >= maxClustersInMind {
		return nil, errTooMany
	}
	c = openCluster(s.root, name, s.disk, s.met.observeFlush)
	s.clusters[name] = c
	return c, nil
}

var errTooMany = errors.New("too many clusters")

// Addr is the address listened on, useful when Config.Listen had port 0.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// MetricsAddr is the address of /metrics, nil where it is not served.
func (s *Server) MetricsAddr() net.Addr {
	if s.metricsLn == nil {
		return nil
	}
	return s.metricsLn.Addr()
}

// Pin is the pin of the witness's public key, as in an Invitation.
func (s *Server) Pin() string { return s.id.pin }

// Run serves until ctx ends, then finishes the requests under way, gives
// everything back, and returns nil. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info("witness is up", slog.String("address", s.Addr().String()), slog.String("pin", s.id.pin), slog.Int("clusters", len(s.clusters)))
	servers := []*http.Server{s.http}
	ended := make(chan error, 2)
	go func() { ended <- s.http.Serve(tls.NewListener(s.ln, s.id.tlsConfig())) }()
	if s.metricsHTTP != nil {
		servers = append(servers, s.metricsHTTP)
		go func() { ended <- s.metricsHTTP.Serve(s.metricsLn) }()
	}
	left := len(servers)
	var err error
	select {
	case err = <-ended:
		left--
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	for _, h := range servers {
		if h.Shutdown(stop) != nil {
			err = errors.Join(err, h.Close()) // a disk that hangs must not keep the process
		}
	}
	for range left {
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	s.log.Info("witness is down")
	return errors.Join(err, s.Close())
}

// Close gives the socket and the data directory back. It is for a server that
// was made and never run; after Run it does nothing.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		var errs []error
		for _, h := range []*http.Server{s.http, s.metricsHTTP} {
			if h != nil {
				errs = append(errs, h.Close())
			}
		}
		for _, ln := range []net.Listener{s.ln, s.metricsLn} {
			if ln == nil {
				continue
			}
			if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		s.met.unregister(s.cfg.Registry)
		if s.endWrites() {
			errs = append(errs, s.lock.Close())
		} else {
			errs = append(errs, errDiskHangs)
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

// errDiskHangs is returned with the directory still locked: a write that hangs
// now could put its record over that of a process that comes later. The lock
// ends with this process, and so does the write.
var errDiskHangs = errors.New("a write hangs: the data directory stays locked until this process ends")

// endWrites waits for the writes under way, keeps others from beginning, and
// reports whether none is left.
func (s *Server) endWrites() bool {
	grace := time.NewTimer(s.grace)
	defer grace.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clusters {
		select {
		case c.turn <- struct{}{}:
		case <-grace.C:
			return false
		}
	}
	return true
}
