package syslog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// frames feeds data in pieces of the given size and returns the messages; those
// that were cut have a ✂ behind them.
func frames(f *framer, data string, piece int, end ending) []string {
	var got []string
	collect := func(e ending) {
		for {
			m, cut, ok := f.next(e)
			if !ok {
				return
			}
			s := string(m)
			if cut {
				s += "✂"
			}
			got = append(got, s)
		}
	}
	for len(data) > 0 {
		n := copy(f.space(), data[:min(piece, len(data))])
		f.advance(n)
		data = data[n:]
		collect(more)
	}
	collect(end)
	return got
}

func TestFramer(t *testing.T) {
	long := strings.Repeat("x", 30)
	for _, c := range []struct {
		name, data string
		want       []string
		faults     uint64
		discarded  uint64
		broken     bool
	}{
		{name: "lines", data: "<1>a\n<2>b\n", want: []string{"<1>a", "<2>b"}},
		{name: "CR LF", data: "<1>a\r\n<2>b\r\n", want: []string{"<1>a", "<2>b"}},
		{name: "CR inside", data: "<1>a\rb\n", want: []string{"<1>a\rb"}},
		{name: "NUL", data: "<1>a\x00<2>b\x00", want: []string{"<1>a", "<2>b"}},
		{name: "LF NUL and NUL LF", data: "<1>a\n\x00<2>b\x00\n<3>c\n", want: []string{"<1>a", "<2>b", "<3>c"}},
		{name: "empty lines", data: "\n\n<1>a\n\r\n<2>b\n", want: []string{"<1>a", "<2>b"}},
		{name: "no end", data: "<1>a\n<2>b", want: []string{"<1>a", "<2>b"}},
		{name: "broken off", data: "<1>a\n<2>b", want: []string{"<1>a", "<2>b✂"}, broken: true},
		{name: "counted", data: "4 <1>a5 <2>bc", want: []string{"<1>a", "<2>bc"}},
		{name: "counted with LF inside", data: "9 <1>a\nb\n\nc4 <2>d", want: []string{"<1>a\nb\n\nc", "<2>d"}},
		{name: "counted with LF between", data: "4 <1>a\n4 <2>b\n", want: []string{"<1>a", "<2>b"}},
		{name: "counted with NUL inside", data: "6 <1>a\x00b4 <2>c", want: []string{"<1>a\x00b", "<2>c"}},
		{name: "counted, then without PRI", data: "4 <1>a5 plain", want: []string{"<1>a", "plain"}},
		{name: "counted and cut off", data: "4 <1>a9 <2>b", want: []string{"<1>a", "<2>b✂"}},
		{name: "counted, then lines", data: "4 <1>a<2>b\n<3>c\n", want: []string{"<1>a", "<2>b", "<3>c"}, faults: 2},
		{name: "lines, then counted", data: "<1>a\n4 <2>b4 <3>c", want: []string{"<1>a", "<2>b", "<3>c"}},
		// The sender counts characters: each é has two bytes.
		{name: "counts too small", data: "6 <1>éé7 <2>abcd", want: []string{"<1>éé"[:6], "é"[1:], "<2>abcd"}, faults: 1},
		{
			name: "digits that are no count", data: "2024-03-01 a\n12 monkeys\n5 <errors> found\n007 <1>x\n123456789 <1>y\n7\n",
			want: []string{"2024-03-01 a", "12 monkeys", "5 <errors> found", "007 <1>x", "123456789 <1>y", "7"},
		},
		{name: "line of the limit", data: "<1>" + long[:17] + "\n<2>" + long[:17] + "\r\n", want: []string{"<1>" + long[:17], "<2>" + long[:17]}},
		{name: "line above the limit", data: "<1>" + long + "\n<2>b\n", want: []string{"<1>" + long[:17] + "✂", "<2>b"}, discarded: 13},
		{name: "counted of the limit", data: "20 <1>" + long[:17] + "4 <2>b", want: []string{"<1>" + long[:17], "<2>b"}},
		{name: "counted above the limit", data: "33 <1>" + long + "4 <2>b", want: []string{"<1>" + long[:17] + "✂", "<2>b"}, discarded: 13},
		{name: "too long without end", data: "<1>" + long + long, want: []string{"<1>" + long[:17] + "✂"}, discarded: 43},
		{
			name: "wrong count, then too long, then right", data: "4 <1>a" + long + "4 <2>b4 <3>c", want: []string{"<1>a", long[:20] + "✂", "<2>b", "<3>c"},
			faults: 1, discarded: 10,
		},
		{name: "nothing", data: "", want: nil},
		{name: "only ends", data: "\n\x00\r\n", want: nil},
	} {
		for _, piece := range []int{1, 2, 3, 7, 1000} {
			t.Run(fmt.Sprintf("%s/%d", c.name, piece), func(t *testing.T) {
				f := framer{max: 20}
				end := ended
				if c.broken {
					end = broken
				}
				got := frames(&f, c.data, piece, end)
				if d := cmp.Diff(c.want, got); d != "" {
					t.Error(d)
				}
				if f.faults != c.faults || f.discarded != c.discarded {
					t.Errorf("faults %d, discarded %d; want %d, %d", f.faults, f.discarded, c.faults, c.discarded)
				}
			})
		}
	}
}

