package httpapi_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/futago/futago"
	"github.com/futago/futago/account"
	"github.com/futago/futago/httpapi"
	"github.com/futago/futago/raftfsm/command"
)

const aKey = "00112233445566778899aabbccddeeff"

func TestIdempotency(t *testing.T) {
	s := newServer(t)
	post := func(key, body string) answer {
		return s.do(t, request{method: http.MethodPost, path: "/api/v1/tokens", body: body, key: key, token: s.tokens[futago.RoleAdmin]})
	}
	before := len(s.fake.tokens)
	first := post(aKey, `{"name":"ci","role":"viewer"}`)
	again := post("00112233-4455-6677-8899-AABBCCDDEEFF", `{"name":"ci","role":"viewer"}`)
	wantStatus(t, first, http.StatusCreated)
	if diff := cmp.Diff(string(first.body), string(again.body)); diff != "" {
		t.Errorf("the repetition answers otherwise:\n%s", diff)
	}
	if got := len(s.fake.tokens) - before; got != 1 {
		t.Errorf("%d tokens were made", got)
	}
	tok := decode[httpapi.CreatedToken](t, again)
	if a := s.do(t, request{path: "/api/v1/whoami", token: tok.Token}); a.status != 200 {
		t.Errorf("the token of the repetition is not valid: %s", a.body)
	}
	// The same key under another request, or from another caller, is another
	// change: nothing may silently not happen.
	other := decode[httpapi.CreatedToken](t, post(aKey, `{"name":"cd","role":"viewer"}`))
	if other.Token == tok.Token || len(s.fake.tokens)-before != 2 {
		t.Errorf("the key was taken for another request's: %+v", other)
	}
	for _, id := range []string{tok.ID, other.ID} {
		a := s.do(t, request{method: http.MethodDelete, path: "/api/v1/tokens/" + id, key: aKey, token: s.tokens[futago.RoleAdmin]})
		wantStatus(t, a, http.StatusNoContent)
	}
	if got := len(s.fake.tokens) - before; got != 0 {
		t.Errorf("%d tokens are left: a removal was taken for the repetition of another", got)
	}
	ids := map[command.ID]bool{}
	for _, a := range s.fake.actors {
		ids[a.Proposal] = true
	}
	if len(ids) != 4 || ids[command.ID{}] {
		t.Errorf("proposals %v", ids)
	}
	for _, bad := range []string{"1", aKey + "00", strings.Repeat("x", 32), "00112233"} {
		p := wantProblem(t, post(bad, `{"name":"x","role":"viewer"}`), 422, futago.CodeInvalid)
		if !strings.Contains(p.Detail, "Idempotency-Key") {
			t.Errorf("%q: %s", bad, p.Detail)
		}
	}
}

// TestKeysOfManagersAgree: after a switch the repetition arrives at the other
// manager, which must make the same proposal and the same token of it.
func TestKeysOfManagersAgree(t *testing.T) {
	var ids []command.ID
	var tokens []string
	for range 2 {
		s := newServer(t)
		id, text, hash := "0011223344556677", "fgt_0011223344556677.fixed", ""
		_, hash, _ = account.SplitToken(text)
		s.fake.tokens[id] = futago.Token{ID: id, Name: "root", Role: futago.RoleAdmin, SecretHash: hash}
		a := s.do(t, request{method: http.MethodPost, path: "/api/v1/tokens", body: `{"name":"ci","role":"viewer"}`, key: aKey, token: text})
		ids, tokens = append(ids, s.fake.actors[0].Proposal), append(tokens, string(a.body))
	}
	if ids[0] != ids[1] || tokens[0] != tokens[1] {
		t.Errorf("proposals %v, answers %v", ids, tokens)
	}
}

