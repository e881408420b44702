// Package console is the web console: pages made on the server from templates
// that are built in, one small script that renews their parts when something
// has changed, and nothing from other hosts. Everything that senders wrote is
// escaped here, with control characters made visible.
package console

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/futago/futago"
)

// Backend is what the pages read. It is a part of the API's.
type Backend interface {
	Status(ctx context.Context) (futago.ClusterStatus, error)
	Member() futago.MemberID
	Leader() (member futago.MemberID, api string)
	Events(ctx context.Context, q futago.EventQuery) (futago.EventPage, error)
	Event(ctx context.Context, id uint64) (futago.Event, error)
	Subscribe(ctx context.Context) <-chan struct{}
}

// Caller is who looks at a page.
type Caller struct {
	Name string
	Role futago.Role
	// Check tells whether the credentials still hold; nil when they always do.
	Check func(context.Context) error
}

// Options are what Mount needs. All fields are needed.
type Options struct {
	Backend Backend
	// SignIn checks a password and sets the session's cookie; SignOut removes it.
	SignIn  func(w http.ResponseWriter, r *http.Request, name, password string) error
	SignOut func(w http.ResponseWriter)
	// Caller authenticates a request.
	Caller func(r *http.Request) (Caller, error)
	// Stream takes one of the places for live streams.
	Stream func() (release func(), err error)
	// Closing ends the live streams.
	Closing <-chan struct{}
	Logger  *slog.Logger
	Version string
	Now     func() time.Time
}

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// console serves the pages.
type console struct {
	o      Options
	log    *slog.Logger
	pages  map[string]*template.Template
	status *statusCache
}

// Mount adds the console's routes. It panics when a built-in template is wrong,
// which a test would have seen.
func Mount(r chi.Router, o Options) {
	c := &console{o: o, log: o.Logger.With("component", "console"), pages: map[string]*template.Template{}, status: newStatusCache(o)}
	for _, name := range []string{"live", "event", "sign-in", "problem"} {
		c.pages[name] = template.Must(template.New("layout.html").Funcs(funcs).
			ParseFS(templateFiles, "templates/layout.html", "templates/parts.html", "templates/"+name+".html"))
	}
	r.Group(func(r chi.Router) {
		r.Use(http.NewCrossOriginProtection().Handler)
		for _, name := range []string{"console.js", "console.css", "icon.svg"} {
			r.Get("/static/"+name, func(w http.ResponseWriter, r *http.Request) {
				// A new version of the program brings new files under the same names.
				w.Header().Set("Cache-Control", "no-cache")
				http.ServeFileFS(w, r, staticFiles, "static/"+name)
			})
		}
		r.Get("/sign-in", c.signInPage)
		r.Post("/sign-in", c.signIn)
		r.Post("/sign-out", c.signOut)
		r.Get("/", c.member(c.live))
		r.Get("/events/{id}", c.member(c.event))
		r.Get("/part/status", c.member(c.statusPart))
		r.Get("/part/events", c.member(c.eventsPart))
		r.Get("/live", c.member(c.changes))
	})
}

// page is what every page shows.
type page struct {
	Title   string
	Member  futago.MemberID
	Version string
	Caller  Caller // Name "" when nobody is signed in
	Zone    string
	// Refresh says that the script renews the page's parts.
	Refresh bool
	Body    any
}

// handler is a page for somebody who may read. Its error is shown as a page.
type handler func(w http.ResponseWriter, r *http.Request, who Caller) error

// member admits callers who may read; others are sent to sign in.
func (c *console) member(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := c.o.Caller(r)
		if err == nil && !who.Role.Allows(futago.RoleViewer) {
			err = futago.Errorf(futago.CodeForbidden, "%s may not read", who.Name).WithAction("ask an admin for the role viewer")
		}
		switch {
		case err == nil:
			err = h(w, r, who)
		case futago.CodeOf(err) == futago.CodeUnauthorized && r.Header.Get("Futago-Part") == "" && r.URL.Path != "/live":
			c.toSignIn(w, r)
			return
		}
		if err != nil {
			c.problem(w, r, who, err)
		}
	}
}

// statusOf are the codes that a page may meet.
var statusOf = map[futago.Code]int{
	futago.CodeInvalid:      http.StatusUnprocessableEntity,
	futago.CodeNotFound:     http.StatusNotFound,
	futago.CodeUnauthorized: http.StatusUnauthorized,
	futago.CodeForbidden:    http.StatusForbidden,
	futago.CodeUnavailable:  http.StatusServiceUnavailable,
}

// problem shows an error as a page. Faults of Futago itself are logged in full
// and shown as a fixed phrase.
func (c *console) problem(w http.ResponseWriter, r *http.Request, who Caller, err error) {
	if r.Context().Err() != nil {
		return // the reader has gone
	}
	status, ok := statusOf[futago.CodeOf(err)]
	e, isOurs := errors.AsType[*futago.Error](err)
	if !ok || !isOurs {
		c.log.Error("page failed", "path", r.URL.Path, "err", err)
		status, e = http.StatusInternalServerError, futago.Errorf(futago.CodeInternal, "internal error").WithAction("see this manager's log")
	}
	c.render(w, status, "problem", page{Title: http.StatusText(status), Caller: who, Body: e})
}

// render writes a page, or a part of one, whole or not at all.
func (c *console) render(w http.ResponseWriter, status int, name string, p page) {
	p.Member, p.Version, p.Zone = c.o.Backend.Member(), c.o.Version, "UTC"
	c.write(w, status, c.pages[name], "layout.html", p)
}
