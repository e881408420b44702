package witness

import (
	"crypto/ecdsa"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

func TestServer_Tokens(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	r.invite("c1")
	r.invite("c2")
	wantRecord(t, "create", r.create("c1", rec(1, "n1")), 1, "n1")
	bearer := func(s string) http.Header { return http.Header{"Authorization": {s}} }
	for name, c := range map[string]struct {
		cluster string
		header  http.Header
		status  int
	}{
		"none":             {"c1", bearer(""), http.StatusUnauthorized},
		"basic":            {"c1", bearer("Basic Zm9v"), http.StatusUnauthorized},
		"wrong":            {"c1", bearer("Bearer " + newToken()), http.StatusForbidden},
		"another's":        {"c1", bearer("Bearer " + r.tokens["c2"]), http.StatusForbidden},
		"unknown cluster":  {"c3", bearer("Bearer " + r.tokens["c2"]), http.StatusForbidden},
		"impossible name":  {"C1", bearer("Bearer " + r.tokens["c1"]), http.StatusForbidden},
		"path in the name": {"..%2fc1", bearer("Bearer " + r.tokens["c1"]), http.StatusForbidden},
		"good":             {"c1", bearer("bearer " + r.tokens["c1"]), http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, "read", r.do(http.MethodGet, c.cluster, c.header, ""), c.status)
			if c.status != http.StatusOK {
				h := c.header.Clone()
				h.Set("If-Match", tag(1, "n1"))
				want(t, "write", r.do(http.MethodPut, c.cluster, h, rec(2, "evil")), c.status)
			}
		})
	}
	wantRecord(t, "untouched", r.get("c1"), 1, "n1")
	files, err := filepath.Glob(filepath.Join(r.dir, "clusters", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range r.tokens {
			if strings.Contains(string(b), tok) {
				t.Errorf("%s holds a token", f)
			}
		}
	}
}

func TestNewInvitation_BesideARunningServer(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	make := func(replace bool) string {
		inv, err := NewInvitation(InvitationOptions{Dir: r.dir, Cluster: "c1", URL: "https://w.example:7702", Replace: replace})
		if err != nil {
			t.Fatal(err)
		}
		if inv.Pin != r.srv.Pin() {
			t.Error("pin")
		}
		return inv.Token
	}
	status := func(token string) int {
		return r.do(http.MethodGet, "c1", http.Header{"Authorization": {"Bearer " + token}}, "").status
	}
	first := make(false)
	if got := status(first); got != http.StatusNotFound {
		t.Fatalf("first token: %d", got)
	}
	second := make(false)
	if status(first) != http.StatusNotFound || status(second) != http.StatusNotFound {
		t.Error("two tokens must work")
	}
	third := make(true)
	if status(first) != http.StatusForbidden || status(second) != http.StatusForbidden || status(third) != http.StatusNotFound {
		t.Error("only the replacing token must work")
	}
	for range maxTokens - 1 {
		make(false)
	}
	_, err := NewInvitation(InvitationOptions{Dir: r.dir, Cluster: "c1", URL: "https://w.example:7702"})
	wantCode(t, err, futago.CodeConflict, "--replace")
	if got := r.count("futago_witness_clusters", nil); got != 1 {
		t.Errorf("clusters %v", got)
	}
}

func TestNewInvitation_Refused(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []InvitationOptions{
		{Dir: dir, Cluster: "", URL: "https://w"},
		{Dir: dir, Cluster: "../x", URL: "https://w"},
		{Dir: dir, Cluster: "UPPER", URL: "https://w"},
		{Dir: dir, Cluster: "c1", URL: "http://w"},
		{Dir: dir, Cluster: "c1", URL: "https://w/path"},
		{Dir: dir, Cluster: "c1", URL: "https://user@w"},
		{Dir: dir, Cluster: "c1", URL: "w:7702"},
	} {
		_, err := NewInvitation(o)
		wantCode(t, err, futago.CodeInvalid)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("refused, and yet made: %v %v", left, err)
	}
}

