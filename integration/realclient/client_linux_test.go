package realclient_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/snmptrap"
	"github.com/futago/futago/intake/syslog"
	"github.com/futago/futago/integration/lab"
	"github.com/futago/futago/integration/realclient"
)

func TestMain(m *testing.M) { lab.Main(m, goleak.Find) }

var user = realclient.User{Name: "ops", Auth: "SHA-256", AuthPass: "auth pass phrase", Priv: "AES", PrivPass: "priv pass phrase"}

const text = `こんにちは "quoted" 100% [x] ok`

// certificate makes a certificate for an address, signed by itself, and the file
// that clients check it against.
func certificate(t *testing.T, dir string, addr netip.Addr) (cert tls.Certificate, caFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{addr.AsSlice()}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, caFile
}

// receiver listens on host a for everything and hands over what comes.
func receiver(t *testing.T, l *lab.Lab) (realclient.Receiver, <-chan []byte) {
	t.Helper()
	h := l.Host("a")
	got := make(chan []byte, 100)
	cert, caFile := certificate(t, l.Dir(), h.Addr())
	tlsConfig := &tls.Config{Certificates: []tls.Certificate{cert}}
	r := realclient.Receiver{
		SyslogUDP: h.AddrPort(514), SyslogTCP: h.AddrPort(514), SyslogTLS: h.AddrPort(6514), SNMP: h.AddrPort(162),
		CustomURL: "https://" + h.AddrPort(8082).String() + "/", CAFile: caFile, Token: "sesame", User: user,
	}
	for _, port := range []string{":514", ":162"} {
		c, err := h.ListenPacket(t.Context(), "udp4", port)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, 65536)
			for {
				n, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				got <- slices.Clone(buf[:n])
				// An inform of version 2c becomes its own answer.
				if i := bytes.IndexByte(buf[:n], 0xa6); i > 0 && i < 20 {
					buf[i] = 0xa2
					_, _ = c.WriteTo(buf[:n], from)
				}
			}
		}()
		t.Cleanup(func() { c.Close(); <-done })
	}
	for _, port := range []string{":514", ":6514"} {
		ln, err := h.Listen(t.Context(), "tcp4", port)
		if err != nil {
			t.Fatal(err)
		}
		if port == ":6514" {
			ln = tls.NewListener(ln, tlsConfig)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				frames(c, got)
				c.Close()
			}
		}()
		t.Cleanup(func() { ln.Close(); <-done })
	}
	ln, err := h.Listen(t.Context(), "tcp4", ":8082")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "Bearer sesame" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		b, _ := io.ReadAll(q.Body)
		got <- b
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(tls.NewListener(ln, tlsConfig)) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return r, got
}

// frames reads syslog messages in either framing.
func frames(c net.Conn, got chan<- []byte) {
	r := bufio.NewReader(c)
	for {
		first, err := r.Peek(1)
		if err != nil {
			return
		}
		if first[0] == '<' {
			line, err := r.ReadBytes('\n')
			if len(line) > 0 {
				got <- bytes.TrimSuffix(line, []byte("\n"))
			}
			if err != nil {
				return
			}
			continue
		}
		size, err := r.ReadString(' ')
		n, err2 := strconv.Atoi(strings.TrimSpace(size))
		if err != nil || err2 != nil {
			return
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(r, frame); err != nil {
			return
		}
		got <- frame
	}
}

// Every client delivers, and what it sends is decoded to what was meant.
func TestClients(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a", "d1"}})
	r, got := receiver(t, l)
	snmp := snmptrap.New(snmptrap.Options{})
	settings := &futago.IntakeSettings{SNMPUsers: []futago.SNMPUser{{
		Name: user.Name, Auth: user.Auth, AuthPass: futago.Secret(user.AuthPass), Priv: user.Priv, PrivPass: futago.Secret(user.PrivPass),
	}}}
	for _, c := range realclient.All() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Installed(); err != nil {
				t.Skip(err)
			}
			if c.Name == "snmpinform-v3" {
				t.Skip("needs an engine, see TestInformV3")
			}
			if err := c.Send(t.Context(), l.Host("d1"), r, text); err != nil {
				t.Fatal(err)
			}
			rec := &futago.Received{Kind: c.Kind, Transport: c.Transport, Source: l.Host("d1").AddrPort(1), At: time.Now().UnixNano()}
			select {
			case rec.Raw = <-got:
			case <-time.After(10 * time.Second):
				t.Fatal("nothing arrived")
			}
			switch c.Kind {
			case futago.KindSyslog:
				trap, _ := syslog.Decode(rec, settings)
				// rsyslog keeps the blank between tag and text in the text.
				if !trap.Parsed || strings.TrimPrefix(trap.Message, " ") != text || trap.Syslog.App != realclient.Tag || trap.Severity != futago.SeverityNotice {
					t.Errorf("raw %q: %+v", rec.Raw, trap)
				}
			case futago.KindSNMPTrap:
				trap, _ := snmp.Decode(rec, settings)
				if !trap.Parsed || len(trap.SNMP.Varbinds) == 0 {
					t.Fatalf("%+v", trap)
				}
				if v := trap.SNMP.Varbinds[len(trap.SNMP.Varbinds)-1]; v.OID != realclient.TextOID || v.Value != text {
					t.Errorf("binding %+v", v)
				}
			default:
				if !bytes.Contains(rec.Raw, []byte(`"TYPE":"STRING","KEY":"realclient"`)) {
					t.Errorf("raw %q", rec.Raw)
				}
			}
		})
	}
}

