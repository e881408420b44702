package syslog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/futago/futago"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a spool that keeps records in memory and refuses when told to.
type memory struct {
	mu      sync.Mutex
	recs    []futago.Received
	full    bool
	half    bool // refuse the second half of each batch, once
	refused int  // records refused by Append, which count as lost
	tries   int
	idles   int
}

func (m *memory) Append(recs []futago.Received) (uint64, error) { return m.add(recs, true) }

func (m *memory) add(recs []futago.Received, counts bool) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries++
	take := len(recs)
	switch {
	case m.full:
		take = 0
	case m.half && take > 1:
		take, m.half = take/2, false
	}
	for i := range recs {
		recs[i].Seq = 0
	}
	for i := range take {
		r := recs[i]
		r.Raw = slices.Clone(r.Raw)
		r.Seq = uint64(len(m.recs) + 1)
		recs[i].Seq = r.Seq
		m.recs = append(m.recs, r)
	}
	if take < len(recs) {
		if counts {
			m.refused += len(recs) - take
		}
		return 0, futago.Errorf(futago.CodeStorageFull, "full")
	}
	return uint64(len(m.recs)), nil
}

func (m *memory) Idle(time.Time) { m.mu.Lock(); m.idles++; m.mu.Unlock() }

func (m *memory) setFull(full bool) { m.mu.Lock(); m.full = full; m.mu.Unlock() }

func (m *memory) messages() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, r := range m.recs {
		s := string(r.Raw)
		if r.Truncated {
			s += "✂"
		}
		out = append(out, s)
	}
	return out
}

func (m *memory) records() []futago.Received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.recs)
}

// trier is a spool that can be asked without counting.
type trier struct{ memory }

func (m *trier) TryAppend(recs []futago.Received) (uint64, error) { return m.add(recs, false) }

func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (m *memory) waitFor(t testing.TB, want ...string) {
	t.Helper()
	poll(t, fmt.Sprintf("%d messages", len(want)), func() bool { return len(m.messages()) >= len(want) })
	if d := cmp.Diff(want, m.messages()); d != "" {
		t.Error(d)
	}
}

// run runs a receiver; the returned function stops it and gives its error.
func run(t testing.TB, f func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	res := make(chan error, 1)
	go func() { res <- f(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-res })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return stop
}

func startStream(t testing.TB, cfg StreamConfig) (*Stream, func() error) {
	t.Helper()
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	s, err := ListenStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, run(t, s.Run)
}

