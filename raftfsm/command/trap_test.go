package command

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/futago/futago"
)

const rawSyslog = `<165>1 2026-11-22T03:14:15.003Z sw1.example.net snmpd 4711 LINK [meta@32473 ifIndex="3" ifName="Gi1/0/3"] interface Gi1/0/3, changed state to down; it was up for 41 days, 3 hours; last change by admin from 192.0.2.44`

func syslogExample() futago.Trap {
	return futago.Trap{
		Kind: futago.KindSyslog, Transport: futago.TransportUDP, Source: netip.MustParseAddrPort("192.0.2.7:514"),
		Severity: futago.SeverityNotice, Parsed: true, Charset: "us-ascii", Host: "sw1.example.net",
		Message: rawSyslog[bytes.IndexByte([]byte(rawSyslog), ']')+2:], Raw: []byte(rawSyslog),
		Syslog: &futago.SyslogFields{
			Format: "rfc5424", Facility: 20, HasPRI: true, Time: "2026-11-22T03:14:15.003Z",
			Timestamp: time.Date(2026, 11, 22, 3, 14, 15, 3e6, time.UTC), App: "snmpd", ProcID: "4711", MsgID: "LINK",
			StructuredData: []futago.SDElement{{ID: "meta@32473", Params: []futago.SDParam{{Name: "ifIndex", Value: "3"}, {Name: "ifName", Value: "Gi1/0/3"}}}},
		},
	}
}

func trapExamples() map[string]futago.Trap {
	return map[string]futago.Trap{
		"syslog": syslogExample(),
		"unparsed": {
			Kind: futago.KindSyslog, Transport: futago.TransportTCP, Source: netip.MustParseAddrPort("[fe80::1%eth0]:40000"), Severity: 5,
			Problem: "no valid encoding", Truncated: true, Message: "�\x00abc", Raw: []byte("\xff\x00abc"),
		},
		"snmp": {
			Kind: futago.KindSNMPTrap, Transport: futago.TransportUDP, Source: netip.MustParseAddrPort("[2001:db8::9]:161"), Severity: 4,
			Parsed: true, Message: "IF-MIB::linkDown eth7 down", Raw: []byte("0\x82 public … eth7 down …"),
			SNMP: &futago.SNMPFields{
				Version: "2c", Inform: true, Community: "public", User: "u", SecurityLevel: "authPriv", EngineID: "80001f88", ContextName: "ctx",
				RequestID: 4_000_000_000, TrapOID: "1.3.6.1.6.3.1.1.5.3", Enterprise: "1.3.6.1.4.1.8072", Generic: -1, Specific: 1 << 30,
				AgentAddress: "192.0.2.9", Uptime: 123456,
				Varbinds: []futago.Varbind{
					{OID: "1.3.6.1.2.1.2.2.1.1.7", Type: "INTEGER", Value: "7"},
					{OID: "1.3.6.1.2.1.2.2.1.2.7", Type: "OCTET STRING", Value: "eth7 down"},
					{OID: "1.3.6.1.2.1.2.2.1.3.7", Type: "SomethingNew", Value: ""},
				},
			},
		},
		"custom": {
			Kind: futago.KindCustomTrap, Transport: futago.TransportHTTPS, Source: netip.MustParseAddrPort("192.0.2.5:50000"), Severity: 6,
			Parsed: true, Message: "temperature: 21.5", Raw: []byte(`{"DATE":"2026-11-22 03:00:00","TYPE":"NUM","KEY":"temperature","MSG":"21.5"}`),
			Custom: &futago.CustomFields{
				FacilityID: "rack4", Date: "2026-11-22 03:00:00", Timestamp: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), Type: "NUM", Key: "temperature", Msg: "21.5",
			},
		},
		"internal": {
			Kind: futago.KindInternal, Transport: futago.TransportInternal, Severity: 4, Parsed: true, Message: "12 traps were lost",
			Own: &futago.InternalField{Member: futago.MemberA, Topic: "spool-overflow"},
		},
	}
}

