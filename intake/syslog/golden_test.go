package syslog

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/futago/futago"
)

var update = flag.Bool("update", false, "write the golden files")

// arrival is when all messages of the tests arrive.
var arrival = time.Date(2024, 3, 1, 9, 46, 12, 0, time.UTC)

func received(raw string) *futago.Received {
	return &futago.Received{
		Seq: 1, At: arrival.UnixNano(), Kind: futago.KindSyslog, Transport: futago.TransportUDP,
		Source: netip.MustParseAddrPort("192.0.2.99:514"), Raw: []byte(raw),
	}
}

var tokyo = &futago.IntakeSettings{TimeZone: "Asia/Tokyo"}

// unescape reads \n, \r, \t, \\ and \xNN of a line of testdata.
func unescape(t testing.TB, line string) string {
	t.Helper()
	var sb strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] != '\\' {
			sb.WriteByte(line[i])
			continue
		}
		i++
		switch line[i] {
		case 'n':
			sb.WriteByte('\n')
		case 'r':
			sb.WriteByte('\r')
		case 't':
			sb.WriteByte('\t')
		case '\\':
			sb.WriteByte('\\')
		case 'x':
			b, err := hex.DecodeString(line[i+1 : i+3])
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			sb.WriteByte(b[0])
			i += 2
		default:
			t.Fatalf("%q: unknown escape", line)
		}
	}
	return sb.String()
}

// corpus returns the lines of one file of testdata as they stand there.
func corpus(t testing.TB, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func corpusFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	return files
}

// result is what stands in a golden file for one line.
type result struct {
	Line     string               `json:"line"`
	Parsed   bool                 `json:"parsed"`
	Problem  string               `json:"problem,omitempty"`
	Severity futago.Severity      `json:"severity"`
	Charset  string               `json:"charset"`
	Host     string               `json:"host,omitempty"`
	Message  string               `json:"message"`
	Syslog   *futago.SyslogFields `json:"syslog,omitempty"`
}

func TestDecode_Golden(t *testing.T) {
	for _, file := range corpusFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var got []result
			for _, line := range corpus(t, file) {
				raw := unescape(t, line)
				trap, _ := Decode(received(raw), tokyo)
				if string(trap.Raw) != raw {
					t.Errorf("%q: raw is %q", line, trap.Raw)
				}
				if !utf8.ValidString(trap.Message) {
					t.Errorf("%q: message %q is no valid UTF-8", line, trap.Message)
				}
				if trap.Parsed != (trap.Syslog != nil) {
					t.Errorf("%q: parsed %v, fields %v", line, trap.Parsed, trap.Syslog)
				}
				got = append(got, result{line, trap.Parsed, trap.Problem, trap.Severity, trap.Charset, trap.Host, trap.Message, trap.Syslog})
			}
			golden := strings.TrimSuffix(file, ".txt") + ".golden.json"
			if *update {
				var sb strings.Builder
				enc := json.NewEncoder(&sb)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				if err := enc.Encode(got); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(sb.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			b, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			var want []result
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			if len(want) != len(got) {
				t.Fatalf("%d lines, golden file has %d; run with -update and look at the difference", len(got), len(want))
			}
			for i := range got {
				if d := cmp.Diff(want[i], got[i]); d != "" {
					t.Errorf("%s\n%s", got[i].Line, d)
				}
			}
		})
	}
}