func TestInvitation_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Invitation{
			URL:     "https://" + rapid.StringMatching(`[a-z][a-z0-9.-]{0,20}[a-z]:[1-9][0-9]{0,3}`).Draw(t, "host"),
			Cluster: rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,62}`).Draw(t, "cluster"),
			Pin:     Pin(rapid.SliceOf(rapid.Byte()).Draw(t, "key")),
			Token:   newToken(),
		}
		s := in.Encode()
		if cut := rapid.IntRange(0, len(s)).Draw(t, "break"); true {
			s = "  " + s[:cut] + "\n  " + s[cut:] + "\n"
		}
		out, err := ParseInvitation(s)
		if err != nil || out != in {
			t.Fatalf("%v became %v: %v", in, out, err)
		}
		if strings.Contains(in.String()+in.LogValue().String(), in.Token) {
			t.Error("the token shows in a log")
		}
		if _, err := ParseInvitation(s[:len(s)/2]); err == nil {
			t.Error("half an invitation was taken")
		}
	})
}

func FuzzParseInvitation(f *testing.F) {
	f.Add(Invitation{URL: "https://w:7702", Cluster: "c1", Pin: Pin(nil), Token: newToken()}.Encode())
	f.Add("fgw1.e30")
	f.Add("fgw2.")
	f.Fuzz(func(t *testing.T, s string) {
		inv, err := ParseInvitation(s)
		if err != nil {
			if futago.CodeOf(err) != futago.CodeInvalid {
				t.Errorf("code %q", futago.CodeOf(err))
			}
			return
		}
		if again, err := ParseInvitation(inv.Encode()); err != nil || again != inv {
			t.Errorf("%v became %v: %v", inv, again, err)
		}
	})
}

func TestNew_DirectoryInUse(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	_, err := New(Config{Dir: r.dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	wantCode(t, err, futago.CodeConflict, r.dir, "process")
	r.stop()
	s, err := New(Config{Dir: r.dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestNew_AddressInUse(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	_, err := New(Config{Dir: t.TempDir(), Listen: r.srv.Addr().String(), Logger: slog.New(slog.DiscardHandler)})
	wantCode(t, err, futago.CodeUnavailable, r.srv.Addr().String(), "--listen")
}

func TestNew_DamagedIdentity(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "identity.pem"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{Dir: dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	wantCode(t, err, futago.CodeCorrupt, "identity.pem")
}

// The key, and with it the pin, outlives the certificate.
func TestIdentity_RenewalKeepsThePin(t *testing.T) {
	dir, fl := t.TempDir(), atomicfile.OS()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, err := loadIdentity(fl, dir, []string{"w.example", "192.0.2.1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	old := parseCert(t, first.cert)
	if old.NotAfter != now.AddDate(10, 0, 0) || old.VerifyHostname("w.example") != nil || old.VerifyHostname("192.0.2.1") != nil {
		t.Errorf("certificate: %v %v %v", old.NotAfter, old.DNSNames, old.IPAddresses)
	}
	same, err := loadIdentity(fl, dir, []string{"w.example"}, now.AddDate(8, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !parseCert(t, same.cert).Equal(old) {
		t.Error("renewed too early")
	}
	for what, load := range map[string]func() (*identity, error){
		"near its end": func() (*identity, error) {
			return loadIdentity(fl, dir, []string{"w.example", "192.0.2.1"}, now.AddDate(9, 6, 0))
		},
		"another name": func() (*identity, error) { return loadIdentity(fl, dir, []string{"new.example"}, now) },
	} {
		id, err := load()
		if err != nil {
			t.Fatal(err)
		}
		if parseCert(t, id.cert).Equal(old) || id.pin != first.pin {
			t.Errorf("%s: renewed %v, same pin %v", what, !parseCert(t, id.cert).Equal(old), id.pin == first.pin)
		}
		if _, ok := id.cert.PrivateKey.(*ecdsa.PrivateKey); !ok {
			t.Error("key")
		}
	}
	info, err := os.Stat(filepath.Join(dir, "identity.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestServer_Metrics(t *testing.T) {
	r := start(t, t.TempDir(), atomicfile.OS(), nil)
	r.invite("c1")
	r.create("c1", rec(1, "n1"))
	r.cas("c1", tag(1, "n1"), rec(2, "n2"))
	r.cas("c1", tag(1, "n1"), rec(2, "n3"))
	r.get("c1")
	r.do(http.MethodGet, "c1", http.Header{"Authorization": {""}}, "")
	for _, c := range []struct {
		op, outcome string
	}{{opCreate, outDone}, {opCAS, outDone}, {opCAS, outConflict}, {opRead, outDone}, {opRead, outDenied}} {
		if got := r.count("futago_witness_requests_total", map[string]string{"operation": c.op, "outcome": c.outcome}); got != 1 {
			t.Errorf("%s %s: %v", c.op, c.outcome, got)
		}
	}
	if got := r.count("futago_witness_flush_seconds", nil); got != 2 {
		t.Errorf("flushes: %v", got)
	}
	text := string(r.fetch("http://" + r.srv.MetricsAddr().String() + "/metrics"))
	if !strings.Contains(text, `futago_witness_requests_total{operation="cas",outcome="done"} 1`) || strings.Contains(text, "c1") {
		t.Errorf("served:\n%s", text)
	}
	r.fetch("https://" + r.srv.Addr().String() + "/v1/health")
}

// fetch gets a page that must be there.
func (r *rig) fetch(url string) []byte {
	t := r.t
	t.Helper()
	resp, err := r.client.Get(url) //nolint:noctx // bounded by the client
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %d, %v", url, resp.StatusCode, err)
	}
	return b
}