// genTrap draws strings that are parts of Raw, in and out of order, and others.
func genTrap() *rapid.Generator[futago.Trap] {
	return rapid.Custom(func(t *rapid.T) futago.Trap {
		raw := rapid.SliceOfN(rapid.SampledFrom([]byte("abc \xff\x00")), 0, 60).Draw(t, "raw")
		str := rapid.OneOf(
			rapid.Just(""), rapid.SampledFrom(words[:]), rapid.StringN(0, 12, -1),
			rapid.Custom(func(t *rapid.T) string {
				i := rapid.IntRange(0, len(raw)).Draw(t, "from")
				return string(raw[i:rapid.IntRange(i, len(raw)).Draw(t, "to")])
			}))
		s := func(n string) string { return str.Draw(t, n) }
		at := func(n string) time.Time {
			if rapid.Bool().Draw(t, n+" zero") {
				return time.Time{}
			}
			return time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, n), rapid.Int64Range(0, 999_999_999).Draw(t, n+" ns")).UTC()
		}
		x := futago.Trap{
			Kind: futago.Kind(rapid.Byte().Draw(t, "kind")), Transport: futago.Transport(rapid.Byte().Draw(t, "transport")),
			Severity: futago.Severity(rapid.Byte().Draw(t, "severity")), Parsed: rapid.Bool().Draw(t, "parsed"), Truncated: rapid.Bool().Draw(t, "truncated"),
			Source: rapid.SampledFrom([]netip.AddrPort{
				{}, netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[::ffff:192.0.2.1]:65535"), netip.MustParseAddrPort("[fe80::1%a]:2"),
			}).Draw(t, "source"),
			Problem: s("problem"), Charset: s("charset"), Host: s("host"), Message: s("message"), Raw: raw,
		}
		switch rapid.IntRange(0, 4).Draw(t, "parts") {
		case 1:
			x.Syslog = &futago.SyslogFields{
				Format: s("format"), Facility: rapid.Byte().Draw(t, "facility"), HasPRI: rapid.Bool().Draw(t, "pri"), Time: s("time"),
				Timestamp: at("stamp"), App: s("app"), ProcID: s("procid"), MsgID: s("msgid"), Sequence: s("sequence"),
			}
			for range rapid.IntRange(0, 3).Draw(t, "elements") {
				e := futago.SDElement{ID: s("id")}
				for range rapid.IntRange(0, 3).Draw(t, "params") {
					e.Params = append(e.Params, futago.SDParam{Name: s("name"), Value: s("value")})
				}
				x.Syslog.StructuredData = append(x.Syslog.StructuredData, e)
			}
		case 2:
			x.SNMP = &futago.SNMPFields{
				Version: s("version"), Inform: rapid.Bool().Draw(t, "inform"), Community: s("community"), User: s("user"),
				SecurityLevel: s("level"), EngineID: s("engine"), ContextName: s("context"), RequestID: rapid.Uint32().Draw(t, "request"),
				TrapOID: s("trap"), Enterprise: s("enterprise"), Generic: rapid.Int().Draw(t, "generic"), Specific: rapid.Int().Draw(t, "specific"),
				AgentAddress: s("agent"), Uptime: rapid.Uint32().Draw(t, "uptime"),
			}
			for range rapid.IntRange(0, 4).Draw(t, "varbinds") {
				x.SNMP.Varbinds = append(x.SNMP.Varbinds, futago.Varbind{OID: s("oid"), Type: s("type"), Value: s("value")})
			}
		case 3:
			x.Custom = &futago.CustomFields{FacilityID: s("facility"), Date: s("date"), Timestamp: at("stamp"), Type: s("type"), Key: s("key"), Msg: s("msg")}
		case 4:
			x.Own = &futago.InternalField{Member: futago.MemberID(s("member")), Topic: s("topic")}
		}
		return x
	})
}

func TestTrap_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genTrap().Draw(t, "trap")
		b := AppendTrap([]byte("head"), &want)
		if string(b[:4]) != "head" {
			t.Fatal("dst was not kept")
		}
		got, err := DecodeTrap(b[4:])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameNet); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestTrap_Size(t *testing.T) {
	x := syslogExample()
	if got := len(AppendTrap(nil, &x)); got > len(x.Raw)+64 {
		t.Errorf("%d bytes for a message of %d", got, len(x.Raw))
	}
}

func TestDecodeTrap_Damaged(t *testing.T) {
	x := syslogExample()
	good := AppendTrap(nil, &x)
	for n := range good {
		if _, err := DecodeTrap(good[:n]); futago.CodeOf(err) != futago.CodeCorrupt {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := DecodeTrap(append(bytes.Clone(good), 0)); futago.CodeOf(err) != futago.CodeCorrupt {
		t.Errorf("with a byte more: %v", err)
	}
	good[0] = 2
	if _, err := DecodeTrap(good); futago.CodeOf(err) != futago.CodeIncompatible {
		t.Errorf("later form: %v", err)
	}
}

func FuzzDecodeTrap(f *testing.F) {
	for _, x := range trapExamples() {
		f.Add(AppendTrap(nil, &x))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeTrap(b)
		if err != nil {
			if c := futago.CodeOf(err); c != futago.CodeCorrupt && c != futago.CodeIncompatible {
				t.Fatalf("code %q: %v", c, err)
			}
			return
		}
		y, err := DecodeTrap(AppendTrap(nil, &x))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x, y, sameNet); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkAppendTrap(b *testing.B) {
	x := syslogExample()
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendTrap(buf[:0], &x)
	}
}

func BenchmarkDecodeTrap(b *testing.B) {
	x := syslogExample()
	buf := AppendTrap(nil, &x)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeTrap(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func benchBatch() *TrapBatch {
	x := syslogExample()
	t := &TrapBatch{Member: futago.MemberA, Spool: testID(1), First: 1, Watermark: 1, ProposedAt: 1 << 60}
	for i := range 500 {
		t.Bodies = append(t.Bodies, Body{Key: futago.Key{byte(i), byte(i >> 8)}, Kind: 1, Source: x.Source.Addr(), Severity: 5, Trap: AppendTrap(nil, &x)})
		t.Copies = append(t.Copies, Copy{Body: uint32(i), At: 1<<60 + int64(i)*30_000})
	}
	return t
}

func BenchmarkEncodeBatch(b *testing.B) {
	t := benchBatch()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Encode(t); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/copy")
}

func BenchmarkDecodeBatch(b *testing.B) {
	enc := mustEncode(b, benchBatch())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(enc); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/copy")
}
