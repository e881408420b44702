package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/futago/futago"
)

func TestProblemOfEachCode(t *testing.T) {
	for code, want := range map[futago.Code]int{
		futago.CodeInvalid: 422, futago.CodeNotFound: 404, futago.CodeConflict: 409, futago.CodeUnauthorized: 401,
		futago.CodeForbidden: 403, futago.CodeUnavailable: 503, futago.CodeUnknown: 504, futago.CodeStorageFull: 507,
	} {
		t.Run(string(code), func(t *testing.T) {
			s := newServer(t)
			s.fake.changeErr = fmt.Errorf("while switching: %w", futago.Errorf(code, "it went wrong").WithAction("do this").Wrap(errors.New("the cause")))
			a := s.admin(t, http.MethodPost, "/api/v1/switch", "")
			p := wantProblem(t, a, want, code)
			if p.Detail != "while switching: it went wrong: the cause" || !strings.HasPrefix(p.Action, "do this") {
				t.Errorf("got %+v", p)
			}
			if code == futago.CodeUnknown && !strings.Contains(p.Action, "same Idempotency-Key") {
				t.Errorf("action %q does not say how to repeat", p.Action)
			}
			if got := a.header.Get("Retry-After"); (code == futago.CodeUnavailable) != (got != "") {
				t.Errorf("Retry-After %q", got)
			}
		})
	}
}

// TestFaultsAreHidden: what only the log should tell does not get out.
func TestFaultsAreHidden(t *testing.T) {
	for name, err := range map[string]error{
		"plain":   errors.New("open /var/lib/futago/state.db: secret"),
		"coded":   futago.Errorf(futago.CodeInternal, "secret"),
		"corrupt": futago.Errorf(futago.CodeCorrupt, "file secret fails its checksum"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.fake.readErr = err
			a := s.get(t, "/api/v1/events")
			if p := wantProblem(t, a, 500, futago.CodeOf(err)); strings.Contains(string(a.body), "secret") || p.Action == "" {
				t.Errorf("got %s", a.body)
			}
		})
	}
	t.Run("timeout", func(t *testing.T) {
		s := newServer(t)
		s.fake.readErr = futago.Errorf(futago.CodeUnavailable, "the search was given up").Wrap(context.DeadlineExceeded)
		wantProblem(t, s.get(t, "/api/v1/events"), 503, futago.CodeUnavailable)
	})
}

func TestMisdirectedNamesTheLeader(t *testing.T) {
	s := newServer(t)
	s.fake.changeErr = futago.Errorf(futago.CodeNotLeader, "leadership was lost")
	s.fake.leader = "a"
	p := wantProblem(t, s.admin(t, http.MethodPost, "/api/v1/switch", ""), 421, futago.CodeNotLeader)
	if p.Leader != "a" || p.LeaderAddress != "host-a:7700" {
		t.Errorf("got %+v", p)
	}
	s.fake.leader = ""
	a := s.admin(t, http.MethodPost, "/api/v1/switch", "")
	if p := wantProblem(t, a, 421, futago.CodeNotLeader); p.LeaderAddress != "" || a.header.Get("Location") != "" {
		t.Errorf("nobody leads, and got %+v at %q", p, a.header.Get("Location"))
	}
}

