package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/futago/futago"
)

// hostile is what a sender may write to get at whoever reads it.
const hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"</td></table> \x1b[2J\x1b]0;owned\a \u202etxt.exe\u2066 \x00 {{.}} \xff"

// page gets a page of the console as a user who has signed in.
func (s *server) page(t *testing.T, path string) string {
	t.Helper()
	a := s.with(t, s.session(t), "GET", path, nil)
	wantStatus(t, a, http.StatusOK)
	if ct := a.header.Get("Content-Type"); ct != "text/html; charset=utf-8" {
		t.Errorf("%s: content type %q", path, ct)
	}
	return string(a.body)
}

// session is one that was signed in for once: it is good at every server here,
// for they share key, users and clock.
func (s *server) session(t *testing.T) *http.Cookie {
	t.Helper()
	cookieOnce.Do(func() { cookie = s.signIn(t) })
	return cookie
}

var (
	cookieOnce sync.Once
	cookie     *http.Cookie
)

func wantContains(t *testing.T, page string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(page, w) {
			t.Errorf("no %q in\n%s", w, page)
		}
	}
}

func TestLivePage(t *testing.T) {
	s := newServer(t)
	e := trap(futago.KindSyslog, "link down")
	e.Count, e.Receipts[0].Count = 1234, 1234
	only := trap(futago.KindCustomTrap, "only a saw this")
	only.Receipts = only.Receipts[:1]
	unparsed := trap(futago.KindSNMPTrap, "3082…")
	unparsed.Trap.Parsed, unparsed.Trap.Problem = false, "no BER"
	s.fake.add(e, only, unparsed)
	got := s.page(t, "/")
	wantContains(t, got,
		`>FULL</div>`, "Any one of the three may fail.", "leader <strong>a</strong>", `databases <strong class="eq-equal">equal</strong>`,
		"Manager a", "Manager b", "Third vote", "standby</span>", "41\u202f234", "syslog/udp", "1\u202f234\u202f567",
		"link down", `href="/events/1"`, `>err</span>`, "192.0.2.7", "<bdi>sw1</bdi>", "1\u202f234",
		`datetime="2026-11-22T03:00:00Z"`, `datetime="2026-11-22T03:00:00.003Z"`, "03:00:00.003", `title="not received there (yet)">–`,
		`title="no BER">unparsed`, `id="live-mark"`, "<bdi>mai</bdi>, viewer", `action="/sign-out"`)
	if strings.Contains(got, "the <strong>standby</strong>") {
		t.Error("the leader calls itself a standby")
	}
	if i, j := strings.Index(got, "3082…"), strings.Index(got, "link down"); i > j {
		t.Error("the newest event is not the first")
	}
}

func TestStateOfTheCluster(t *testing.T) {
	s := newServer(t)
	s.fake.member = "b"
	st := &s.fake.status
	st.Redundancy, st.Findings = futago.RedundancyNoSpare, []string{"manager b does not answer: look at <its> host"}
	st.Members[1].Reachable, st.Members[1].Problem = false, "dial tcp: i/o timeout"
	st.Members[0].Local.Spool.Overflowed = 10
	st.Members[0].Local.State, st.Members[0].Local.Detail = "storage-full", "free some room"
	st.ThirdVote.Reachable, st.ThirdVote.Problem, st.ThirdVote.Solo = false, "connection refused", true
	st.Equality.State = "different"
	got := s.page(t, "/part/status")
	wantContains(t, got, ">NO-SPARE</div>", "manager b does not answer: look at &lt;its&gt; host", "no answer", "dial tcp: i/o timeout",
		`<strong>standby</strong>`, `href="https://host-a:7700/"`, "<dt>Lost</dt><dd title=\"refused by the spool or dropped by the kernel, since the start\">12</dd>",
		"storage-full: <bdi>free some room</bdi>", "connection refused", "The leader acknowledges writes alone.", "eq-different", `data-peer="https://host-a:7700/"`)

	s.clock.add(2 * time.Second)
	s.fake.leader, st.Leader, st.Redundancy = "", "", futago.RedundancyStoppedSafe
	wantContains(t, s.page(t, "/part/status"), "STOPPED-SAFE", "no leader", "Traps wait in the spools.")

	s.clock.add(2 * time.Second)
	s.fake.statusErr = errors.New("secret")
	got = s.page(t, "/part/status")
	wantContains(t, got, "There is no status now: <bdi>internal error</bdi>")
	if strings.Contains(got, "secret") {
		t.Error("a fault is shown in full")
	}
}