func connect(t testing.TB, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func write(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestUDP(t *testing.T) {
	m := &memory{}
	u, err := ListenUDP(t.Context(), UDPConfig{Address: "127.0.0.1:0", MaxMessage: 1024, Producer: m})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = u.Close() }()
	stop := run(t, u.Run)
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	before := time.Now().UnixNano()
	for _, s := range []string{"<13>one\n", "", "<13>two", strings.Repeat("z", 1025)} {
		write(t, c, s)
	}
	m.waitFor(t, "<13>one\n", "", "<13>two", strings.Repeat("z", 1024)+"✂")
	for _, r := range m.records() {
		if r.Kind != futago.KindSyslog || r.Transport != futago.TransportUDP || r.Source.String() != c.LocalAddr().String() ||
			r.At < before || r.At > time.Now().UnixNano() {
			t.Errorf("%+v", r)
		}
	}
	m.setFull(true)
	write(t, c, "<13>lost")
	poll(t, "refusal", func() bool { return u.Status().Refused == 1 })
	m.setFull(false)
	write(t, c, "<13>three")
	m.waitFor(t, "<13>one\n", "", "<13>two", strings.Repeat("z", 1024)+"✂", "<13>three")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	st := u.Status()
	if st.Received != 5 || st.Bytes != 8+0+7+1024+9 || st.Truncated != 1 || st.Refused != 1 || st.KernelDrops != 0 {
		t.Errorf("status %+v", st)
	}
	if m.idles == 0 {
		t.Error("idle was never called")
	}
}

func TestStream_BothFramings(t *testing.T) {
	m := &memory{}
	s, stop := startStream(t, StreamConfig{Appender: m})
	a, b := connect(t, s.Addr()), connect(t, s.Addr())
	write(t, a, "<13>line one\n<13>line two\r\n<13>half")
	m.waitFor(t, "<13>line one", "<13>line two")
	write(t, b, "17 <13>counted\nlines")
	m.waitFor(t, "<13>line one", "<13>line two", "<13>counted\nlines"[:17])
	_ = a.Close()
	m.waitFor(t, "<13>line one", "<13>line two", "<13>counted\nlines"[:17], "<13>half")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, r := range m.records() {
		if r.Transport != futago.TransportTCP || r.Source.Addr() != netip.MustParseAddr("127.0.0.1") || r.At == 0 {
			t.Errorf("%+v", r)
		}
	}
	st := s.Status()
	if st.Accepted != 2 || st.Open != 0 || st.Received < 4 || st.LastAt.IsZero() {
		t.Errorf("status %+v", st)
	}
}

func TestStream_CutMessages(t *testing.T) {
	m := &memory{}
	s, _ := startStream(t, StreamConfig{Appender: m, MaxMessage: 1024})
	c := connect(t, s.Addr())
	write(t, c, strings.Repeat("a", 3000)+"\n2000 <13>"+strings.Repeat("b", 1996)+"<13>c\n")
	m.waitFor(t, strings.Repeat("a", 1024)+"✂", "<13>"+strings.Repeat("b", 1020)+"✂", "<13>c")
	poll(t, "counts", func() bool { st := s.Status(); return st.Truncated == 2 && st.Discarded == 1976+976 })
}

func TestStream_WaitsForTheSpool(t *testing.T) {
	for name, m := range map[string]interface {
		Appender
		setFull(bool)
		messages() []string
	}{"append": &memory{}, "try": &trier{}} {
		t.Run(name, func(t *testing.T) {
			s, _ := startStream(t, StreamConfig{Appender: m})
			m.setFull(true)
			const conns, each = 5, 2000
			var want []string
			var wg sync.WaitGroup
			for i := range conns {
				c := connect(t, s.Addr())
				var sb strings.Builder
				for j := range each {
					msg := fmt.Sprintf("<13>connection %d message %d", i, j)
					want = append(want, msg)
					sb.WriteString(msg + "\n")
				}
				wg.Go(func() { write(t, c, sb.String()) })
			}
			poll(t, "waiting connections", func() bool { return s.Status().Waiting == conns })
			if got := m.messages(); len(got) != 0 {
				t.Fatalf("%d messages in a full spool", len(got))
			}
			m.setFull(false)
			poll(t, "all messages", func() bool { return len(m.messages()) >= conns*each })
			wg.Wait()
			got := m.messages()
			if d := cmp.Diff(want, slices.SortedFunc(slices.Values(got), func(a, b string) int {
				var ai, aj, bi, bj int
				_, _ = fmt.Sscanf(a, "<13>connection %d message %d", &ai, &aj)
				_, _ = fmt.Sscanf(b, "<13>connection %d message %d", &bi, &bj)
				return (ai-bi)*each + aj - bj
			})); d != "" {
				t.Error(d)
			}
			poll(t, "no waiting", func() bool { st := s.Status(); return st.Waiting == 0 && st.Received == conns*each })
			if st := s.Status(); st.Lost != 0 {
				t.Errorf("status %+v", st)
			}
			if tr, ok := m.(*trier); ok && tr.refused != 0 {
				t.Errorf("%d records counted as refused, though none is lost", tr.refused)
			}
		})
	}
}

func TestStream_StoresInOrderWhenPartIsRefused(t *testing.T) {
	m := &memory{half: true}
	s, _ := startStream(t, StreamConfig{Appender: m})
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("<13>%d", i))
	}
	write(t, connect(t, s.Addr()), strings.Join(want, "\n")+"\n")
	m.waitFor(t, want...)
}

