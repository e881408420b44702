package httpapi

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/futago/futago"
	"github.com/futago/futago/httpapi/console"
)

// Bounds of one request.
const (
	requestTimeout = 30 * time.Second // of work, streams apart
	writeTimeout   = 60 * time.Second // until the client has taken the answer
)

// API answers for one manager. Its methods are safe for concurrent use.
type API struct {
	o       Options
	log     *slog.Logger
	auth    *authenticator
	metrics *metrics
	spec    document
	streams chan struct{} // one element for each that is open
	closing chan struct{}
	once    sync.Once
}

// New makes the API.
func New(o Options) (*API, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &API{
		o: o, log: o.Logger.With("component", "httpapi"), auth: newAuthenticator(o), metrics: newMetrics(),
		streams: make(chan struct{}, maxStreams), closing: make(chan struct{}),
	}
	var err error
	a.spec, err = describe(a)
	return a, err
}

// Close ends the live streams, which would otherwise hold up the shutdown of an
// HTTP server. Requests under way go on. It may be called more than once.
func (a *API) Close() error {
	a.once.Do(func() { close(a.closing) })
	return nil
}

// Handler serves the API and the console to everybody, with authentication.
func (a *API) Handler() http.Handler { return a.handler(a.authenticate, a.auth.authenticate) }

// LocalHandler serves this host's own socket: who may open it may do anything.
func (a *API) LocalHandler() http.Handler {
	return a.handler(localOnly, func(*http.Request) (caller, error) { return localOperator, nil })
}

func (a *API) handler(authenticate func(http.Handler) http.Handler, who func(*http.Request) (caller, error)) http.Handler {
	r := chi.NewRouter()
	r.Use(a.observe, a.recoverer, secureHeaders, middleware.GetHead)
	r.Get("/healthz", health)
	r.Get("/readyz", a.ready)
	r.Get("/openapi.json", a.spec.serveJSON)
	r.Get("/openapi.yaml", a.spec.serveYAML)
	if a.o.Join != nil {
		r.Handle("/join/v1", a.o.Join)
	}
	r.Group(func(r chi.Router) {
		r.Use(authenticate)
		r.With(a.viewer).Method(http.MethodGet, "/metrics", promhttp.HandlerFor(
			prometheus.Gatherers{a.o.Gatherer, a.metrics.registry},
			promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: requestTimeout}))
		a.operations(humachi.New(r, humaConfig()))
	})
	console.Mount(r, console.Options{
		Backend: a.o.Backend, SignIn: a.auth.signIn, SignOut: a.auth.signOut,
		Caller: func(r *http.Request) (console.Caller, error) {
			c, err := who(r)
			return console.Caller{Name: c.name, Role: c.role, Check: c.check}, err
		},
		Stream: a.openStream, Closing: a.closing,
		Logger: a.o.Logger, Version: a.o.Version, Now: a.o.Now,
	})
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, a.problem(r.Context(), futago.Errorf(futago.CodeNotFound, "there is no %s", r.URL.Path).
			WithAction("see /openapi.yaml for what there is")))
	})
	r.MethodNotAllowed(notAllowed(r))
	return r
}

// operations registers everything that the OpenAPI document describes.
func (a *API) operations(api huma.API) {
	a.statusOperations(api)
	a.eventOperations(api)
	a.settingsOperations(api)
	a.userOperations(api)
	a.tokenOperations(api)
}

// notAllowed answers a wrong method with those that are right (RFC 9110, 15.5.6).
func notAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			if routes.Match(chi.NewRouteContext(), m, r.URL.Path) {
				w.Header().Add("Allow", m)
			}
		}
		writeProblem(w, r, &Problem{
			Title: http.StatusText(http.StatusMethodNotAllowed), Status: http.StatusMethodNotAllowed, Code: futago.CodeInvalid,
			Detail: r.URL.Path + " does not take " + r.Method, Action: "see /openapi.yaml for what it takes",
		})
	}
}

func health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n")) // the client is gone if this fails
}

// ready asks nobody for credentials, so it does not repeat causes, which may
// name files and addresses.
func (a *API) ready(w http.ResponseWriter, r *http.Request) {
	err := a.o.Backend.Ready(r.Context())
	if err == nil {
		health(w, r)
		return
	}
	a.log.Debug("not ready", "err", err)
	p := a.problem(r.Context(), err)
	p.Status, p.Title = http.StatusServiceUnavailable, http.StatusText(http.StatusServiceUnavailable)
	p.Detail, p.Action = "this manager does not serve its role now", "see futago status on its host"
	writeProblem(w, r, p)
}
