package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/futago/futago"
)

// Problem is an RFC 9457 problem document: what went wrong, as a code for
// programs and as a sentence for people, and the next thing to do.
type Problem struct {
	Title  string      `json:"title" doc:"The status in words." example:"Misdirected Request"`
	Status int         `json:"status" doc:"The HTTP status." example:"421"`
	Detail string      `json:"detail,omitempty" doc:"What is wrong, as a sentence."`
	Code   futago.Code `json:"code" doc:"What is wrong, for programs." enum:"invalid,not-found,conflict,unauthorized,forbidden,not-leader,unavailable,unknown,storage-full,corrupt,incompatible,internal"`
	Action string      `json:"action,omitempty" doc:"What to do next."`
	// Leader and LeaderAddress tell where a change must be sent.
	Leader        futago.MemberID `json:"leader,omitempty" doc:"The manager that takes changes (code not-leader)."`
	LeaderAddress string          `json:"leader_address,omitempty" doc:"Its API, host:port."`
	Errors        []FieldError    `json:"errors,omitempty" doc:"Each wrong field (code invalid)."`

	// wait is how long to wait before a repetition, for Retry-After.
	wait time.Duration
	// location is where a misdirected request belongs.
	location string
}

// FieldError names one wrong field of a request. The value itself is not
// repeated, for it may be a password.
type FieldError struct {
	Field   string `json:"field" doc:"Where: query.limit, body.role, …" example:"query.limit"`
	Message string `json:"message" example:"expected number <= 1000"`
}

var (
	_ huma.StatusError  = (*Problem)(nil)
	_ huma.HeadersError = (*Problem)(nil)
)

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements [huma.StatusError].
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements [huma.ContentTypeFilter].
func (p *Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// GetHeaders implements [huma.HeadersError].
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	switch p.Status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.Itoa(max(1, int((p.wait+time.Second-1)/time.Second))))
	case http.StatusUnauthorized:
		// Basic works too, but naming it makes browsers ask in a window of
		// their own when the console's session has ended.
		h.Set("WWW-Authenticate", `Bearer realm="futago"`)
	case http.StatusMisdirectedRequest:
		if p.location != "" {
			h.Set("Location", p.location)
		}
	}
	return h
}

// statusOf maps codes to HTTP. A standby is "misdirected" (RFC 9110, 15.5.20);
// an unknown outcome is the gateway's time-out, for it says the same. Codes that
// are not here are faults of Futago itself.
var statusOf = map[futago.Code]int{
	futago.CodeInvalid:      http.StatusUnprocessableEntity,
	futago.CodeNotFound:     http.StatusNotFound,
	futago.CodeConflict:     http.StatusConflict,
	futago.CodeUnauthorized: http.StatusUnauthorized,
	futago.CodeForbidden:    http.StatusForbidden,
	futago.CodeNotLeader:    http.StatusMisdirectedRequest,
	futago.CodeUnavailable:  http.StatusServiceUnavailable,
	futago.CodeUnknown:      http.StatusGatewayTimeout,
	futago.CodeStorageFull:  http.StatusInsufficientStorage,
}

// busyError is a client that has to wait before it may try again.
type busyError struct {
	err  *futago.Error
	wait time.Duration
}

func (b *busyError) Error() string { return b.err.Error() }
func (b *busyError) Unwrap() error { return b.err }

// problem turns an error into what the client sees. Faults of Futago itself are
// logged in full and shown as a fixed phrase.
func (a *API) problem(ctx context.Context, err error) *Problem {
	code := futago.CodeOf(err)
	if code == futago.CodeInternal && ctx.Err() != nil {
		// The client has gone, or the request took too long; nothing is broken.
		code = futago.CodeUnavailable
		err = futago.Errorf(code, "the request was given up after %s", requestTimeout).WithAction("try again, with a narrower search").Wrap(err)
	}
	p := &Problem{Code: code, Status: http.StatusInternalServerError}
	if s, ok := statusOf[code]; ok {
		p.Status = s
	}
	e, ok := errors.AsType[*futago.Error](err)
	if !ok || p.Status == http.StatusInternalServerError {
		a.log.Error("request failed", "code", string(code), "err", err)
		p.Title = http.StatusText(p.Status)
		p.Detail, p.Action = "internal error", "see this manager's log"
		return p
	}
	if b, ok := errors.AsType[*busyError](err); ok {
		p.Status, p.wait = http.StatusTooManyRequests, b.wait
	}
	p.Title = http.StatusText(p.Status)
	// Whoever wrapped the error has said where; the action stands by itself.
	p.Detail, p.Action, p.Leader = strings.TrimSuffix(err.Error(), "; "+e.Action), e.Action, e.Leader
	switch code {
	case futago.CodeNotLeader:
		leader, address := a.o.Backend.Leader()
		if p.Leader == "" {
			p.Leader = leader
		}
		if p.Leader == leader && address != "" {
			p.LeaderAddress = address
			if c := callerOf(ctx); c.uri != "" {
				p.location = "https://" + address + c.uri
			}
		}
	case futago.CodeUnknown:
		p.Action = strings.TrimPrefix(p.Action+"; ", "; ") +
			"repeat the request with the same Idempotency-Key and body: it takes effect at most once; if you sent no key, look first whether it took effect"
	default:
	}
	return p
}

// fromHuma translates the framework's own errors (validation, unreadable
// bodies) on their way out. It is a [huma.Transformer], so that the framework's
// global constructor of errors stays as it is.
func fromHuma(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &Problem{
		Title: http.StatusText(m.Status), Status: m.Status, Detail: m.Detail, Code: futago.CodeInvalid,
		Action: "correct the request; /openapi.yaml describes it",
	}
	if m.Status >= http.StatusInternalServerError {
		p.Code, p.Action = futago.CodeUnavailable, "try again"
	}
	var all []string
	for _, e := range m.Errors {
		if e == nil {
			continue
		}
		f := FieldError{Field: e.Location, Message: e.Message}
		if f.Field == "" {
			f.Field = "body"
		}
		p.Errors = append(p.Errors, f)
		all = append(all, f.Field+": "+f.Message)
	}
	if len(all) > 0 {
		p.Detail = strings.Join(all, "; ")
	}
	return p, nil
}

// invalid is a wrong field that the schema cannot tell.
func invalid(field string, err error) error {
	e := &futago.Error{Code: futago.CodeInvalid, Message: field + ": " + err.Error()}
	if in, ok := errors.AsType[*futago.Error](err); ok {
		e.Message = field + ": " + strings.TrimSuffix(err.Error(), "; "+in.Action)
		e.Action = in.Action
	}
	return e
}

func writeProblem(w http.ResponseWriter, r *http.Request, p *Problem) {
	h := w.Header()
	maps.Copy(h, p.GetHeaders())
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(p) // the client is gone if this fails
	}
}