func TestInvalidRequests(t *testing.T) {
	s := newServer(t)
	rule := `{"mode":"exact","window":"30s","pair_within":"30s","fold":"1s"}`
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		field              string
	}{
		"limit too large":     {"GET", "/api/v1/events?limit=1001", "", 422, "query.limit"},
		"limit zero":          {"GET", "/api/v1/events?limit=0", "", 422, "query.limit"},
		"limit no number":     {"GET", "/api/v1/events?limit=many", "", 422, "query.limit"},
		"unknown kind":        {"GET", "/api/v1/events?kind=mail", "", 422, "query.kind"},
		"second kind unknown": {"GET", "/api/v1/events?kind=syslog&kind=mail", "", 422, "query.kind"},
		"unknown severity":    {"GET", "/api/v1/events?severity=bad", "", 422, "query.severity"},
		"no address":          {"GET", "/api/v1/events?source=here", "", 422, "query.source"},
		"no time":             {"GET", "/api/v1/events?from=yesterday", "", 422, "query.from"},
		"turned span":         {"GET", "/api/v1/events?from=2026-11-22T03:00:00Z&to=2026-11-22T02:00:00Z", "", 422, "query.to"},
		"negative cursor":     {"GET", "/api/v1/events?before=-1", "", 422, "query.before"},
		"unknown order":       {"GET", "/api/v1/events?order=up", "", 422, "query.order"},
		"misspelt parameter":  {"GET", "/api/v1/events?sevrity=err", "", 422, "query.sevrity"},
		"long text":           {"GET", "/api/v1/events?text=" + strings.Repeat("x", 1001), "", 422, "query.text"},
		"event zero":          {"GET", "/api/v1/events/0", "", 422, "path.id"},
		"event of letters":    {"GET", "/api/v1/events/x", "", 422, "path.id"},
		"bad cursor header":   {"GET", "/api/v1/events/stream?kind=mail", "", 422, "query.kind"},
		"no body":             {"POST", "/api/v1/users", "", 400, "body"},
		"no JSON":             {"POST", "/api/v1/users", "{", 400, "body"},
		"missing member":      {"POST", "/api/v1/users", `{"name":"x","role":"viewer"}`, 422, "password"},
		"unknown member":      {"POST", "/api/v1/users", `{"name":"x","role":"viewer","password":"hunter2hunter2","admin":true}`, 422, "body.admin"},
		"short password":      {"POST", "/api/v1/users", `{"name":"x","role":"viewer","password":"hunter2"}`, 422, "body.password"},
		"unknown role":        {"POST", "/api/v1/users", `{"name":"x","role":"root","password":"hunter2hunter2"}`, 422, "body.role"},
		"name of a terminal":  {"POST", "/api/v1/users", `{"name":"\u001b[31m","role":"viewer","password":"hunter2hunter2"}`, 422, "body.name"},
		"change of nothing":   {"PUT", "/api/v1/users/mai", `{}`, 422, "body"},
		"token of the past":   {"POST", "/api/v1/tokens", `{"name":"x","role":"viewer","expires_in":"-1h"}`, 422, "body.expires_in"},
		"no duration":         {"POST", "/api/v1/tokens", `{"name":"x","role":"viewer","expires_in":"soon"}`, 422, "body.expires_in"},
		"join of nobody":      {"POST", "/api/v1/join-tokens", `{"member":"c","valid":"1h"}`, 422, "body.member"},
		"join for ever":       {"POST", "/api/v1/join-tokens", `{"member":"b","valid":"9000h"}`, 422, "body.valid"},
		"settings: mode":      {"PUT", settings, `{"revision":1,"dedup":{"syslog":{"mode":"x","window":"30s","pair_within":"30s","fold":"1s"}}}`, 422, "dedup of syslog"},
		"settings: kind":      {"PUT", settings, `{"revision":1,"dedup":{"mail":` + rule + `}}`, 422, "body"},
		"settings: source":    {"PUT", settings, `{"revision":1,"dedup":{},"sources":[{"source":"here"}]}`, 422, "body"},
		"settings: unknown":   {"PUT", settings, `{"revision":1,"dedup":{},"colour":1}`, 422, "body.colour"},
		"settings: zone":      {"PUT", settings, `{"revision":1,"dedup":{},"time_zone":"Mars/Base"}`, 422, "time_zone"},
		"settings: masked":    {"PUT", settings, `{"revision":1,"dedup":{},"snmp_users":[{"name":"u","auth":"SHA","auth_pass":"********"}]}`, 422, "body.snmp_users[0].auth_pass"},
		"settings: sealed":    {"PUT", settings, `{"revision":1,"dedup":{},"snmp_users":[{"name":"u","auth":"SHA","auth_pass":"sealed:x"}]}`, 422, "body.snmp_users[0].auth_pass"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.admin(t, c.method, c.path, c.body)
			p := wantProblem(t, a, c.status, futago.CodeInvalid)
			if !strings.Contains(p.Detail, c.field) {
				t.Errorf("detail %q does not name %s", p.Detail, c.field)
			}
			if strings.Contains(string(a.body), "hunter2") {
				t.Errorf("the password is repeated: %s", a.body)
			}
		})
	}
	if len(s.fake.actors) != 0 {
		t.Errorf("%d changes reached the log", len(s.fake.actors))
	}
}

const settings = "/api/v1/settings/intake"

func TestBodies(t *testing.T) {
	s := newServer(t)
	q := request{method: http.MethodPost, path: "/api/v1/users", token: s.tokens[futago.RoleAdmin], body: strings.Repeat(" ", 1<<20+1)}
	wantProblem(t, s.do(t, q), http.StatusRequestEntityTooLarge, futago.CodeInvalid)
	q.body, q.header = "name: x", http.Header{"Content-Type": {"application/yaml"}}
	wantProblem(t, s.do(t, q), http.StatusUnsupportedMediaType, futago.CodeInvalid)
}

func TestWrongPathsAndMethods(t *testing.T) {
	s := newServer(t)
	wantProblem(t, s.get(t, "/api/v1/nothing"), 404, futago.CodeNotFound)
	wantProblem(t, s.get(t, "/api/v1/events/77"), 404, futago.CodeNotFound)
	a := s.admin(t, http.MethodPatch, "/api/v1/users", "")
	wantProblem(t, a, 405, futago.CodeInvalid)
	if got := strings.Join(a.header.Values("Allow"), " "); got != "GET POST" {
		t.Errorf("Allow %q", got)
	}
	if a := s.do(t, request{method: http.MethodHead, path: "/healthz"}); a.status != 200 || len(a.body) != 0 {
		t.Errorf("HEAD /healthz: %d %q", a.status, a.body)
	}
}

// panicking is a Backend that has a fault.
type panicking struct{ *fake }

func (panicking) Status(context.Context) (futago.ClusterStatus, error) { panic("a fault") }

func TestPanicIsAnswered(t *testing.T) {
	s := serveBackend(t, panicking{newFake()})
	wantProblem(t, s.get(t, "/api/v1/status"), 500, futago.CodeInternal)
	wantStatus(t, s.get(t, "/api/v1/whoami"), 200) // and the process goes on
}

func TestReadiness(t *testing.T) {
	s := newServer(t)
	wantStatus(t, s.do(t, request{path: "/readyz"}), 200)
	s.fake.readyErr = futago.Errorf(futago.CodeUnavailable, "no leader").Wrap(errors.New("dial 10.0.0.2"))
	a := s.do(t, request{path: "/readyz"})
	wantProblem(t, a, 503, futago.CodeUnavailable)
	if strings.Contains(string(a.body), "10.0.0.2") {
		t.Errorf("a stranger is told %s", a.body)
	}
	s.fake.readyErr = errors.New("anything")
	if a := s.do(t, request{path: "/readyz"}); a.status != 503 {
		t.Errorf("status %d", a.status)
	}
	wantStatus(t, s.do(t, request{path: "/healthz"}), 200)
}
