package syslog

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	leodido "github.com/leodido/go-syslog/v4/rfc5424"
	"pgregory.net/rapid"

	"github.com/futago/futago"
)

func TestDecode_YearAndZone(t *testing.T) {
	utc := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, c := range []struct{ arrival, stamp, zone, want string }{
		{"2024-03-01T09:46:12Z", "Mar  1 18:46:11", "Asia/Tokyo", "2024-03-01T09:46:11Z"},
		{"2024-03-01T09:46:12Z", "Mar  1 09:46:11", "", "2024-03-01T09:46:11Z"},
		// Around the new year, in both directions.
		{"2025-01-01T00:00:05Z", "Dec 31 23:59:58", "", "2024-12-31T23:59:58Z"},
		{"2024-12-31T23:59:58Z", "Jan  1 00:00:03", "", "2025-01-01T00:00:03Z"},
		{"2024-12-31T15:00:05Z", "Jan  1 00:00:03", "Asia/Tokyo", "2024-12-31T15:00:03Z"},
		{"2025-01-01T00:00:05Z", "Dec 31 15:00:03", "America/Los_Angeles", "2024-12-31T23:00:03Z"},
		// A message kept for months by a relay.
		{"2025-01-10T00:00:00Z", "Oct 11 22:14:15", "", "2024-10-11T22:14:15Z"},
		// 29 February.
		{"2024-03-01T00:00:00Z", "Feb 29 12:00:00", "", "2024-02-29T12:00:00Z"},
		{"2025-01-05T00:00:00Z", "Feb 29 12:00:00", "", "2024-02-29T12:00:00Z"},
		{"2026-06-01T00:00:00Z", "Feb 29 12:00:00", "", "0001-01-01T00:00:00Z"},
		// Daylight saving.
		{"2024-07-01T00:00:00Z", "Jul  1 02:00:00", "Europe/Berlin", "2024-07-01T00:00:00Z"},
		{"2024-01-01T12:00:00Z", "Jan  1 13:00:00", "Europe/Berlin", "2024-01-01T12:00:00Z"},
		// What the message says goes before the setting.
		{"2024-03-01T09:46:12Z", "Mar  1 18:46:11 UTC", "Asia/Tokyo", "2024-03-01T18:46:11Z"},
		{"2024-03-01T09:46:12Z", "Mar  1 18:46:11 +02:00", "Asia/Tokyo", "2024-03-01T16:46:11Z"},
		{"2024-03-01T09:46:12Z", "Mar  1 18:46:11 -0530", "Asia/Tokyo", "2024-03-02T00:16:11Z"},
		// An abbreviation of two meanings: that of the configured zone.
		{"2024-03-01T09:46:12Z", "Mar  1 18:46:11 CST", "Asia/Shanghai", "2024-03-01T10:46:11Z"},
		{"2024-03-01T09:46:12Z", "Mar  1 18:46:11 CST", "", "2024-03-02T00:46:11Z"},
		{"2024-03-01T09:46:12Z", "2024-02-29T23:59:60Z", "", "2024-03-01T00:00:00Z"},
	} {
		r := received("<13>" + c.stamp + " host01 app: text")
		r.At = utc(c.arrival).UnixNano()
		trap, _ := Decode(r, &futago.IntakeSettings{TimeZone: c.zone})
		if got := trap.Syslog.Timestamp; !got.Equal(utc(c.want)) {
			t.Errorf("%s arrived %s in %q: %s, want %s", c.stamp, c.arrival, c.zone, got, c.want)
		}
		if trap.Host != "host01" || trap.Syslog.Time != c.stamp {
			t.Errorf("%s: host %q, time %q", c.stamp, trap.Host, trap.Syslog.Time)
		}
	}
	trap, _ := Decode(received("<13>Mar  1 18:46:11 host01 app: text"), &futago.IntakeSettings{TimeZone: "Moon/Crater"})
	if trap.Problem == "" || trap.Syslog.Timestamp.IsZero() {
		t.Errorf("unknown zone: problem %q, time %s", trap.Problem, trap.Syslog.Timestamp)
	}
}

func keyOf(raw string) futago.Key {
	_, k := Decode(received(raw), tokyo)
	return k
}