// TestStatusIsAskedOnce: however many look, the members are asked once a second.
func TestStatusIsAskedOnce(t *testing.T) {
	s := newServer(t)
	first := s.page(t, "/part/status")
	s.fake.status.Redundancy = futago.RedundancyNoSpare
	if s.page(t, "/part/status") != first {
		t.Error("asked again within the second")
	}
	s.clock.add(time.Second)
	if s.page(t, "/part/status") == first {
		t.Error("not asked again after a second")
	}
}

func TestHostileSenders(t *testing.T) {
	s := newServer(t)
	syslog, snmp, custom := trap(futago.KindSyslog, hostile), trap(futago.KindSNMPTrap, hostile), trap(futago.KindCustomTrap, hostile)
	syslog.Trap.Host, syslog.Trap.Problem = hostile, hostile
	syslog.Trap.Syslog = &futago.SyslogFields{
		Format: "rfc5424", Time: hostile, App: hostile, ProcID: hostile, MsgID: hostile, Sequence: hostile,
		StructuredData: []futago.SDElement{{ID: hostile, Params: []futago.SDParam{{Name: hostile, Value: hostile}}}, {ID: hostile}},
	}
	snmp.Trap.SNMP = &futago.SNMPFields{
		Version: "3", Community: hostile, User: hostile, ContextName: hostile, SecurityLevel: hostile, TrapOID: "1.3", Enterprise: "1.3", AgentAddress: hostile,
		Varbinds: []futago.Varbind{{OID: hostile, Type: hostile, Value: hostile}},
	}
	custom.Trap.Custom = &futago.CustomFields{FacilityID: hostile, Date: hostile, Type: hostile, Key: hostile, Msg: hostile}
	own := trap(futago.KindInternal, hostile)
	own.Trap.Own = &futago.InternalField{Member: "a", Topic: hostile}
	s.fake.add(syslog, snmp, custom, own)
	s.fake.status.Findings = []string{hostile}
	s.fake.status.ClusterName = hostile
	s.fake.status.Members[0].Local.Detail = hostile
	for _, path := range []string{
		"/", "/part/events", "/part/status", "/events/1", "/events/2", "/events/3", "/events/4",
		"/?text=" + url.QueryEscape(hostile), "/?source=" + url.QueryEscape(hostile), "/?from=" + url.QueryEscape(hostile), "/?kind=" + url.QueryEscape(hostile),
	} {
		wantHarmless(t, path, s.page(t, path))
	}
	a := s.do(t, request{path: "/sign-in?next=" + url.QueryEscape("/"+hostile)})
	wantHarmless(t, "sign-in", string(a.body))
	a = s.form(t, "/sign-in", url.Values{"name": {hostile}, "password": {"x"}, "next": {hostile}}, nil)
	wantStatus(t, a, 401)
	wantHarmless(t, "refused sign-in", string(a.body))
}

var (
	scripts  = regexp.MustCompile(`<script[^>]*>`)
	handlers = regexp.MustCompile(`<[a-z][^>]*\s(on[a-z]+|style)=`)
	values   = regexp.MustCompile(`="[^"]*"`)
	foreign  = regexp.MustCompile(`(src|href|action)="(https?:)?//[^"]*"`)
)

// wantHarmless checks that nothing a sender wrote is markup, and that the page
// keeps to its own policy: no inline script or style, nothing from elsewhere.
func wantHarmless(t *testing.T, path, page string) {
	t.Helper()
	for _, bad := range []string{"<script>alert", "<img", "</td></table> ", "\x1b", "\x00", "\x07"} {
		if strings.Contains(page, bad) {
			t.Errorf("%s: %q is in the page", path, bad)
		}
	}
	for _, tag := range scripts.FindAllString(page, -1) {
		if tag != `<script src="/static/console.js" defer>` {
			t.Errorf("%s: %s", path, tag)
		}
	}
	if m := handlers.FindString(values.ReplaceAllString(page, `=""`)); m != "" {
		t.Errorf("%s: %s", path, m)
	}
	for _, m := range foreign.FindAllString(page, -1) {
		if !strings.Contains(m, "https://host-") { // the managers' own consoles
			t.Errorf("%s: %s", path, m)
		}
	}
	if strings.ContainsAny(page, "\u202e\u2066") {
		t.Errorf("%s: an override of direction is in the page", path)
	}
}

