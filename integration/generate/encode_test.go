package generate

import (
	"bytes"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/syslog"
)

var testUser = SNMPUser{Name: "ops", Auth: "SHA-256", AuthPass: "auth pass phrase", PrivPass: "priv pass phrase"}

func testEncoder(t testing.TB, u SNMPUser) *encoder {
	t.Helper()
	m, err := newUSM(u, engineID(7))
	if err != nil {
		t.Fatal(err)
	}
	return &encoder{run: 7, start: time.Unix(1_700_000_000, 0), host: "gen", community: "public", ids: new(atomic.Uint32), usm: m}
}

func received(f Flavour, raw []byte) *futago.Received {
	return &futago.Received{
		At: 1_700_000_000e9, Kind: f.Kind(), Transport: futago.TransportUDP,
		Source: netip.MustParseAddrPort("10.77.0.13:4711"), Raw: raw,
	}
}

func TestSyslogDecodes(t *testing.T) {
	e := testEncoder(t, testUser)
	for _, f := range []Flavour{SyslogBSD, SyslogIETF, SyslogBSDStream, SyslogIETFStream, SyslogIETFTLS} {
		keys := make(map[futago.Key]bool)
		for n := range uint32(200) {
			it := Item{Number: n, Flavour: f}
			trap, key := syslog.Decode(received(f, e.append(nil, it, e.start.Add(time.Hour))), new(futago.IntakeSettings))
			if !trap.Parsed || trap.Problem != "" || trap.Host != "gen" || markedText(&trap) != Text(7, n) {
				t.Fatalf("%v %d: %+v", f, n, trap)
			}
			_, again := syslog.Decode(received(f, e.append(nil, it, e.start.Add(2*time.Hour))), new(futago.IntakeSettings))
			if again != key || keys[key] {
				t.Fatalf("%v %d: the key of a repeat differs, or that of another trap does not", f, n)
			}
			keys[key] = true
		}
	}
}

func TestCustomDecodes(t *testing.T) {
	e := testEncoder(t, testUser)
	b := e.append(nil, Item{Number: 5, Flavour: Custom, First: time.Second}, e.start)
	if s := string(b); !strings.Contains(s, `"DATE":"2023-11-14 22:13:21"`) || !strings.Contains(s, `"KEY":"trap"`) {
		t.Errorf("got %s", s)
	}
}

// An implementation of others reads what the encoder writes.
func TestSNMPDecodes(t *testing.T) {
	for _, auth := range []string{"SHA", "SHA-256"} {
		u := testUser
		u.Auth = auth
		e := testEncoder(t, u)
		proto := gosnmp.SHA
		if auth == "SHA-256" {
			proto = gosnmp.SHA256
		}
		for _, f := range []Flavour{SNMPv2c, SNMPInform, SNMPv3} {
			for n := range uint32(100) {
				raw := e.append(nil, Item{Number: n, Flavour: f}, e.start.Add(time.Duration(n)*time.Hour))
				g := &gosnmp.GoSNMP{Version: gosnmp.Version2c, Community: "public"}
				if f == SNMPv3 {
					g.Version, g.SecurityModel, g.MsgFlags = gosnmp.Version3, gosnmp.UserSecurityModel, gosnmp.AuthPriv
					g.SecurityParameters = &gosnmp.UsmSecurityParameters{
						UserName: u.Name, AuthenticationProtocol: proto, AuthenticationPassphrase: u.AuthPass,
						PrivacyProtocol: gosnmp.AES, PrivacyPassphrase: u.PrivPass,
					}
				}
				p, err := g.UnmarshalTrap(append([]byte(nil), raw...), false)
				if err != nil {
					t.Fatalf("%s %v %d: %v", auth, f, n, err)
				}
				if len(p.Variables) != 3 || p.Variables[1].Value != ".1.3.6.1.4.1.8072.9999.1" {
					t.Fatalf("%v: %+v", f, p.Variables)
				}
				if got, _ := p.Variables[2].Value.([]byte); string(got) != Text(7, n) {
					t.Fatalf("%v: text %q", f, got)
				}
				if p.Variables[0].Value != 100+n*360000 {
					t.Fatalf("%v %d: uptime %v", f, n, p.Variables[0].Value)
				}
			}
		}
	}
}

// The same key never meets the same initialisation vector.
func TestSaltsDiffer(t *testing.T) {
	e := testEncoder(t, testUser)
	seen := make(map[string]bool)
	for range 100 {
		raw := e.append(nil, Item{Number: 1, Flavour: SNMPv3}, e.start)
		_, salt, ok := bytes.Cut(raw, []byte{tagOctets, 8})
		if !ok || seen[string(salt[:8])] {
			t.Fatalf("salt %x of %x", salt, raw)
		}
		seen[string(salt[:8])] = true
	}
}

func TestResponseID(t *testing.T) {
	g := &gosnmp.SnmpPacket{Version: gosnmp.Version2c, Community: "public", PDUType: gosnmp.GetResponse, RequestID: 123456}
	b, err := g.MarshalMsg()
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := responseID(b); !ok || id != 123456 {
		t.Errorf("got %d, %v", id, ok)
	}
	for i := range b {
		responseID(b[:i]) // does not panic
	}
	e := testEncoder(t, testUser)
	if _, ok := responseID(e.append(nil, Item{Flavour: SNMPInform}, e.start)); ok {
		t.Error("an inform is taken for a response")
	}
}

func TestFindMark(t *testing.T) {
	for _, tc := range []struct {
		in     string
		number uint32
		ok     bool
	}{
		{Text(1, 2), 2, true},
		{"ftg: no mark, then " + Text(1, 3), 3, true},
		{"ftg:ftg:00000001:00000004;", 4, true},
		{"ftg:00000001:00000004", 0, false},
		{"ftg:0000000x:00000004;", 0, false},
		{"", 0, false},
	} {
		if _, n, ok := FindMark([]byte(tc.in)); n != tc.number || ok != tc.ok {
			t.Errorf("%q: %d, %v", tc.in, n, ok)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, f := range []Flavour{SyslogBSD, SyslogIETF, SNMPv2c, SNMPv3} {
		b.Run(f.String(), func(b *testing.B) {
			e := testEncoder(b, testUser)
			buf, n := make([]byte, 0, 2048), uint32(0)
			for b.Loop() {
				n++
				buf = e.append(buf[:0], Item{Number: n, Flavour: f}, e.start)
			}
		})
	}
}
