package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/futago/futago"
	"github.com/futago/futago/httpapi"
	"github.com/futago/futago/version"
)

// SocketName is the unix socket in the data directory by which the operator of
// this host, who can read the directory, is served without further credentials.
const SocketName = "api.sock"

// maxSocketPath is the longest name of a unix socket (unix(7): sun_path with its end).
const maxSocketPath = 107

// apiServer serves the REST API and the console, on HTTPS and on the local socket.
type apiServer struct {
	log    *slog.Logger
	api    *httpapi.API
	ln     net.Listener // nil when api_listen is empty
	local  net.Listener
	server *http.Server
	unix   *http.Server
}

// Limits of the API's listeners.
const (
	apiHeaderTimeout = 10 * time.Second
	apiIdleTimeout   = 2 * time.Minute
	apiDrain         = 3 * time.Second
)

func (m *Manager) listenAPI(ctx context.Context) (_ *apiServer, err error) {
	api, err := httpapi.New(httpapi.Options{ //nolint:contextcheck // requests bring their own
		Backend: service{m}, Gatherer: m.registry, Join: m.admission, SessionKey: m.dir.Keys().Derive("console sessions"),
		Version: version.String(), Logger: m.log, Now: m.now,
	})
	if err != nil {
		return nil, err
	}
	a := &apiServer{api: api, log: m.log.With("component", "api")}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	errLog := slog.NewLogLogger(a.log.Handler(), slog.LevelDebug) // handshakes of scanners
	a.server = &http.Server{
		Handler:           api.Handler(), //nolint:contextcheck // requests bring their own
		ReadHeaderTimeout: apiHeaderTimeout, IdleTimeout: apiIdleTimeout,
		TLSConfig: m.dir.Keys().ServerTLS("h2", "http/1.1"), ErrorLog: errLog,
	}
	a.unix = &http.Server{
		Handler:           api.LocalHandler(), //nolint:contextcheck // requests bring their own
		ReadHeaderTimeout: apiHeaderTimeout, IdleTimeout: apiIdleTimeout, ErrorLog: errLog,
	}
	var lc net.ListenConfig
	if m.cfg.APIListen != "" {
		if a.ln, err = lc.Listen(ctx, "tcp", m.cfg.APIListen); err != nil {
			return nil, futago.Errorf(futago.CodeUnavailable, "cannot listen on API address %s", m.cfg.APIListen).
				WithAction("check api_listen in the configuration, and what else holds that port (ss -ltnp)").Wrap(err)
		}
	}
	// The lock on the data directory is ours, so a socket that is there is a
	// dead process's.
	path := m.dir.Path(SocketName)
	if len(path) > maxSocketPath {
		return nil, futago.Errorf(futago.CodeInvalid, "data_dir makes the name of the local socket longer than %d bytes: %s", maxSocketPath, path).
			WithAction("choose a shorter data_dir")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if a.local, err = lc.Listen(ctx, "unix", path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return a, os.Chmod(path, 0o600)
}

func (a *apiServer) addr() string {
	if a.ln == nil {
		return ""
	}
	return a.ln.Addr().String()
}

func (a *apiServer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	serve := func(f func() error) func() error {
		return func() error {
			if err := f(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		}
	}
	if a.ln != nil {
		g.Go(serve(func() error { return a.server.ServeTLS(a.ln, "", "") }))
	}
	g.Go(serve(func() error { return a.unix.Serve(a.local) }))
	g.Go(func() error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiDrain)
		defer cancel()
		// Followers of the live stream never end by themselves.
		if err := a.api.Close(); err != nil {
			return err
		}
		if err := errors.Join(a.server.Shutdown(drain), a.unix.Shutdown(drain)); err != nil {
			return errors.Join(a.server.Close(), a.unix.Close())
		}
		return nil
	})
	return g.Wait()
}

// close closes the ports of an API that does not run.
func (a *apiServer) close() error {
	var errs []error
	for _, l := range []net.Listener{a.ln, a.local} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
