package customtrap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/futago/futago"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run starts a server on loopback and returns its base URL.
func run(t *testing.T, spool *memSpool, cfg *tls.Config) string {
	t.Helper()
	s, err := Listen(t.Context(), Config{
		Address: "127.0.0.1:0", TLS: cfg, Producer: spool, Commits: spool, CommitTimeout: 300 * time.Millisecond,
		Settings: func() *futago.IntakeSettings { return &futago.IntakeSettings{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	scheme := "http://"
	if cfg != nil {
		scheme = "https://"
	}
	return scheme + s.Addr().String()
}

// curl runs curl and returns what it wrote.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"--silent", "--show-error", "--noproxy", "*"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("curl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// certificate makes a self-signed one for loopback and the file to trust it.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, file
}

const report = "\n%{http_code} %{http_version} %{num_connects} %{content_type}\n"

func TestCurl(t *testing.T) {
	cfg, ca := certificate(t)
	for _, c := range []struct {
		name      string
		tls       *tls.Config
		args      []string
		version   string
		transport futago.Transport
	}{
		{"HTTP", nil, nil, "1.1", futago.TransportHTTP},
		{"HTTPS", cfg, []string{"--cacert", ca, "--http1.1"}, "1.1", futago.TransportHTTPS},
		{"HTTP/2", cfg, []string{"--cacert", ca, "--http2"}, "2", futago.TransportHTTPS},
	} {
		t.Run(c.name, func(t *testing.T) {
			spool := newMemSpool()
			url := run(t, spool, c.tls)
			// Two requests on one connection: keep-alive.
			args := append(c.args, "--write-out", report, "--data-binary", goodBody, url+"/", url+"/hinemos?x=1")
			out := curl(t, args...)
			for _, want := range []string{
				fmt.Sprintf("200 %s 1 application/json", c.version), fmt.Sprintf("200 %s 0 application/json", c.version),
			} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
			if len(spool.recs) != 6 || spool.recs[0].Transport != c.transport || !spool.recs[0].Source.Addr().IsLoopback() {
				t.Errorf("%d records, first %+v", len(spool.recs), spool.recs[0])
			}
			// A large body is announced first.
			big := strings.Repeat(`{"TYPE":"STRING","KEY":"k","MSG":"`+strings.Repeat("x", 900)+`"},`, 999)
			file := filepath.Join(t.TempDir(), "big.json")
			if err := os.WriteFile(file, []byte(`{"DATA":[`+big+`{"TYPE":"NUM","KEY":"k","MSG":"1"}]}`), 0o600); err != nil {
				t.Fatal(err)
			}
			out = curl(t, append(c.args, "--write-out", report, "--data-binary", "@"+file, url)...)
			if !strings.Contains(out, `"committed":1000`) {
				t.Error(out)
			}
			out = curl(t, append(c.args, "--write-out", report, url)...)
			if !strings.Contains(out, "405 "+c.version+" 1 application/problem+json") {
				t.Error(out)
			}
			out = curl(t, append(c.args, "--write-out", report, "--data-binary", `{"DATA":[{"TYPE":"X","KEY":"k","MSG":"m"}]}`, url)...)
			if !strings.Contains(out, "400 ") || !strings.Contains(out, "DATA[0].TYPE must be NUM or STRING") {
				t.Error(out)
			}
		})
	}
}

func TestCurl_NotCommitted(t *testing.T) {
	spool := newMemSpool()
	spool.hold = true
	out := curl(t, "--include", "--data-binary", goodBody, run(t, spool, nil))
	for _, want := range []string{"503 Service Unavailable", "Retry-After: 10", `"spooled":true`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestListen_InUse(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = Listen(t.Context(), Config{Address: l.Addr().String()})
	if futago.CodeOf(err) != futago.CodeUnavailable || !strings.Contains(err.Error(), "another program") {
		t.Errorf("%v", err)
	}
}