func TestUsers(t *testing.T) {
	s := newServer(t)
	a := s.admin(t, http.MethodPost, "/api/v1/users", `{"name":"ken","role":"operator","password":"a long password"}`)
	wantStatus(t, a, http.StatusCreated)
	if got := a.header.Get("Location"); got != "/api/v1/users/ken" {
		t.Errorf("Location %q", got)
	}
	if p := wantProblem(t, s.admin(t, http.MethodPost, "/api/v1/users", `{"name":"ken","role":"admin","password":"another password"}`), 409, futago.CodeConflict); !strings.Contains(p.Detail, "ken") {
		t.Error(p.Detail)
	}
	who := func(password string) answer {
		return s.do(t, request{path: "/api/v1/whoami", user: "ken", password: password})
	}
	if got := decode[httpapi.Identity](t, who("a long password")); got.Name != "ken" || got.Role != futago.RoleOperator {
		t.Errorf("got %+v", got)
	}
	wantStatus(t, s.admin(t, http.MethodPut, "/api/v1/users/ken", `{"role":"viewer"}`), 200)
	if got := decode[httpapi.Identity](t, who("a long password")); got.Role != futago.RoleViewer {
		t.Errorf("the role is %q after its change", got.Role)
	}
	wantStatus(t, s.admin(t, http.MethodPut, "/api/v1/users/ken", `{"password":"quite another one"}`), 200)
	wantStatus(t, who("a long password"), 401)
	if got := decode[httpapi.Identity](t, who("quite another one")); got.Role != futago.RoleViewer {
		t.Errorf("the role is %q after a new password", got.Role)
	}
	list := s.admin(t, http.MethodGet, "/api/v1/users", "")
	if got := decode[[]httpapi.UserView](t, list); len(got) != 2 || strings.Contains(string(list.body), "argon2") {
		t.Errorf("got %s", list.body)
	}
	wantProblem(t, s.admin(t, http.MethodPut, "/api/v1/users/nobody", `{"role":"viewer"}`), 404, futago.CodeNotFound)
	wantStatus(t, s.admin(t, http.MethodDelete, "/api/v1/users/ken", ""), 204)
	wantProblem(t, s.admin(t, http.MethodDelete, "/api/v1/users/ken", ""), 404, futago.CodeNotFound)
	wantStatus(t, who("quite another one"), 401)
}

func TestTokens(t *testing.T) {
	s := newServer(t)
	a := s.admin(t, http.MethodPost, "/api/v1/tokens", `{"name":"ci","role":"operator","expires_in":"1h"}`)
	wantStatus(t, a, http.StatusCreated)
	tok := decode[httpapi.CreatedToken](t, a)
	if want := at.Add(time.Hour); !tok.ExpiresAt.Equal(want) {
		t.Errorf("expires %s, want %s", tok.ExpiresAt, want)
	}
	who := func() answer { return s.do(t, request{path: "/api/v1/whoami", token: tok.Token}) }
	if got := decode[httpapi.Identity](t, who()); got.Name != "token ci" || got.Role != futago.RoleOperator {
		t.Errorf("got %+v", got)
	}
	list := s.admin(t, http.MethodGet, "/api/v1/tokens", "")
	if _, secret, _ := strings.Cut(tok.Token, "."); strings.Contains(string(list.body), secret) || strings.Contains(string(list.body), "hash") {
		t.Errorf("the list tells secrets: %s", list.body)
	}
	if got := decode[[]httpapi.TokenView](t, list); len(got) != 4 || got[1].CreatedBy != "token admin" {
		t.Errorf("got %+v", got)
	}
	s.clock.add(time.Hour)
	wantProblem(t, who(), 401, futago.CodeUnauthorized)
	wantStatus(t, s.admin(t, http.MethodDelete, "/api/v1/tokens/"+tok.ID, ""), 204)
	wantProblem(t, s.admin(t, http.MethodDelete, "/api/v1/tokens/"+tok.ID, ""), 404, futago.CodeNotFound)
}

func TestJoinTokens(t *testing.T) {
	s := newServer(t)
	got := decode[httpapi.JoinToken](t, s.admin(t, http.MethodPost, "/api/v1/join-tokens", `{"member":"b","valid":"2h0m0s"}`))
	if got.Token != "join-b-2h0m0s" || !got.ExpiresAt.Equal(at.Add(2*time.Hour)) {
		t.Errorf("got %+v", got)
	}
	if got := decode[httpapi.JoinToken](t, s.admin(t, http.MethodPost, "/api/v1/join-tokens", `{"member":"w"}`)); got.Token != "join-w-1h0m0s" {
		t.Errorf("got %+v", got)
	}
	wantProblem(t, s.admin(t, http.MethodPost, "/api/v1/join-tokens", `{"member":"a"}`), 409, futago.CodeConflict)
}