func TestDecode_KeySame(t *testing.T) {
	for _, c := range []struct {
		name string
		raws []string
	}{
		{"time and PRI of RFC 3164", []string{
			"<13>Mar  1 18:46:11 host01 app[1]: text", "<14>Mar  2 00:00:00 host01 app[1]: text",
			"<13>2024-03-01T18:46:11Z host01 app[1]: text", "Mar  1 18:46:11 host01 app[1]: text",
		}},
		{"ends", []string{"<13>host01 app[1]: text", "<13>host01 app[1]: text\n", "<13>host01 app[1]: text\r\n", "<13>host01 app[1]: text\x00"}},
		{"time and PRI of RFC 5424", []string{
			`<13>1 2024-03-01T18:46:11Z h a p m [x@1 a="1"] text`, `<14>1 2024-03-01T18:46:12Z h a p m [x@1 a="1"] text`,
		}},
		{"Cisco's counter", []string{
			"<189>123: router1: Mar  1 18:46:11: %SYS-5-CONFIG_I: text", "<189>124: router1: Mar  1 18:46:12: %SYS-5-CONFIG_I: text",
		}},
	} {
		for _, raw := range c.raws[1:] {
			if keyOf(raw) != keyOf(c.raws[0]) {
				t.Errorf("%s: key of %q differs", c.name, raw)
			}
		}
	}
}

func TestDecode_KeyDiffers(t *testing.T) {
	raws := []string{
		"<13>Mar  1 18:46:11 host01 app[1]: text", "<13>Mar  1 18:46:11 host02 app[1]: text",
		"<13>Mar  1 18:46:11 host01 app[2]: text", "<13>Mar  1 18:46:11 host01 app: text",
		"<13>Mar  1 18:46:11 host01 app[1]: text ", "<13>Mar  1 18:46:11 host01 app[1]: Text",
		`<13>1 2024-03-01T18:46:11Z h a p m [x@1 a="1"] text`, `<13>1 2024-03-01T18:46:11Z i a p m [x@1 a="1"] text`,
		`<13>1 2024-03-01T18:46:11Z h b p m [x@1 a="1"] text`, `<13>1 2024-03-01T18:46:11Z h a q m [x@1 a="1"] text`,
		`<13>1 2024-03-01T18:46:11Z h a p n [x@1 a="1"] text`, `<13>1 2024-03-01T18:46:11Z h a p m [x@1 a="2"] text`,
		`<13>1 2024-03-01T18:46:11Z h a p m [x@1 a="1"] texu`, `<13>1 2024-03-01T18:46:11Z h a p m - text`,
		"just text", "<13>other text", "", "\x00", "<13>",
		// Different bytes that read as the same text.
		"<13>Mar  1 18:46:11 host01 app: \x8f\xe1\x8aQ", "<13>Mar  1 18:46:11 host01 app: \xbe\xe3\xb3\xb2", "<13>Mar  1 18:46:11 host01 app: 障害",
	}
	seen := map[futago.Key]string{}
	for _, raw := range raws {
		k := keyOf(raw)
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have the same key", raw, other)
		}
		seen[k] = raw
	}
	// The sender counts, its port and how the address is written do not.
	r := received(raws[0])
	r.Source = netip.MustParseAddrPort("192.0.2.98:514")
	if _, k := Decode(r, tokyo); k == keyOf(raws[0]) {
		t.Error("another sender, the same key")
	}
	r.Source = netip.MustParseAddrPort("[::ffff:192.0.2.99]:40000")
	if _, k := Decode(r, tokyo); k != keyOf(raws[0]) {
		t.Error("the same sender, another key")
	}
}

func TestDecode_SettingsDoNotChangeTheKey(t *testing.T) {
	others := []*futago.IntakeSettings{nil, {}, {TimeZone: "America/New_York", Sources: []futago.SourceRule{
		{Source: netip.MustParsePrefix("192.0.2.0/24"), Charset: "euc-jp"},
	}}}
	for _, file := range corpusFiles(t) {
		for _, line := range corpus(t, file) {
			raw := unescape(t, line)
			_, want := Decode(received(raw), tokyo)
			for _, s := range others {
				r := received(raw)
				r.At += int64(400 * 24 * time.Hour)
				if _, got := Decode(r, s); got != want {
					t.Errorf("%s: key depends on settings or arrival", line)
				}
			}
		}
	}
}