func TestEventPage(t *testing.T) {
	s := newServer(t)
	e := trap(futago.KindSyslog, "link down")
	e.Receipts[0], e.Receipts[1] = e.Receipts[1], e.Receipts[0]
	e.Trap.Raw = []byte("<27>1 2026-11-22T03:00:00Z sw1 kernel - - [x@1 k=\"v\"] link down\x00\xff")
	e.Trap.Syslog.StructuredData = []futago.SDElement{{ID: "x@1", Params: []futago.SDParam{{Name: "k", Value: "v"}}}}
	n := trap(futago.KindSNMPTrap, "cold start")
	n.Trap.SNMP = &futago.SNMPFields{
		Version: "2c", Inform: true, Community: "public", TrapOID: "1.3.6.1.6.3.1.1.5.1", RequestID: 77, Uptime: 4711,
		Varbinds: []futago.Varbind{{OID: "1.3.6.1.2.1.1.5.0", Type: "OCTET STRING", Value: "sw1"}},
	}
	c := trap(futago.KindCustomTrap, "v")
	c.Trap.Custom = &futago.CustomFields{FacilityID: "WEB", Date: "2026-11-22 03:00:00", Timestamp: at, Type: "NUM", Key: "load", Msg: "42"}
	c.Trap.Raw = []byte(strings.Repeat("y", 20_000))
	s.fake.add(e, n, c)
	got := s.page(t, "/events/1")
	wantContains(t, got, "Event 1", "link down", "192.0.2.7:50123", "rfc5424", "kernel", "[<bdi>x@1</bdi>] <bdi>k</bdi>", "<bdi>v</bdi>", "paired",
		`&lt;27&gt;1 2026-11-22T03:00:00Z`, `>NUL</span>`, `\xff`, "2 copies received", "Occurred 1 time;")
	if i, j := strings.Index(got, "<td>a<td>"), strings.Index(got, "<td>b<td>"); i < 0 || j < i {
		t.Error("the receipts are not in the order of the managers")
	}
	wantContains(t, s.page(t, "/events/2"), "<bdi>2c</bdi>, inform", "1.3.6.1.6.3.1.1.5.1", "public", "4711", "OCTET STRING", "1.3.6.1.2.1.1.5.0")
	wantContains(t, s.page(t, "/events/3"), "WEB", "NUM", "load", "42", "and 3616 bytes more")
	for _, id := range []string{"9", "x"} {
		a := s.with(t, s.session(t), "GET", "/events/"+id, nil)
		if a.status != 404 || !strings.Contains(string(a.body), "<h1>Not Found</h1>") {
			t.Errorf("event %s: %d", id, a.status)
		}
	}
}

func TestSearchAndPages(t *testing.T) {
	s := newServer(t)
	events, _ := many(1, 120)
	s.fake.add(events...)
	got := s.page(t, "/?kind=syslog&text=link+down")
	wantContains(t, got, `<option selected>syslog</option>`, `value="link down"`, `href="/?before=71&amp;kind=syslog&amp;text=link&#43;down"`, ">Clear</a>")
	if s.fake.lastQuery.Text != "link down" || s.fake.lastQuery.Limit != 50 {
		t.Errorf("query %+v", s.fake.lastQuery)
	}
	got = s.page(t, "/?before=71")
	wantContains(t, got, "message 70<", "message 21<", `href="/?before=21"`, `<a href="/">Newest</a>`, "not live: an older page")
	if strings.Contains(got, `id="live-mark"`) {
		t.Error("an older page is live")
	}
	wantContains(t, s.page(t, "/?from=15m&severity=err&source=192.0.2.0/24&host=sw1"), `value="15m"`)
	q := s.fake.lastQuery
	if !q.From.Equal(at.Add(-15*time.Minute)) || q.Source.String() != "192.0.2.0/24" || q.Host != "sw1" || *q.MaxSeverity != futago.SeverityError {
		t.Errorf("query %+v", q)
	}
	wantContains(t, s.page(t, "/?source=here"), "is no address</bdi>; write it like", ">FULL</div>")
	wantContains(t, s.page(t, "/?to=whenever"), "is no time</bdi>; write it like")
	s.fake.events = nil
	wantContains(t, s.page(t, "/?text=x"), "No events match.")
	wantContains(t, s.page(t, "/"), "No events.")
	// The page shows the state of the cluster even when there are no events.
	s.fake.readErr = futago.Errorf(futago.CodeUnavailable, "this member is starting").WithAction("try again in a moment")
	wantContains(t, s.page(t, "/"), "this member is starting</bdi>; try again in a moment", ">FULL</div>")
}

