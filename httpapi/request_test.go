package httpapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/httpapi"
)

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// request describes one; the zero value of each field is left out.
type request struct {
	method, path, body, token, key string
	user, password                 string
	header                         http.Header
}

func (s *server) do(t *testing.T, q request) answer {
	t.Helper()
	if q.method == "" {
		q.method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(t.Context(), q.method, s.URL+q.path, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(r.Header, q.header)
	switch {
	case q.token != "":
		r.Header.Set("Authorization", "Bearer "+q.token)
	case q.user != "":
		r.SetBasicAuth(q.user, q.password)
	}
	if q.key != "" {
		r.Header.Set("Idempotency-Key", q.key)
	}
	c := *s.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, b}
}

func (s *server) get(t *testing.T, path string) answer {
	t.Helper()
	return s.do(t, request{path: path, token: s.tokens[futago.RoleViewer]})
}

// admin makes a change as an admin.
func (s *server) admin(t *testing.T, method, path, body string) answer {
	t.Helper()
	return s.do(t, request{method: method, path: path, body: body, token: s.tokens[futago.RoleAdmin]})
}

func decode[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(a.body))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("status %d: %v in %s", a.status, err, a.body)
	}
	return v
}

// wantProblem checks status and code, and returns the document.
func wantProblem(t *testing.T, a answer, status int, code futago.Code) httpapi.Problem {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %s", a.status, status, a.body)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	p := decode[httpapi.Problem](t, a)
	if p.Code != code || p.Status != a.status || p.Title != http.StatusText(a.status) || p.Detail == "" {
		t.Errorf("got %+v, want code %q", p, code)
	}
	return p
}

func wantStatus(t *testing.T, a answer, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
}

// status makes a request and reads its answer as far as it has one: a stream
// goes on for ever.
func (s *server) status(t *testing.T, method, path, token string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode < 300 {
		return res.StatusCode, nil
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, b
}
