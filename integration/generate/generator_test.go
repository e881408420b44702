package generate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/snmptrap"
	"github.com/futago/futago/intake/syslog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink stands for one manager: it takes every kind of trap, decodes it as the
// product does and counts copies by key.
type sink struct {
	t        *testing.T
	member   futago.MemberID
	target   Target
	http     *httptest.Server
	snmp     *snmptrap.Decoder
	settings *futago.IntakeSettings
	closers  []io.Closer
	wg       sync.WaitGroup

	mu     sync.Mutex
	events map[futago.Key]*futago.Event
	copies int
}

func newSink(t *testing.T, m futago.MemberID) *sink {
	k := &sink{
		t: t, member: m, events: make(map[futago.Key]*futago.Event), snmp: snmptrap.New(snmptrap.Options{}),
		settings: &futago.IntakeSettings{SNMPUsers: []futago.SNMPUser{{
			Name: testUser.Name, Auth: testUser.Auth, AuthPass: futago.Secret(testUser.AuthPass), Priv: "AES", PrivPass: futago.Secret(testUser.PrivPass),
		}}},
	}
	k.target = Target{Member: m, SyslogUDP: k.udp(futago.KindSyslog), SNMP: k.udp(futago.KindSNMPTrap), SyslogTCP: k.tcp()}
	k.http = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sesame" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var body struct {
			FacilityID string
			Data       []struct{ Date, Type, Key, Msg string } `json:"DATA"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("custom trap: %v", err)
		}
		for _, d := range body.Data {
			k.record(futago.Trap{Kind: futago.KindCustomTrap, Parsed: true, Custom: &futago.CustomFields{Msg: d.Msg}},
				futago.NewKey(futago.KindCustomTrap, netip.Addr{}, []byte(d.Msg)))
		}
	}))
	k.target.CustomURL = k.http.URL
	t.Cleanup(k.close)
	return k
}

func (k *sink) close() {
	for _, c := range k.closers {
		c.Close()
	}
	k.closers = nil
	k.http.Close()
	k.wg.Wait()
}

func (k *sink) record(trap futago.Trap, key futago.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.events[key]
	if e == nil {
		e = &futago.Event{At: time.Now(), Trap: trap, Receipts: []futago.Receipt{{Member: k.member}}}
		k.events[key] = e
	}
	e.Count++
	e.Receipts[0].Count++
	k.copies++
}

func (k *sink) raw(kind futago.Kind, b []byte) {
	r := &futago.Received{Kind: kind, Raw: slices.Clone(b), Source: netip.MustParseAddrPort("127.0.0.1:1"), At: time.Now().UnixNano()}
	if kind == futago.KindSyslog {
		k.record(syslog.Decode(r, k.settings))
		return
	}
	trap, key := k.snmp.Decode(r, k.settings)
	k.record(trap, key)
}

func (k *sink) udp(kind futago.Kind) netip.AddrPort {
	c, err := Local{}.ListenPacket(k.t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		k.t.Fatal(err)
	}
	_ = c.(*net.UDPConn).SetReadBuffer(4 << 20)
	k.closers = append(k.closers, c)
	k.wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			k.raw(kind, buf[:n])
			if i := slices.Index(buf[:n], tagInform); kind == futago.KindSNMPTrap && i > 0 && i < 20 {
				buf[i] = tagResponse
				_, _ = c.WriteTo(buf[:n], from)
			}
		}
	})
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

func (k *sink) tcp() netip.AddrPort {
	var lc net.ListenConfig
	l, err := lc.Listen(k.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		k.t.Fatal(err)
	}
	k.closers = append(k.closers, l)
	k.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			k.wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					first, err := r.Peek(1)
					if err != nil {
						return
					}
					if first[0] == '<' {
						line, err := r.ReadString('\n')
						if err != nil {
							return
						}
						k.raw(futago.KindSyslog, []byte(strings.TrimSuffix(line, "\n")))
						continue
					}
					size, err := r.ReadString(' ')
					n, err2 := strconv.Atoi(strings.TrimSpace(size))
					if err != nil || err2 != nil {
						k.t.Errorf("frame %q", size)
						return
					}
					frame := make([]byte, n)
					if _, err := io.ReadFull(r, frame); err != nil {
						return
					}
					k.raw(futago.KindSyslog, frame)
				}
			})
		}
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// merged is what two managers record together: counts per key, the larger one.
func merged(sinks ...*sink) []futago.Event {
	all := make(map[futago.Key]*futago.Event)
	for _, k := range sinks {
		k.mu.Lock()
		for key, e := range k.events {
			if m := all[key]; m != nil {
				m.Count = max(m.Count, e.Count)
				m.Receipts = append(m.Receipts, e.Receipts...)
			} else {
				c := *e
				c.Receipts = slices.Clone(e.Receipts)
				all[key] = &c
			}
		}
		k.mu.Unlock()
	}
	var events []futago.Event
	for _, e := range slices.Collect(maps.Values(all)) {
		events = append(events, *e)
	}
	return events
}

func testConfig(sinks ...*sink) Config {
	cfg := Config{
		Run: 3, SNMPUser: testUser, Token: "sesame", Timeout: 5 * time.Second,
		Plan: Plan{
			Seed: 1, Rate: 2000, Count: 600, Burst: 0.3, Again: 0.2, AgainAfter: 200 * time.Millisecond,
			Mix: EvenMix(SyslogBSD, SyslogIETF, SyslogBSDStream, SyslogIETFStream, SNMPv2c, SNMPv3, SNMPInform, Custom),
		},
	}
	for _, k := range sinks {
		cfg.Targets = append(cfg.Targets, k.target)
		cfg.TLS = k.http.Client().Transport.(*http.Transport).TLSClientConfig
	}
	return cfg
}

// settle waits until a sink has so many copies.
func settle(t *testing.T, k *sink, copies int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		k.mu.Lock()
		n := k.copies
		k.mu.Unlock()
		if n >= copies {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d copies arrived at %s, not %d", n, k.member, copies)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestGenerate(t *testing.T) {
	a, b := newSink(t, "a"), newSink(t, "b")
	g, err := New(testConfig(a, b))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	sum := g.Journal().Summary()
	n := g.Journal().Len() / 2
	if sum[Unknown]+sum[Unsent] > 0 || sum[Acked] == 0 || n < 600 {
		t.Fatalf("outcomes %v", sum)
	}
	settle(t, a, n)
	settle(t, b, n)
	// The audit agrees with what really happened, and sees every copy removed or doubled.
	events := merged(a, b)
	r, err := Audit(AuditConfig{}, g.Journal(), all(events...))
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	if r.Traps != 600 || r.Occurrences != n || r.Recorded != uint64(n) {
		t.Errorf("%+v", r)
	}
	for i := range 20 {
		broken := slices.Clone(events)
		want := FaultMissing
		if i%2 == 0 {
			broken = slices.Delete(broken, i, i+1)
		} else {
			broken[i].Count++
			want = FaultExcess
		}
		r, err := Audit(AuditConfig{}, g.Journal(), all(broken...))
		if err != nil || r.Found[want] != 1 {
			t.Fatalf("damage %d: %v, %v", i, r.Found, err)
		}
	}
}

// One manager is not there: nothing is held up, and the journal says so.
func TestOneManagerAway(t *testing.T) {
	a, b := newSink(t, "a"), newSink(t, "b")
	cfg := testConfig(a, b)
	b.close()
	cfg.Timeout = time.Second
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	settle(t, a, g.Journal().Len()/2)
	r, err := Audit(AuditConfig{}, g.Journal(), all(merged(a)...))
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	for _, c := range g.Journal().Copies() {
		want := Sent
		switch {
		case c.Flavour == Custom && c.Member == "a", c.Flavour == SNMPInform && c.Member == "a":
			want = Acked
		case c.Flavour == SNMPInform:
			want = Unknown
		case !c.Flavour.Datagram() && c.Member == "b":
			want = Unsent
		}
		if c.Outcome != want {
			t.Fatalf("%+v, want %v", c, want)
		}
	}
}

func TestRunEndsWithContext(t *testing.T) {
	a := newSink(t, "a")
	cfg := testConfig(a)
	cfg.Plan.Rate = 1
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := g.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNewChecks(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no target":  func(c *Config) { c.Targets = nil },
		"no address": func(c *Config) { c.Targets[0].SyslogTCP = netip.AddrPort{} },
		"no user":    func(c *Config) { c.SNMPUser = SNMPUser{} },
		"no bound":   func(c *Config) { c.Plan.Count = 0 },
	} {
		a := newSink(t, "a")
		cfg := testConfig(a)
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestBlast(t *testing.T) {
	for _, f := range []Flavour{SyslogBSD, SyslogIETF, SNMPv2c, SNMPv3} {
		t.Run(f.String(), func(t *testing.T) {
			a, b := newSink(t, "a"), newSink(t, "b")
			res, err := Blast{
				Flavour: f, Targets: []Target{a.target, b.target}, Run: 5, Count: 3000, Rate: 20000, Repeats: 0.8,
				Seed: 2, Senders: 2, SNMPUser: testUser,
			}.Send(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if res.Occurrences != 3000 || res.Datagrams != 6000 || res.Distinct() < 400 || res.Distinct() > 800 {
				t.Errorf("%d occurrences, %d datagrams, %d distinct", res.Occurrences, res.Datagrams, res.Distinct())
			}
			settle(t, a, 3000)
			settle(t, b, 3000)
			r, err := AuditCounts(res, all(merged(a, b)...))
			if err != nil || r.Err() != nil || r.Recorded != 3000 {
				t.Errorf("%+v, %v, %v", r, r.Err(), err)
			}
		})
	}
}

func BenchmarkBlast(b *testing.B) {
	for _, f := range []Flavour{SyslogBSD, SNMPv2c, SNMPv3} {
		b.Run(f.String(), func(b *testing.B) {
			var targets []Target
			for _, m := range []futago.MemberID{"a", "b"} {
				// Nobody reads: the sender is what is measured.
				c, err := Local{}.ListenPacket(b.Context(), "udp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				addr := netip.MustParseAddrPort(c.LocalAddr().String())
				targets = append(targets, Target{Member: m, SyslogUDP: addr, SNMP: addr})
			}
			res, err := Blast{Flavour: f, Targets: targets, Count: max(b.N, 1), SNMPUser: testUser}.Send(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(res.Rate(), "datagrams/s")
		})
	}
}
