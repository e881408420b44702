package customtrap

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

// problem is an answer of RFC 9457 that says why a request was not taken.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Action is what the sender should do next.
	Action string `json:"action,omitempty"`
	// Element and Offset point into the request's body.
	Element string `json:"element,omitempty"`
	Offset  *int64 `json:"offset,omitempty"`
	// Spooled says that the elements are stored and will be recorded without
	// being sent again; it is in every answer 503.
	Spooled *bool `json:"spooled,omitempty"`

	retryAfter int // seconds; 0 leaves the header out
}

func newProblem(status int, detail, action string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Action: action}
}

// unavailable is an answer 503.
func unavailable(detail, action string, spooled bool, retryAfter int) *problem {
	p := newProblem(http.StatusServiceUnavailable, detail, action)
	p.Spooled, p.retryAfter = &spooled, retryAfter
	return p
}

// bodyProblem is the answer to a body that parseBody refused.
func bodyProblem(err error) *problem {
	e, ok := errors.AsType[*bodyError](err)
	if !ok {
		return newProblem(http.StatusBadRequest, err.Error(), "")
	}
	status := http.StatusBadRequest
	if e.TooLarge {
		status = http.StatusRequestEntityTooLarge
	}
	p := newProblem(status, e.Error(), "correct the body and send all of it again; nothing of it was taken")
	p.Element = e.Element
	if e.Offset >= 0 {
		p.Offset = &e.Offset
	}
	return p
}

func (p *problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	writeJSON(w, p.Status, p)
}

// writeJSON sends v. The client may be gone, which is no concern of ours.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // only strings and numbers are in v
		status, b = http.StatusInternalServerError, []byte("{}")
	}
	h := w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