func TestSettings(t *testing.T) {
	s := newServer(t)
	s.fake.settings.SNMPUsers = []futago.SNMPUser{{Name: "u", Auth: "SHA", AuthPass: "sealed:AAAA"}}
	put := func(body string) answer {
		return s.do(t, request{method: http.MethodPut, path: settings, body: body, token: s.tokens[futago.RoleOperator]})
	}
	if a := s.get(t, settings); strings.Contains(string(a.body), "sealed") || !strings.Contains(string(a.body), futago.Masked) {
		t.Errorf("secrets are shown: %s", a.body)
	}
	if s.fake.settings.SNMPUsers[0].AuthPass != "sealed:AAAA" {
		t.Fatal("showing the settings changed them")
	}
	doc := `{"revision":1,"dedup":{"syslog":{"mode":"window","window":"10s","pair_within":"30s","fold":"1s"}},
		"sources":[{"source":"192.0.2.0/24","kinds":["syslog"],"charset":"shift_jis"}],
		"snmp_users":[{"name":"u","auth":"SHA","auth_pass":"********"}],"time_zone":"Asia/Tokyo"}`
	got := decode[futago.IntakeSettings](t, put(doc))
	if got.Revision != 2 || got.Dedup[futago.KindSyslog].Window.D() != 10*time.Second || got.Sources[0].Charset != "shift_jis" {
		t.Errorf("got %+v", got)
	}
	if kept := s.fake.settings.SNMPUsers[0].AuthPass; kept.Reveal() != futago.Masked {
		t.Errorf("the backend, which knows the old secret, got %q", kept.Reveal())
	}
	p := wantProblem(t, put(doc), 409, futago.CodeConflict)
	if !strings.Contains(p.Detail, "revision 1") || !strings.Contains(p.Action, "GET "+settings) {
		t.Errorf("got %+v", p)
	}
	// What was shown can be sent back.
	shown := s.get(t, settings)
	s.fake.settings.SNMPUsers[0].AuthPass = "sealed:AAAA"
	if got := decode[futago.IntakeSettings](t, put(string(shown.body))); got.Revision != 3 {
		t.Errorf("revision %d", got.Revision)
	}
}

func TestStrongReads(t *testing.T) {
	s := newServer(t)
	s.fake.add(trap(futago.KindSyslog, "x"))
	paths := []string{"/api/v1/events", "/api/v1/events/1", settings, "/api/v1/users", "/api/v1/tokens"}
	for i, path := range paths {
		wantStatus(t, s.admin(t, http.MethodGet, path, ""), 200)
		wantStatus(t, s.admin(t, http.MethodGet, path+"?consistency=strong", ""), 200)
		if s.fake.verified != i+1 {
			t.Fatalf("%s: %d reads were verified, want %d", path, s.fake.verified, i+1)
		}
	}
	s.fake.leader = "b"
	s.fake.verifyErr = futago.Errorf(futago.CodeNotLeader, "manager a is the standby")
	for _, path := range paths {
		wantProblem(t, s.admin(t, http.MethodGet, path+"?consistency=strong", ""), 421, futago.CodeNotLeader)
	}
	wantProblem(t, s.get(t, "/api/v1/events?consistency=weak"), 422, futago.CodeInvalid)
	// Every read of the database has the choice.
	for _, o := range operations(t, s) {
		has := false
		for _, p := range o.Parameters {
			has = has || p.Name == "consistency"
		}
		if exempt := o.changes() || o.ID == "status" || o.ID == "whoami" || o.ID == "follow-events"; has == exempt {
			t.Errorf("%s: strong reads %v", o.ID, has)
		}
	}
}

// TestLocalSocket: the operator of the host is an admin, and a standby passes
// its changes on.
func TestLocalSocket(t *testing.T) {
	f := newFake()
	f.leader = "b"
	s := serveLocal(t, f)
	if got := decode[httpapi.Identity](t, s.do(t, request{path: "/api/v1/whoami"})); !got.Local || got.Role != futago.RoleAdmin {
		t.Errorf("got %+v", got)
	}
	wantStatus(t, s.do(t, request{method: http.MethodPost, path: "/api/v1/users", body: `{"name":"ken","role":"admin","password":"a long password"}`}), 201)
	if a := f.actors[0]; !a.Local || a.Name != "local operator" {
		t.Errorf("actor %+v", a)
	}
	wantStatus(t, s.do(t, request{path: "/"}), 200)
	wantStatus(t, s.do(t, request{path: "/metrics"}), 200)
}

func TestQueryReachesTheBackend(t *testing.T) {
	s := newServer(t)
	wantStatus(t, s.get(t, "/api/v1/events?from=2026-11-22T03:00:00%2B09:00&to=2026-11-22T03:00:00Z&kind=syslog&kind=snmptrap"+
		"&severity=err&source=192.0.2.9&host=sw1&text=%22link+down%22&before=9&after=3&order=asc&limit=7"), 200)
	severity := futago.SeverityError
	want := futago.EventQuery{
		From: at.Add(-9 * time.Hour), To: at, Kinds: []futago.Kind{futago.KindSyslog, futago.KindSNMPTrap}, MaxSeverity: &severity,
		Source: netip.MustParsePrefix("192.0.2.9/32"), Host: "sw1", Text: `"link down"`, Before: 9, After: 3, Ascending: true, Limit: 7,
	}
	if diff := cmp.Diff(want, s.fake.lastQuery, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	if a := s.get(t, "/api/v1/events?limit=1"); !strings.Contains(string(a.body), `"events":[]`) {
		t.Errorf("no events is %s", a.body)
	}
}