func TestDecode_CharsetOfTheSource(t *testing.T) {
	s := &futago.IntakeSettings{Sources: []futago.SourceRule{{Source: netip.MustParsePrefix("192.0.2.99/32"), Charset: "euc-jp"}}}
	raw := "<13>Mar  1 18:46:11 host01 app: \xc3\xde\xa8\xbd" // half-width kana in Shift_JIS
	trap, _ := Decode(received(raw), s)
	if trap.Charset != "euc-jp" || trap.Message != "筑┰" {
		t.Errorf("charset %s, message %q", trap.Charset, trap.Message)
	}
	trap, _ = Decode(received(raw), nil)
	if trap.Charset != "shift_jis" || trap.Message != "ﾃﾞｨｽ" {
		t.Errorf("charset %s, message %q", trap.Charset, trap.Message)
	}
}

func TestDecode_KeepsWhatItIsGiven(t *testing.T) {
	r := received("<13>Mar  1 18:46:11 host01 app: text")
	r.Truncated, r.Transport = true, futago.TransportTLS
	trap, _ := Decode(r, nil)
	if !trap.Truncated || trap.Transport != futago.TransportTLS || trap.Source != r.Source || trap.Kind != futago.KindSyslog {
		t.Errorf("%+v", trap)
	}
}

// TestDecode_AgreesWithAnotherParser compares valid RFC 5424 messages with what
// an independent parser makes of them.
func TestDecode_AgreesWithAnotherParser(t *testing.T) {
	field := func(most int) *rapid.Generator[string] {
		return rapid.OneOf(rapid.Just("-"), rapid.StringMatching(fmt.Sprintf(`[!-~]{1,%d}`, most)))
	}
	name := rapid.StringMatching(`[A-Za-z0-9@.\-]{1,32}`)
	value := rapid.Map(rapid.StringMatching(`[ -~あ-ん]{0,20}`), func(s string) string {
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(s)
	})
	param := rapid.Custom(func(t *rapid.T) string { return ` ` + name.Draw(t, "name") + `="` + value.Draw(t, "value") + `"` })
	element := rapid.Custom(func(t *rapid.T) string {
		return "[" + name.Draw(t, "id") + strings.Join(rapid.SliceOfN(param, 0, 4).Draw(t, "params"), "") + "]"
	})
	other := leodido.NewParser()
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		sd := strings.Join(rapid.SliceOfNDistinct(element, 0, 3, func(s string) string {
			return s[:strings.IndexAny(s, " ]")]
		}).Draw(t, "elements"), "")
		if sd == "" {
			sd = "-"
		}
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), int64(rapid.IntRange(0, 999999).Draw(t, "micro"))*1000).
			In(time.FixedZone("", rapid.IntRange(-12, 14).Draw(t, "zone")*3600))
		stamp := rapid.SampledFrom([]string{"-", at.Format("2006-01-02T15:04:05.999999Z07:00")}).Draw(t, "stamp")
		msg := rapid.OneOf(rapid.Just(""), rapid.Map(rapid.StringMatching(`[ -~あ-ん\n\t]{0,60}`), func(s string) string { return " " + s })).Draw(t, "message")
		raw := fmt.Sprintf("<%d>1 %s %s %s %s %s %s%s", rapid.IntRange(0, 191).Draw(t, "pri"), stamp,
			field(255).Draw(t, "host"), field(48).Draw(t, "app"), field(128).Draw(t, "procid"), field(32).Draw(t, "msgid"), sd, msg)
		m, err := other.Parse([]byte(raw))
		if err != nil {
			t.Skip(err)
		}
		compared++
		want := m.(*leodido.SyslogMessage)
		text := func(s *string) string {
			if s == nil {
				return ""
			}
			return *s
		}
		got, _ := Decode(received(raw), nil)
		if got.Problem != "" || !got.Parsed || got.Syslog.Format != "rfc5424" {
			t.Fatalf("%q: problem %q, parsed %v, %+v", raw, got.Problem, got.Parsed, got.Syslog)
		}
		f := got.Syslog
		type fields struct{ pri, host, app, procID, msgID, message string }
		g := fields{fmt.Sprint(int(f.Facility)*8 + int(got.Severity)), got.Host, f.App, f.ProcID, f.MsgID, got.Message}
		w := fields{
			fmt.Sprint(*want.Priority), text(want.Hostname), text(want.Appname), text(want.ProcID), text(want.MsgID),
			strings.TrimRight(text(want.Message), "\n"),
		}
		if g != w {
			t.Fatalf("%q:\n got %+v\nwant %+v", raw, g, w)
		}
		if want.Timestamp != nil && !f.Timestamp.Equal(*want.Timestamp) || want.Timestamp == nil && !f.Timestamp.IsZero() {
			t.Fatalf("%q: time %s, want %v", raw, f.Timestamp, want.Timestamp)
		}
		data := map[string]map[string]string{}
		for _, e := range f.StructuredData {
			data[e.ID] = map[string]string{}
			for _, p := range e.Params {
				data[e.ID][p.Name] = p.Value
			}
		}
		var wantData map[string]map[string]string
		if want.StructuredData != nil {
			wantData = *want.StructuredData
		}
		if d := cmp.Diff(wantData, data, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("%q: structured data\n%s", raw, d)
		}
	})
	if compared < 20 {
		t.Errorf("only %d messages compared", compared)
	}
}

