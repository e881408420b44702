package httpapi_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/futago/futago"
)

func TestCredentials(t *testing.T) {
	s := newServer(t)
	viewer := s.tokens[futago.RoleViewer]
	for name, c := range map[string]struct {
		authorization string
		want          int
	}{
		"none":               {"", 401},
		"token":              {"Bearer " + viewer, 200},
		"scheme in any case": {"bearer " + viewer, 200},
		"half a token":       {"Bearer " + viewer[:len(viewer)-1], 401},
		"unknown token":      {"Bearer fgt_0000000000000000.AAAA", 401},
		"no token at all":    {"Bearer", 401},
		"password":           {"Basic " + base64.StdEncoding.EncodeToString([]byte("mai:"+password)), 200},
		"wrong password":     {"Basic " + base64.StdEncoding.EncodeToString([]byte("mai:wrong")), 401},
		"no such user":       {"Basic " + base64.StdEncoding.EncodeToString([]byte("tom:"+password)), 401},
		"no base64":          {"Basic §", 401},
		"other scheme":       {"Digest x", 401},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			if c.authorization != "" {
				h.Set("Authorization", c.authorization)
			}
			a := s.do(t, request{path: "/api/v1/whoami", header: h})
			wantStatus(t, a, c.want)
			if c.want != 401 {
				return
			}
			wantProblem(t, a, 401, futago.CodeUnauthorized)
			// A browser that is asked for Basic opens a window of its own.
			if got := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") || strings.Contains(got, "Basic") {
				t.Errorf("WWW-Authenticate %q", got)
			}
		})
	}
}

// TestNamesCannotBeFound: the answer for a wrong password and for no such user
// is the same.
func TestNamesCannotBeFound(t *testing.T) {
	s := newServer(t)
	a := s.do(t, request{path: "/api/v1/whoami", user: "mai", password: "wrong"})
	b := s.do(t, request{path: "/api/v1/whoami", user: "tom", password: "wrong"})
	if string(a.body) != string(b.body) || a.status != b.status {
		t.Errorf("%d %s\n%d %s", a.status, a.body, b.status, b.body)
	}
}

func TestGuessing(t *testing.T) {
	s := newServer(t)
	try := func(user, password string) answer {
		return s.do(t, request{path: "/api/v1/whoami", user: user, password: password})
	}
	for i := range 5 {
		s.fake.users[fmt.Sprintf("user%d", i)] = s.fake.users["mai"]
		// The names differ: the count is the client's, so that nobody can lock
		// another one out, nor go on with the next name.
		wantStatus(t, try(fmt.Sprintf("user%d", i), "wrong"), 401)
	}
	a := try("mai", password)
	p := wantProblem(t, a, http.StatusTooManyRequests, futago.CodeUnavailable)
	if a.header.Get("Retry-After") == "" || !strings.Contains(p.Action, "wait") {
		t.Errorf("got %+v, Retry-After %q", p, a.header.Get("Retry-After"))
	}
	wantStatus(t, s.get(t, "/api/v1/whoami"), 200) // tokens are not guessed at
	s.clock.add(4 * time.Second)
	wantStatus(t, try("mai", password), 200)
	wantStatus(t, try("mai", "wrong"), 401) // a right one does not clear the count
	wantStatus(t, try("mai", "wrong"), http.StatusTooManyRequests)
	wantStatus(t, try("mai", password), 200) // what was right within a minute costs nothing
	s.clock.add(11 * time.Minute)
	wantStatus(t, try("mai", "wrong"), 401)
	wantStatus(t, try("mai", "wrong"), 401)
}

// TestManySignInsAtOnce: at most four are checked at once for one client; the
// others are told to come again instead of queueing up with 64 MiB each.
func TestManySignInsAtOnce(t *testing.T) {
	s := newServer(t)
	var away, checked atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			switch s.do(t, request{path: "/api/v1/whoami", user: fmt.Sprintf("u%d", i), password: "wrong"}).status {
			case http.StatusTooManyRequests, http.StatusServiceUnavailable: // the latter on a very busy machine
				away.Add(1)
			case http.StatusUnauthorized:
				checked.Add(1)
			}
		})
	}
	wg.Wait()
	if away.Load()+checked.Load() != 32 || checked.Load() > 9 || checked.Load() == 0 {
		t.Errorf("%d were checked and %d sent away", checked.Load(), away.Load())
	}
}

func TestPasswordChangeEndsWhatIsRemembered(t *testing.T) {
	s := newServer(t)
	who := func() int { return s.do(t, request{path: "/api/v1/whoami", user: "mai", password: password}).status }
	for range 2 {
		if got := who(); got != 200 {
			t.Fatalf("status %d with the right password", got)
		}
	}
	u := s.fake.users["mai"]
	u.PasswordHash = strings.Replace(u.PasswordHash, "$m=64", "$m=65", 1) // any other hash
	s.fake.mu.Lock()
	s.fake.users["mai"] = u
	s.fake.mu.Unlock()
	if got := who(); got != 401 {
		t.Errorf("status %d after the password was changed", got)
	}
}

