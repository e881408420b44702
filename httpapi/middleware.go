package httpapi

import (
	"errors"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/futago/futago"
)

// observe counts requests, and bounds how long a client may take its answer.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		// A recorder of a test has no deadlines; every real connection has.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		start, ctx := time.Now(), r.Context()
		defer func() {
			route := chi.RouteContext(ctx).RoutePattern()
			a.metrics.request(r.Method, route, ww.Status(), time.Since(start))
			a.log.DebugContext(ctx, "request", "method", r.Method, "path", r.URL.Path, "status", ww.Status(),
				"bytes", ww.BytesWritten(), "took", time.Since(start), "from", r.RemoteAddr)
		}()
		next.ServeHTTP(ww, r)
	})
}

// recoverer turns a panic into a 500, and the process goes on. An answer that
// has begun is cut off instead, so that nobody takes a part of it for the whole.
func (a *API) recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			a.log.ErrorContext(ctx, "panic in a request", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			if ww, ok := w.(middleware.WrapResponseWriter); ok && ww.Status() != 0 {
				panic(http.ErrAbortHandler)
			}
			writeProblem(w, r, a.problem(ctx, futago.Errorf(futago.CodeInternal, "panic")))
		}()
		next.ServeHTTP(w, r)
	})
}

// secureHeaders are for browsers. There is no Strict-Transport-Security: it
// would hold for every port of the host, and other services of the host are
// not ours to move to HTTPS; this port speaks nothing else.
func secureHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
