package witness

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/clusters/{name}/record", s.get)
	mux.HandleFunc("PUT /v1/clusters/{name}/record", s.put)
	mux.HandleFunc("GET /v1/health", s.health)
	mux.HandleFunc("/v1/clusters/{name}/record", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, HEAD, PUT")
		s.refuse(w, opOther, outInvalid, problem(http.StatusMethodNotAllowed, futago.CodeInvalid, "a record can be read and written", ""))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, opOther, outInvalid, problem(http.StatusNotFound, futago.CodeNotFound, "there is nothing at this path", ""))
	})
	return mux
}

// health answers whoever asks; it tells nothing about clusters.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, `{"status":"ok"}`+"\n")
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	c, ok := s.authorize(w, r, opRead)
	if !ok {
		return
	}
	rec, err := c.read(r.Context())
	if err != nil {
		s.fail(w, opRead, c.name, rec, err)
		return
	}
	s.done(w, opRead, http.StatusOK, rec)
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	match, none := r.Header.Values("If-Match"), r.Header.Values("If-None-Match")
	op := opCAS
	if len(none) > 0 {
		op = opCreate
	}
	c, ok := s.authorize(w, r, op)
	if !ok {
		return
	}
	var expect string
	switch {
	case len(match)+len(none) == 0:
		s.refuse(w, op, outInvalid, problem(http.StatusPreconditionRequired, futago.CodeInvalid,
			"a record is written with If-Match, or with If-None-Match: * the first time", ""))
		return
	case len(match) == 1 && len(none) == 0 && strongTag(match[0]):
		expect = match[0]
	case len(match) == 0 && len(none) == 1 && none[0] == "*":
	default:
		s.refuse(w, op, outInvalid, problem(http.StatusBadRequest, futago.CodeInvalid,
			"exactly one strong entity tag is needed in If-Match, or * in If-None-Match", ""))
		return
	}
	if ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || ct != "application/json" {
		s.refuse(w, op, outInvalid, problem(http.StatusUnsupportedMediaType, futago.CodeInvalid, "a record is application/json", ""))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		p := problem(http.StatusBadRequest, futago.CodeInvalid, "the request's body did not arrive whole", "")
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			p = problem(http.StatusRequestEntityTooLarge, futago.CodeInvalid, "a record has at most 16 KiB", "")
		}
		s.refuse(w, op, outInvalid, p)
		return
	}
	next, err := parseRecord(body)
	if err != nil {
		s.refuse(w, op, outInvalid, problem(http.StatusBadRequest, futago.CodeInvalid, err.Error(), ""))
		return
	}
	cur, err := c.compareAndSet(r.Context(), expect, next)
	if err != nil {
		s.fail(w, op, c.name, cur, err)
		return
	}
	s.done(w, op, http.StatusOK, cur)
}

// strongTag reports whether s is one strong entity tag, no list and no star.
func strongTag(s string) bool {
	return len(s) > 2 && s[0] == '"' && s[len(s)-1] == '"' && !strings.ContainsAny(s[1:len(s)-1], `",`)
}

// authorize finds the cluster and checks the token. When it returns false it
// has answered. An unknown cluster looks like a wrong token.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, op string) (*cluster, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		s.refuse(w, op, outDenied, problem(http.StatusUnauthorized, futago.CodeUnauthorized, "a token is needed",
			"send the token of the witness invitation"))
		return nil, false
	}
	name := r.PathValue("name")
	var c *cluster
	var ok bool
	if ValidCluster(name) {
		var err error
		if c, err = s.cluster(name); err == nil && c != nil {
			ok, err = c.allows(strings.TrimSpace(token))
		}
		if err != nil {
			s.fail(w, op, name, nil, err)
			return nil, false
		}
	}
	if !ok {
		if more, ok := s.denied.next(time.Now()); ok {
			s.log.Warn("token refused", slog.String("cluster", name), slog.String("from", r.RemoteAddr), slog.Int("more", more))
		}
		s.refuse(w, op, outDenied, problem(http.StatusForbidden, futago.CodeForbidden, "the token is not valid for this cluster",
			"make a new invitation with `futago witness invite`"))
		return nil, false
	}
	return c, true
}

func (s *Server) done(w http.ResponseWriter, op string, status int, rec *record) {
	s.met.requests.WithLabelValues(op, outDone).Inc()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("ETag", rec.etag())
	w.WriteHeader(status)
	_, _ = w.Write(rec.raw) // whether it arrives, the client must judge
}

func (s *Server) refuse(w http.ResponseWriter, op, outcome string, p *Problem) {
	s.met.requests.WithLabelValues(op, outcome).Inc()
	p.write(w)
}

// fail turns an error of a cluster into an answer. A manager relies on 4xx
// and 507: they say that nothing was written. Any other 5xx to a PUT leaves
// the outcome open.
func (s *Server) fail(w http.ResponseWriter, op, name string, cur *record, err error) {
	switch {
	case errors.Is(err, errMissing):
		s.refuse(w, op, outMissing, problem(http.StatusNotFound, futago.CodeNotFound, "cluster "+name+" has no record", ""))
	case errors.Is(err, errConflict):
		p := problem(http.StatusPreconditionFailed, futago.CodeConflict, err.Error(), "")
		p.Record = cur.raw
		w.Header().Set("ETag", cur.etag())
		s.refuse(w, op, outConflict, p)
	case errors.Is(err, errVersion):
		s.refuse(w, op, outInvalid, problem(http.StatusBadRequest, futago.CodeInvalid, err.Error(), ""))
	case errors.Is(err, atomicfile.ErrUnsettled):
		s.log.Error("record is not certainly on the disk", slog.String("cluster", name), slog.Any("error", err))
		s.refuse(w, op, outUnknown, problem(http.StatusInternalServerError, futago.CodeUnknown,
			"the record of cluster "+name+" is not certainly on the disk", "look at the disk of the witness"))
	case futago.CodeOf(err) == futago.CodeCorrupt:
		s.log.Error("record cannot be served", slog.String("cluster", name), slog.Any("error", err))
		s.refuse(w, op, outCorrupt, problem(http.StatusInternalServerError, futago.CodeCorrupt, err.Error(),
			"see futago seize in docs/third-vote.md; never put an older copy in its place"))
	case diskFull(err):
		s.log.Error("disk is full", slog.String("cluster", name), slog.Any("error", err))
		s.refuse(w, op, outFull, problem(http.StatusInsufficientStorage, futago.CodeStorageFull,
			"the witness has no room to write", "free some space on its file system"))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		s.refuse(w, op, outAbandoned, problem(http.StatusServiceUnavailable, futago.CodeUnavailable, err.Error(), ""))
	default:
		s.log.Error("request could not be served", slog.String("cluster", name), slog.Any("error", err))
		s.refuse(w, op, outError, problem(http.StatusInternalServerError, futago.CodeInternal,
			"the witness could not use its disk", "see the log of the witness"))
	}
}

// throttle keeps those who knock with wrong tokens from filling the log.
type throttle struct {
	every time.Duration

	mu   sync.Mutex
	last time.Time
	held int
}

// next reports whether something may be logged now, and how many times it was
// not since the last time.
func (t *throttle) next(now time.Time) (held int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.last.IsZero() && now.Sub(t.last) < t.every {
		t.held++
		return 0, false
	}
	held, t.held, t.last = t.held, 0, now
	return held, true
}