// What goes to nobody is an error where the client can know.
func TestClientsNoticeAbsence(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a", "d1"}})
	r := realclient.Receiver{SyslogTCP: l.Host("a").AddrPort(514), CustomURL: "http://" + l.Host("a").AddrPort(8082).String()}
	for _, c := range realclient.All() {
		if c.Name != "logger-tcp-lines" && c.Name != "curl" {
			continue
		}
		if err := c.Installed(); err != nil {
			t.Skip(err)
		}
		if err := c.Send(t.Context(), l.Host("d1"), r, text); err == nil {
			t.Errorf("%s reports success without a receiver", c.Name)
		}
	}
}

// One rsyslogd forwards to two receivers.
func TestRsyslogForwardsToBoth(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a", "d1"}})
	for _, c := range realclient.All() {
		if err := c.Installed(); c.Tool == "rsyslogd" && err != nil {
			t.Skip(err)
		}
	}
	r, got := receiver(t, l)
	f, err := realclient.StartRsyslog(t.Context(), l.Host("d1"), realclient.RsyslogUDP, r, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Log(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case raw := <-got:
			if !bytes.Contains(raw, []byte(text)) {
				t.Errorf("got %q", raw)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a copy did not arrive")
		}
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// An inform of version 3 needs a receiver with an engine: net-snmp's own.
func TestInformV3(t *testing.T) {
	l := lab.New(t, lab.Config{Hosts: []string{"a", "d1"}})
	h := l.Host("a")
	conf := filepath.Join(l.Dir(), "snmptrapd.conf")
	err := os.WriteFile(conf, []byte("createUser ops SHA-256 \"auth pass phrase\" AES \"priv pass phrase\"\nauthUser log ops\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Start(t.Context(), lab.Proc{
		Path: "snmptrapd", Args: []string{"-f", "-Lo", "-C", "-c", conf, "udp:" + h.AddrPort(162).String()},
		Env: []string{"MIBS=", "SNMP_PERSISTENT_DIR=" + filepath.Join(l.Dir(), "peer")},
	})
	if err != nil {
		t.Skipf("snmptrapd is needed: %v", err)
	}
	for _, c := range realclient.All() {
		if c.Name != "snmpinform-v3" {
			continue
		}
		if err := c.Installed(); err != nil {
			t.Skip(err)
		}
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.Log(), "NET-SNMP version"); { // it listens then
			if time.Now().After(deadline) || !p.Running() {
				t.Fatalf("snmptrapd does not start: %s", p.Log())
			}
			time.Sleep(time.Millisecond)
		}
		if err := c.Send(t.Context(), l.Host("d1"), realclient.Receiver{SNMP: h.AddrPort(162), User: user}, "informed"); err != nil {
			t.Fatalf("%v; snmptrapd says %s", err, p.Log())
		}
		if !strings.Contains(p.Log(), "informed") {
			t.Errorf("snmptrapd says %s", p.Log())
		}
	}
}
