package customtrap

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/futago/futago"
)

var testSource = netip.MustParseAddrPort("192.0.2.7:40000")

func received(raw string) *futago.Received {
	return &futago.Received{
		Kind: futago.KindCustomTrap, Transport: futago.TransportHTTP, Source: testSource, Raw: []byte(raw),
	}
}

func TestParseDate(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ in, want string }{
		{"2026-03-01 12:34:56", "2026-03-01T03:34:56Z"},
		{"2026-03-01 12:34:56.7", "2026-03-01T03:34:56.7Z"},
		{"2026-03-01 12:34:56,789", "2026-03-01T03:34:56.789Z"},
		{"2026-03-01 12:34:56.123456789", "2026-03-01T03:34:56.123456789Z"},
		{" 2026-03-01 12:34:56 ", "2026-03-01T03:34:56Z"},
		{"2026-03-01 12:34:56Z", "2026-03-01T12:34:56Z"},
		{"2026-03-01 12:34:56 UTC", "2026-03-01T12:34:56Z"},
		{"2026-03-01 12:34:56 GMT", "2026-03-01T12:34:56Z"},
		{"2026-03-01 12:34:56 JST", "2026-03-01T03:34:56Z"},
		{"2026-03-01 12:34:56+02:00", "2026-03-01T10:34:56Z"},
		{"2026-03-01 12:34:56.5 +0200", "2026-03-01T10:34:56.5Z"},
		{"2026-03-01 12:34:56 -05", "2026-03-01T17:34:56Z"},
		{"2026-03-01T12:34:56Z", "2026-03-01T12:34:56Z"},
		{"2026-03-01T12:34:56.25-08:00", "2026-03-01T20:34:56.25Z"},
		{"2026-03-01T12:34:56", "2026-03-01T03:34:56Z"},
		{"", "0001-01-01T00:00:00Z"},
		{"2026-03-01", ""},
		{"2026-02-30 00:00:00", ""},
		{"2026-03-01 24:00:00", ""},
		{"2026-03-01 12:34", ""},
		{"01.03.2026 12:34:56", ""},
		{"2026-03-01 12:34:56 CET", ""},
		{"2026-03-01 12:34:56 +9 hours", ""},
		{"0000-01-01 00:00:00", ""},
		{"now", ""},
	} {
		at, ok := parseDate(c.in, tokyo)
		if got := at.UTC().Format(time.RFC3339Nano); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%q: %s, %v, want %s", c.in, got, ok, c.want)
		}
	}
}

func TestIsNumber(t *testing.T) {
	for in, want := range map[string]bool{
		"0": true, "-1": true, "+1.5": true, ".5": true, "5.": true, "1e9": true, "1E-9": true, " 12\n": true,
		"": false, "1 2": false, "0x10": false, "NaN": false, "Infinity": false, "1e999": false, "1_000": false,
		"1,5": false, "abc": false, ".": false, "e5": false, "１": false,
	} {
		if isNumber(in) != want {
			t.Errorf("%q: %v", in, !want)
		}
	}
}

func TestDecode(t *testing.T) {
	settings := &futago.IntakeSettings{TimeZone: "Asia/Tokyo"}
	var d Decoder
	raw := `{"DATA":[{"DATE":"2026-03-01 12:34:56","KEY":"温度","MSG":"41.5","TYPE":"NUM"}],"FacilityID":"rack1"}`
	trap, key := d.Decode(received(raw), settings)
	at, err := time.Parse(time.RFC3339, "2026-03-01T12:34:56+09:00")
	if err != nil {
		t.Fatal(err)
	}
	want := futago.Trap{
		Kind: futago.KindCustomTrap, Transport: futago.TransportHTTP, Source: testSource, Severity: futago.SeverityNotice,
		Parsed: true, Charset: "utf-8", Message: "温度=41.5", Raw: []byte(raw),
		Custom: &futago.CustomFields{
			FacilityID: "rack1", Date: "2026-03-01 12:34:56", Timestamp: at, Type: "NUM", Key: "温度", Msg: "41.5",
		},
	}
	opt := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, trap, opt); diff != "" {
		t.Error(diff)
	}
	if _, again := Decode(received(raw), &futago.IntakeSettings{}); again != key {
		t.Error("the key depends on the settings")
	}
	other := strings.Replace(raw, "rack1", "rack2", 1)
	if _, k := d.Decode(received(other), settings); k == key {
		t.Error("the facility is not in the key")
	}
}