func TestSigningIn(t *testing.T) {
	s := newServer(t)
	for path, want := range map[string]string{"/": "/sign-in", "/events/7": "/sign-in?next=%2Fevents%2F7", "/?text=a": "/sign-in?next=%2F%3Ftext%3Da"} {
		a := s.do(t, request{path: path})
		if got := a.header.Get("Location"); a.status != 303 || got != want {
			t.Errorf("%s: %d to %q, want %q", path, a.status, got, want)
		}
	}
	for _, path := range []string{"/part/events", "/part/status"} {
		if a := s.do(t, request{path: path, header: http.Header{"Futago-Part": {"x"}}}); a.status != 401 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := s.do(t, request{path: "/live"}); a.status != 401 {
		t.Errorf("/live: %d", a.status)
	}
	for next, want := range map[string]string{"": "/", "/events/7": "/events/7", "//evil.example": "/", "https://evil.example/": "/"} {
		a := s.form(t, "/sign-in", url.Values{"name": {"mai"}, "password": {password}, "next": {next}}, nil)
		if got := a.header.Get("Location"); a.status != 303 || got != want {
			t.Errorf("next %q: %d to %q", next, a.status, got)
		}
	}
	a := s.form(t, "/sign-in", url.Values{"name": {"mai"}, "password": {"wrong password"}}, nil)
	if a.status != 401 || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a wrong password: %d", a.status)
	}
	wantContains(t, string(a.body), "wrong user or password", `value="mai"`)
	if strings.Contains(string(a.body), "wrong password\"") {
		t.Error("the password comes back")
	}
	if a := s.form(t, "/sign-in", url.Values{"name": {strings.Repeat("x", 10_000)}}, nil); a.status != 422 {
		t.Errorf("a huge form: %d", a.status)
	}
	if a := s.with(t, s.signIn(t), "GET", "/sign-in?next=/events/7", nil); a.status != 303 || a.header.Get("Location") != "/events/7" {
		t.Errorf("already signed in: %d to %q", a.status, a.header.Get("Location"))
	}
	a = s.form(t, "/sign-out", nil, nil)
	if c := a.header.Get("Set-Cookie"); a.status != 303 || !strings.Contains(c, "Max-Age=0") {
		t.Errorf("sign out: %d, %q", a.status, c)
	}
}

func TestSignInWithoutDatabase(t *testing.T) {
	f := newFake()
	s := serveAs(t, f, starting{f})
	a := s.form(t, "/sign-in", url.Values{"name": {"mai"}, "password": {password}}, nil)
	if a.status != 503 {
		t.Errorf("status %d", a.status)
	}
	wantContains(t, string(a.body), "this member is starting</bdi>; try again in a moment")
}

// starting is a Backend without a database yet.
type starting struct{ *fake }

func (starting) User(context.Context, string) (futago.User, error) {
	return futago.User{}, futago.Errorf(futago.CodeUnavailable, "this member is starting").WithAction("try again in a moment")
}

func TestChangesOfTheLivePage(t *testing.T) {
	s := newServer(t)
	c := s.signIn(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/live", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(c)
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	sc := bufio.NewScanner(res.Body)
	next := func() string {
		for sc.Scan() {
			if name, ok := strings.CutPrefix(sc.Text(), "event: "); ok {
				return name
			}
		}
		return "end"
	}
	until := func(want string) {
		t.Helper()
		for got := next(); got != want; got = next() {
			if got == "end" {
				t.Fatalf("the stream ended before %q", want)
			}
		}
	}
	if got := next(); got != "hello" {
		t.Errorf("it begins with %q", got)
	}
	s.fake.add(trap(futago.KindSyslog, "x"))
	until("events")
	until("status")
	_ = s.api.Close()
	until("bye")
	if got := next(); got != "end" {
		t.Errorf("it goes on with %q", got)
	}
}

func TestStaticFiles(t *testing.T) {
	s := newServer(t)
	for path, want := range map[string]string{"console.js": "text/javascript", "console.css": "text/css", "icon.svg": "image/svg+xml"} {
		a := s.do(t, request{path: "/static/" + path})
		if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), want) {
			t.Errorf("%s: %d, %s", path, a.status, a.header.Get("Content-Type"))
		}
		if strings.Contains(string(a.body), "http://") && path != "icon.svg" || strings.Contains(string(a.body), "https://") {
			t.Errorf("%s asks another host", path)
		}
	}
	if a := s.do(t, request{path: "/static/"}); strings.Contains(string(a.body), "console.js") {
		t.Error("the directory is listed")
	}
}
