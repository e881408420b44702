package futago_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/futago/futago"
)

// What the API writes, its clients must be able to read.
func TestEvent_JSONRoundTrip(t *testing.T) {
	at := time.Date(2026, 11, 22, 3, 0, 0, 123456789, time.UTC)
	for r := futago.ReasonFirst; r <= futago.ReasonInternal; r++ {
		want := futago.Event{
			ID: 7, At: at, Count: 2, Copies: 4, Reason: r, Key: futago.NewKey(futago.KindSyslog, netip.MustParseAddr("192.0.2.1"), []byte("x")),
			Receipts: []futago.Receipt{{Member: futago.MemberA, Count: 2, First: at, Last: at}},
			Trap: futago.Trap{
				Kind: futago.KindSyslog, Transport: futago.TransportTLS, Source: netip.MustParseAddrPort("192.0.2.1:514"),
				Severity: futago.SeverityError, Message: "x", Raw: []byte{0, 255}, Syslog: &futago.SyslogFields{Format: "rfc3164", Timestamp: at},
			},
		}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got futago.Event
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
			t.Error(d)
		}
	}
}

func TestSecret_NeverInTheClear(t *testing.T) {
	for in, want := range map[futago.Secret]string{"": `""`, "hunter2": `"********"`, "sealed:abc": `"sealed:abc"`} {
		if b, err := json.Marshal(in); err != nil || string(b) != want {
			t.Errorf("%q is written as %s, %v", string(in), b, err)
		}
	}
	if s := futago.Secret("hunter2").String(); s != futago.Masked {
		t.Errorf("printed as %q", s)
	}
}

func TestSettings_Validate(t *testing.T) {
	good := futago.IntakeSettings{
		Dedup:     map[futago.Kind]futago.DedupRule{futago.KindSyslog: futago.DefaultDedupRule()},
		Sources:   []futago.SourceRule{{Source: netip.MustParsePrefix("192.0.2.0/24"), Charset: "shift_jis"}},
		SNMPUsers: []futago.SNMPUser{{Name: "u", Auth: "SHA-256", AuthPass: "12345678", Priv: "AES", PrivPass: "12345678"}},
		TimeZone:  "Asia/Tokyo",
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*futago.IntakeSettings){
		"window of a moment": func(s *futago.IntakeSettings) {
			s.Dedup[futago.KindSyslog] = futago.DedupRule{Mode: "window", Window: 1}
		},
		"unknown mode":        func(s *futago.IntakeSettings) { s.Dedup[futago.KindSyslog] = futago.DedupRule{Mode: "guess"} },
		"rule for own events": func(s *futago.IntakeSettings) { s.Dedup[futago.KindInternal] = futago.DefaultDedupRule() },
		"no prefix":           func(s *futago.IntakeSettings) { s.Sources[0].Source = netip.Prefix{} },
		"unknown charset":     func(s *futago.IntakeSettings) { s.Sources[0].Charset = "klingon" },
		"short passphrase":    func(s *futago.IntakeSettings) { s.SNMPUsers[0].AuthPass = "short" },
		"priv without auth":   func(s *futago.IntakeSettings) { s.SNMPUsers[0].Auth = "" },
		"user twice":          func(s *futago.IntakeSettings) { s.SNMPUsers = append(s.SNMPUsers, s.SNMPUsers[0]) },
		"no zone":             func(s *futago.IntakeSettings) { s.TimeZone = "Mars/Olympus" },
		"no hash":             func(s *futago.IntakeSettings) { s.CustomTrapTokens = []string{"secret"} },
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			s.Dedup = map[futago.Kind]futago.DedupRule{futago.KindSyslog: futago.DefaultDedupRule()}
			s.Sources = append([]futago.SourceRule(nil), good.Sources...)
			s.SNMPUsers = append([]futago.SNMPUser(nil), good.SNMPUsers...)
			spoil(&s)
			if err := s.Validate(); futago.CodeOf(err) != futago.CodeInvalid {
				t.Errorf("accepted: %v", err)
			}
		})
	}
}