func TestStream_StopWhileTheSpoolRefuses(t *testing.T) {
	m := &memory{full: true}
	s, stop := startStream(t, StreamConfig{Appender: m})
	for range 3 {
		write(t, connect(t, s.Addr()), "<13>a\n<13>b\n")
	}
	poll(t, "waiting connections", func() bool { return s.Status().Waiting == 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Lost != 6 || st.Received != 0 || st.Open != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestStream_StopTakesWhatWasSent(t *testing.T) {
	m := &memory{}
	s, stop := startStream(t, StreamConfig{Appender: m})
	c := connect(t, s.Addr())
	write(t, c, "<13>a\n")
	m.waitFor(t, "<13>a")
	write(t, c, "<13>b\n<13>c")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"<13>a", "<13>b", "<13>c✂"}, m.messages()); d != "" {
		t.Error(d)
	}
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestStream_ConnectionLimit(t *testing.T) {
	m := &memory{}
	s, _ := startStream(t, StreamConfig{Appender: m, MaxConnections: 2})
	a, b := connect(t, s.Addr()), connect(t, s.Addr())
	poll(t, "two connections", func() bool { return s.Status().Open == 2 })
	over := connect(t, s.Addr())
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Error("the third connection is open")
	}
	poll(t, "refusal", func() bool { return s.Status().Refused == 1 })
	_ = a.Close()
	poll(t, "room", func() bool { return s.Status().Open == 1 })
	write(t, connect(t, s.Addr()), "<13>x\n")
	write(t, b, "<13>y\n")
	poll(t, "messages", func() bool { return len(m.messages()) == 2 })
}

func TestStream_IdleTimeout(t *testing.T) {
	s, _ := startStream(t, StreamConfig{Appender: &memory{}, IdleTimeout: 20 * time.Millisecond})
	c := connect(t, s.Addr())
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	poll(t, "end", func() bool { return s.Status().Open == 0 })
}

func serverTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

func TestStream_TLS(t *testing.T) {
	m := &memory{}
	server, client := serverTLS(t)
	s, stop := startStream(t, StreamConfig{Appender: m, TLS: server})
	c := tls.Client(connect(t, s.Addr()), client)
	write(t, c, "12 <13>one\ntwo\n4 <2>b")
	m.waitFor(t, "<13>one\ntwo\n", "<2>b")
	for _, r := range m.records() {
		if r.Transport != futago.TransportTLS {
			t.Errorf("transport %s", r.Transport)
		}
	}
	// Plain text on the TLS port.
	plain := connect(t, s.Addr())
	write(t, plain, "<13>plain\n")
	poll(t, "failed handshake", func() bool { return s.Status().Handshakes == 1 })
	// A handshake that never comes does not delay the stop.
	connect(t, s.Addr())
	poll(t, "connection", func() bool { return s.Status().Accepted == 3 })
	write(t, c, "5 <13>c")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"<13>one\ntwo\n", "<2>b", "<13>c"}, m.messages()); d != "" {
		t.Error(d)
	}
}

func TestListen_Errors(t *testing.T) {
	s, _ := startStream(t, StreamConfig{Appender: &memory{}})
	if _, err := ListenStream(t.Context(), StreamConfig{Address: s.Addr().String()}); futago.CodeOf(err) != futago.CodeUnavailable {
		t.Errorf("port in use: %v", err)
	}
	for _, cfg := range []StreamConfig{{MaxMessage: 10}, {MaxMessage: 1 << 21}, {MaxConnections: -1}} {
		if _, err := ListenStream(t.Context(), cfg); futago.CodeOf(err) != futago.CodeInvalid {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	if _, err := ListenUDP(t.Context(), UDPConfig{MaxMessage: 10}); futago.CodeOf(err) != futago.CodeInvalid {
		t.Errorf("UDP: %v", err)
	}
}