func FuzzDecode(f *testing.F) {
	for _, file := range corpusFiles(f) {
		for _, line := range corpus(f, file) {
			f.Add([]byte(unescape(f, line)), "")
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, set string) {
		r := received(string(raw))
		s := &futago.IntakeSettings{TimeZone: "Asia/Tokyo", Sources: []futago.SourceRule{{Source: netip.MustParsePrefix("0.0.0.0/0"), Charset: set}}}
		trap, key := Decode(r, s)
		if !slices.Equal(trap.Raw, raw) {
			t.Fatalf("raw changed to %q", trap.Raw)
		}
		texts := []string{trap.Message, trap.Host, trap.Problem}
		if trap.Parsed {
			q := trap.Syslog
			texts = append(texts, q.Time, q.App, q.ProcID, q.MsgID, q.Sequence)
			for _, e := range q.StructuredData {
				texts = append(texts, e.ID)
				for _, p := range e.Params {
					texts = append(texts, p.Name, p.Value)
				}
			}
			if q.Facility > 23 || trap.Severity > 7 || q.Format == "" {
				t.Errorf("%+v", q)
			}
		} else if trap.Problem == "" || trap.Syslog != nil {
			t.Errorf("unparsed with problem %q and fields %v", trap.Problem, trap.Syslog)
		}
		for _, s := range texts {
			if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
				t.Errorf("%q is no valid UTF-8 without NUL", s)
			}
		}
		if _, again := Decode(r, nil); again != key {
			t.Error("key depends on settings")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct{ name, raw string }{
		{"rfc3164", "<86>Mar  1 18:46:11 host01 sshd[2213]: Accepted publickey for root from 192.0.2.10 port 50522 ssh2"},
		{"rfc5424", `<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 - An application event log entry of usual length`},
		{"rfc5424-sd", `<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] An application event log entry`},
		{"cisco", "<189>123: router1: *Mar  1 18:46:11.123 UTC: %SYS-5-CONFIG_I: Configured from console by vty0 (10.0.0.1)"},
		{"utf-8", "<13>Mar  1 18:46:11 host01 app[1]: ディスク使用率が閾値を超過しました (92%)"},
		{"shift_jis", "<13>Mar  1 18:46:11 host01 app[1]: \x8f\xe1\x8aQ\x82\xaa\x94\xad\x90\xb6\x82\xb5\x82\xdc\x82\xb5\x82\xbd"},
		{"bare", "<13>just some text of the usual length for a message without a header"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := received(c.raw)
			b.ReportAllocs()
			for b.Loop() {
				if trap, _ := Decode(r, tokyo); !trap.Parsed {
					b.Fatal(trap.Problem)
				}
			}
		})
	}
	b.Run("peer/leodido-rfc5424", func(b *testing.B) {
		p := leodido.NewParser()
		raw := []byte(`<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 - An application event log entry of usual length`)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Parse(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