// signIn gets a session's cookie.
func (s *server) signIn(t *testing.T) *http.Cookie {
	t.Helper()
	a := s.form(t, "/sign-in", url.Values{"name": {"mai"}, "password": {password}}, nil)
	wantStatus(t, a, http.StatusSeeOther)
	c, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *server) form(t *testing.T, path string, v url.Values, more http.Header) answer {
	t.Helper()
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	maps.Copy(h, more)
	return s.do(t, request{method: http.MethodPost, path: path, body: v.Encode(), header: h})
}

func (s *server) with(t *testing.T, c *http.Cookie, method, path string, more http.Header) answer {
	t.Helper()
	h := http.Header{"Cookie": {c.Name + "=" + c.Value}}
	maps.Copy(h, more)
	return s.do(t, request{method: method, path: path, header: h})
}

func TestSession(t *testing.T) {
	s := newServer(t)
	c := s.signIn(t)
	if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Host-") {
		t.Errorf("cookie %+v", c)
	}
	who := func(c *http.Cookie) int { return s.with(t, c, "GET", "/api/v1/whoami", nil).status }
	if got := who(c); got != 200 {
		t.Fatalf("status %d with a session", got)
	}
	parts := strings.Split(c.Value, "|")
	for name, value := range map[string]string{
		"other user":  base64.RawURLEncoding.EncodeToString([]byte("root")) + "|" + parts[1] + "|" + parts[2],
		"longer life": parts[0] + "|9999999999|" + parts[2],
		"no mac":      parts[0] + "|" + parts[1] + "|",
		"two parts":   parts[0] + "|" + parts[1],
		"no base64":   "§|" + parts[1] + "|" + parts[2],
		"empty":       "",
	} {
		if got := who(&http.Cookie{Name: c.Name, Value: value}); got != 401 {
			t.Errorf("%s: status %d", name, got)
		}
	}
	t.Run("other manager", func(t *testing.T) {
		other := newServer(t) // the same key and users
		if got := other.with(t, c, "GET", "/api/v1/whoami", nil).status; got != 200 {
			t.Errorf("status %d", got)
		}
	})
	t.Run("end", func(t *testing.T) {
		s.clock.add(12 * time.Hour)
		defer s.clock.add(-12 * time.Hour)
		if got := who(c); got != 401 {
			t.Errorf("status %d after twelve hours", got)
		}
	})
	t.Run("user removed", func(t *testing.T) {
		u := s.fake.users["mai"]
		delete(s.fake.users, "mai")
		defer func() { s.fake.users["mai"] = u }()
		if got := who(c); got != 401 {
			t.Errorf("status %d", got)
		}
	})
}

// TestOtherSites: a browser sends the cookie along with what another site makes
// it ask for. Such changes are refused, the sign-in too.
func TestOtherSites(t *testing.T) {
	s := newServer(t)
	u := s.fake.users["mai"]
	u.Role = futago.RoleAdmin
	s.fake.users["mai"] = u
	c := s.signIn(t)
	cross, own := http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.Header{"Sec-Fetch-Site": {"same-origin"}}
	origin := http.Header{"Origin": {"https://evil.example"}}
	for _, h := range []http.Header{cross, origin} {
		wantProblem(t, s.with(t, c, "POST", "/api/v1/switch", h), 403, futago.CodeForbidden)
		for _, path := range []string{"/sign-in", "/sign-out"} {
			if a := s.form(t, path, url.Values{"name": {"mai"}, "password": {password}}, h); a.status != 403 || a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s from another site: %d", path, a.status)
			}
		}
	}
	if len(s.fake.actors) != 0 {
		t.Error("a change got through")
	}
	wantStatus(t, s.with(t, c, "POST", "/api/v1/switch", own), 204)
	wantStatus(t, s.with(t, c, "GET", "/api/v1/whoami", cross), 200) // it cannot read the answer
}

func TestHeaders(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{"/", "/sign-in", "/api/v1/events", "/static/console.js", "/nothing"} {
		h := s.get(t, path).header
		if !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'self'") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
		if h.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: HSTS would hold for the other ports of the host", path)
		}
		if got := h.Get("Cache-Control"); got != "no-store" && path != "/static/console.js" {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := newServer(t)
	wantStatus(t, s.do(t, request{path: "/metrics"}), 401)
	s.get(t, "/api/v1/events/12345")
	s.do(t, request{method: "BREW", path: "/x"})
	got := string(s.get(t, "/metrics").body)
	for _, want := range []string{
		`futago_http_requests_total{method="GET",route="/api/v1/events/{id}",status="404"} 1`,
		`futago_http_requests_total{method="other",route="none",status="405"} 1`,
		`futago_http_credentials_refused_total{kind="none"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
