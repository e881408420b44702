package witness

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running witness with a client for it.
type rig struct {
	t      testing.TB
	srv    *Server
	dir    string
	reg    *prometheus.Registry
	client *http.Client
	tokens map[string]string
	stop   func()
}

func start(t testing.TB, dir string, fl *atomicfile.Disk, change func(*Server)) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, reg: prometheus.NewRegistry(), tokens: map[string]string{}}
	srv, err := newServer(Config{Dir: dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Registry: r.reg, MetricsListen: "127.0.0.1:0"}, fl)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(srv)
	}
	r.srv = srv
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			if got := Pin(s.PeerCertificates[0].RawSubjectPublicKeyInfo); got != srv.Pin() {
				return fmt.Errorf("pin %s", got)
			}
			return nil
		}},
		MaxIdleConnsPerHost: 32,
	}
	r.client = &http.Client{Transport: tr, Timeout: 20 * time.Second}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func (r *rig) url(cluster string) string {
	return "https://" + r.srv.Addr().String() + "/v1/clusters/" + cluster + "/record"
}

// invite makes a token for cluster and uses it from now on.
func (r *rig) invite(cluster string) {
	r.t.Helper()
	inv, err := NewInvitation(InvitationOptions{Dir: r.dir, Cluster: cluster, URL: "https://" + r.srv.Addr().String()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.tokens[cluster] = inv.Token
}

// reply is an answer, read whole.
type reply struct {
	status int
	etag   string
	body   []byte
	prob   Problem
}

func (r *rig) do(method, cluster string, header http.Header, body string) reply {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, r.url(cluster), strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	if _, ok := header["Authorization"]; !ok && r.tokens[cluster] != "" {
		req.Header.Set("Authorization", "Bearer "+r.tokens[cluster])
	}
	if body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Error(err)
		return reply{}
	}
	defer resp.Body.Close()
	out := reply{status: resp.StatusCode, etag: resp.Header.Get("ETag")}
	if out.body, err = io.ReadAll(resp.Body); err != nil {
		r.t.Error(err)
	}
	if resp.StatusCode >= 400 {
		if ct := resp.Header.Get("Content-Type"); ct != ProblemType {
			r.t.Errorf("%s %d: content type %q", method, resp.StatusCode, ct)
		}
		if err := json.Unmarshal(out.body, &out.prob); err != nil || out.prob.Status != resp.StatusCode || out.prob.Code == "" {
			r.t.Errorf("%s %d: problem %s: %v", method, resp.StatusCode, out.body, err)
		}
	}
	return out
}

func (r *rig) get(cluster string) reply { r.t.Helper(); return r.do(http.MethodGet, cluster, nil, "") }

func (r *rig) create(cluster, body string) reply {
	r.t.Helper()
	return r.do(http.MethodPut, cluster, http.Header{"If-None-Match": {"*"}}, body)
}

func (r *rig) cas(cluster, etag, body string) reply {
	r.t.Helper()
	return r.do(http.MethodPut, cluster, http.Header{"If-Match": {etag}}, body)
}

// rec is a record with an extra member, which the witness must keep.
func rec(version int, nonce string) string {
	return fmt.Sprintf(`{"version":%d,"nonce":%q,"term":7,"later":{"x":[1,2]}}`, version, nonce)
}

func tag(version int, nonce string) string { return fmt.Sprintf(`"%d-%s"`, version, nonce) }

func want(t *testing.T, what string, r reply, status int) {
	t.Helper()
	if r.status != status {
		t.Fatalf("%s: %d instead of %d: %s", what, r.status, status, r.body)
	}
}

// wantRecord checks a success.
func wantRecord(t *testing.T, what string, r reply, version int, nonce string) {
	t.Helper()
	want(t, what, r, http.StatusOK)
	if string(r.body) != rec(version, nonce) || r.etag != tag(version, nonce) {
		t.Fatalf("%s: %s %s", what, r.etag, r.body)
	}
}

// count returns a counter's value.
func (r *rig) count(name string, labels map[string]string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metric:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if w, ok := labels[l.GetName()]; ok && w != l.GetValue() {
					continue metric
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func parseCert(t *testing.T, pemCert tls.Certificate) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(pemCert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantCode(t *testing.T, err error, code futago.Code, words ...string) {
	t.Helper()
	if futago.CodeOf(err) != code {
		t.Fatalf("code %q instead of %q: %v", futago.CodeOf(err), code, err)
	}
	for _, w := range words {
		if !bytes.Contains([]byte(err.Error()), []byte(w)) {
			t.Errorf("error does not say %q: %v", w, err)
		}
	}
}