// A NUL in the middle of text is part of it, where pieces do not end with it.
func TestFramer_NULInside(t *testing.T) {
	f := framer{max: 100}
	got := frames(&f, "<1>a\x00b\n<2>c\n", 1000, ended)
	if d := cmp.Diff([]string{"<1>a\x00b", "<2>c"}, got); d != "" {
		t.Error(d)
	}
}

func TestFramer_LongMessages(t *testing.T) {
	f := framer{max: 1 << 20}
	big := "<1>" + strings.Repeat("y", 1<<20-3)
	data := big + "\n" + fmt.Sprintf("%d %s", len(big), big) + "<2>b\n"
	got := frames(&f, data, 1000, ended)
	if len(got) != 3 || got[0] != big || got[1] != big || got[2] != "<2>b" {
		t.Fatalf("%d messages", len(got))
	}
	if len(f.buf) > 1<<20+64<<10 {
		t.Errorf("buffer of %d bytes", len(f.buf))
	}
	f.space()
	if len(f.buf) > frameBufferFull {
		t.Errorf("buffer of %d bytes is kept", len(f.buf))
	}
}

// TestFramer_AnyPieces: what comes out does not depend on how TCP cuts the
// stream, and is what went in.
func TestFramer_AnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counted := rapid.Bool().Draw(t, "counted")
		body := rapid.StringMatching(`[ -~あé]{0,40}`)
		if counted {
			body = rapid.StringMatching(`[ -~あé\n\r]{0,40}`)
		}
		ms := rapid.SliceOfN(rapid.Map(body, func(s string) string { return "<13>" + s }), 0, 20).Draw(t, "messages")
		var data bytes.Buffer
		for _, m := range ms {
			if counted {
				fmt.Fprintf(&data, "%d %s", len(m), m)
			} else {
				data.WriteString(m + rapid.SampledFrom([]string{"\n", "\r\n", "\n\x00"}).Draw(t, "end"))
			}
		}
		f := framer{max: 300}
		var got []string
		rest := data.Bytes()
		for len(rest) > 0 {
			n := min(rapid.IntRange(1, 50).Draw(t, "piece"), len(rest))
			n = copy(f.space(), rest[:n])
			f.advance(n)
			rest = rest[n:]
			for {
				m, cut, ok := f.next(more)
				if !ok {
					break
				}
				if cut {
					t.Fatalf("%q was cut", m)
				}
				got = append(got, string(m))
			}
		}
		if len(got) != len(ms) {
			t.Fatalf("%d messages, want %d", len(got), len(ms))
		}
		for i := range ms {
			if got[i] != ms[i] {
				t.Fatalf("message %d is %q, want %q", i, got[i], ms[i])
			}
		}
	})
}

// FuzzFramer: no input makes it panic, hang or keep more than its limit, and
// every byte is accounted for but ends and counts.
func FuzzFramer(f *testing.F) {
	f.Add([]byte("<1>a\n<2>b\x00"), uint16(3))
	f.Add([]byte("4 <1>a5 <2>bc<3>\n"), uint16(1))
	f.Add([]byte("4 <1>axxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx9 <1>"), uint16(5))
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		fr := framer{max: 64}
		total := uint64(0)
		for _, m := range frames(&fr, string(data), max(1, int(piece)), ended) {
			m = strings.TrimSuffix(m, "✂")
			if len(m) > 64 {
				t.Fatalf("message of %d bytes", len(m))
			}
			total += uint64(len(m))
		}
		if total+fr.discarded > uint64(len(data)) {
			t.Fatalf("%d bytes out of %d", total+fr.discarded, len(data))
		}
		lost := uint64(len(data)) - total - fr.discarded
		ends := uint64(0)
		for _, c := range data {
			if c == '\n' || c == '\r' || c == 0 || c == ' ' || c-'0' <= 9 {
				ends++
			}
		}
		if lost > ends+keepBack {
			t.Fatalf("%d bytes vanished, at most %d may", lost, ends)
		}
		if len(fr.buf) > frameBufferFull {
			t.Fatalf("buffer of %d bytes", len(fr.buf))
		}
	})
}

func BenchmarkFramer(b *testing.B) {
	for _, c := range []struct{ name, msg string }{
		{"lines", "<86>Mar  1 18:46:11 host01 sshd[2213]: Accepted publickey for root from 192.0.2.10 port 50522 ssh2\n"},
		{"counted", "98 <86>Mar  1 18:46:11 host01 sshd[2213]: Accepted publickey for root from 192.0.2.10 port 50522 ssh2"},
	} {
		b.Run(c.name, func(b *testing.B) {
			stream := []byte(strings.Repeat(c.msg, 1000))
			f := framer{max: DefaultMaxMessage}
			b.SetBytes(int64(len(c.msg)))
			b.ReportAllocs()
			n := 0
			for n < b.N {
				rest := stream
				for len(rest) > 0 {
					k := copy(f.space(), rest)
					f.advance(k)
					rest = rest[k:]
					for {
						if _, _, ok := f.next(more); !ok {
							break
						}
						n++
					}
				}
			}
		})
	}
}
