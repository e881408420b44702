package witness

import (
	"encoding/json"
	"net/http"

	"github.com/futago/futago"
)

// Problem is the body of every answer that is no success (RFC 9457).
type Problem struct {
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail"`
	Code   futago.Code `json:"code"`
	Action string      `json:"action,omitempty"`
	// Record is the record in force, in an answer 412.
	Record json.RawMessage `json:"record,omitempty"`
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

func problem(status int, code futago.Code, detail, action string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: detail, Action: action}
}

func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", ProblemType)
	h.Set("Cache-Control", "no-store")
	switch p.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		// Whoever has no token must not hold a connection.
		h.Set("Connection", "close")
		if p.Status == http.StatusUnauthorized {
			h.Set("WWW-Authenticate", `Bearer realm="futago witness"`)
		}
	}
	body, err := json.Marshal(p)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client has gone: nothing left to tell it
}