func TestDecode_UnknownZone(t *testing.T) {
	settings := &futago.IntakeSettings{TimeZone: "Nowhere/Atall"}
	for date, problem := range map[string]bool{
		"2026-03-01 12:34:56": true, "2026-03-01 12:34:56 +09:00": false, "2026-03-01T12:34:56Z": false, "": false,
	} {
		trap, _ := Decode(received(`{"DATA":[{"DATE":"`+date+`","KEY":"k","MSG":"m","TYPE":"STRING"}]}`), settings)
		if !trap.Parsed || (trap.Problem != "") != problem {
			t.Errorf("%q: parsed %v, problem %q", date, trap.Parsed, trap.Problem)
		}
	}
}

func TestDecode_NotReadable(t *testing.T) {
	for _, raw := range []string{
		"", "no json", `[]`, `{}`, "\xff\xfe", `{"DATA":[]}`,
		`{"DATA":[{"KEY":"k","MSG":"m","TYPE":"STRING"},{"KEY":"k","MSG":"m","TYPE":"STRING"}]}`,
	} {
		trap, _ := Decode(received(raw), &futago.IntakeSettings{})
		if trap.Parsed || trap.Problem == "" || trap.Custom != nil || !utf8.ValidString(trap.Message) {
			t.Errorf("%q: %+v", raw, trap)
		}
	}
}

// Every body that is accepted makes records that decode to the same fields, and
// a record made from a record is the same bytes.
func TestCanonical_RoundTrip(t *testing.T) {
	text := rapid.String()
	rapid.Check(t, func(t *rapid.T) {
		e := map[string]any{
			"TYPE": "STRING", "KEY": rapid.StringN(1, 20, -1).Draw(t, "key"), "MSG": text.Draw(t, "msg"),
			"extra " + text.Draw(t, "name"): []any{text.Draw(t, "value"), 1.5, nil, map[string]any{"b": 1, "a": true}},
		}
		if rapid.Bool().Draw(t, "num") {
			e["TYPE"], e["MSG"] = "NUM", rapid.Float64().Draw(t, "number")
		}
		if rapid.Bool().Draw(t, "date") {
			e["DATE"] = "2026-03-01 12:34:56"
		}
		raw, err := json.Marshal(map[string]any{"FacilityID": rapid.StringN(0, 20, 80).Draw(t, "facility"), "DATA": []any{e}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseBody(raw, time.UTC)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		recs, err := records(&b, *received(""))
		if err != nil {
			t.Fatal(err)
		}
		trap, _ := Decode(&recs[0], &futago.IntakeSettings{})
		got := *trap.Custom
		want := futago.CustomFields{
			FacilityID: b.facility, Date: b.elements[0].date, Timestamp: b.elements[0].at,
			Type: b.elements[0].typ, Key: b.elements[0].key, Msg: b.elements[0].msg,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		again, err := parseBody(recs[0].Raw, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		second, err := records(&again, *received(""))
		if err != nil || string(second[0].Raw) != string(recs[0].Raw) {
			t.Fatalf("%s\nbecame %s (%v)", recs[0].Raw, second[0].Raw, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, c := range malformed {
		f.Add([]byte(c.body))
	}
	f.Add([]byte(`{"DATA":[{"DATE":"2026-03-01 12:34:56.7 +09:00","KEY":"温度","MSG":4.15e1,"TYPE":"NUM","x":[{}]}],"FacilityID":"r"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		trap, key := Decode(received(string(raw)), &futago.IntakeSettings{TimeZone: "Asia/Tokyo"})
		if trap.Parsed != (trap.Custom != nil) || !trap.Parsed && trap.Problem == "" {
			t.Errorf("%+v", trap)
		}
		if !utf8.ValidString(trap.Message) || !utf8.ValidString(trap.Problem) {
			t.Error("text is not UTF-8")
		}
		if _, again := Decode(received(string(raw)), &futago.IntakeSettings{}); again != key {
			t.Error("the key changes")
		}
		b, err := parseBody(raw, time.UTC)
		if err != nil {
			return
		}
		recs, err := records(&b, *received(""))
		if err != nil {
			return
		}
		for i := range recs {
			if trap, _ := Decode(&recs[i], &futago.IntakeSettings{}); !trap.Parsed {
				t.Errorf("own record %s: %s", recs[i].Raw, trap.Problem)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	r := received(`{"DATA":[{"DATE":"2026-03-01 12:34:56","KEY":"temperature","MSG":"41.5","TYPE":"NUM"}],"FacilityID":"rack1"}`)
	s := &futago.IntakeSettings{TimeZone: "Asia/Tokyo"}
	var d Decoder
	b.ReportAllocs()
	for b.Loop() {
		d.Decode(r, s)
	}
}
