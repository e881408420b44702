package console

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestVisible(t *testing.T) {
	ctl := func(code, name string) string { return `<span class="ctl" title="U+` + code + `">` + name + `</span>` }
	for in, want := range map[string]string{
		"":                "",
		"link down":       "link down",
		"<b>&\"'":         "&lt;b&gt;&amp;&#34;&#39;",
		"\x1b[31m":        ctl("001B", "ESC") + "[31m",
		"a\x00b\x7f":      "a" + ctl("0000", "NUL") + "b" + ctl("007F", "DEL"),
		"\u009b31m":       ctl("009B", "U+009B") + "31m",
		"\u202egnp.exe":   ctl("202E", "U+202E") + "gnp.exe",
		"\u2066x\u2069":   ctl("2066", "U+2066") + "x" + ctl("2069", "U+2069"),
		"a\u200bb\ufeff":  "a" + ctl("200B", "U+200B") + "b" + ctl("FEFF", "U+FEFF"),
		"a\u2028b":        "a" + ctl("2028", "U+2028") + "b",
		"x\xff\xc3y":      `x<span class="ctl">\xff</span><span class="ctl">\xc3</span>y`,
		"\ufffd":          "\ufffd",
		"障害\u3000発生 ディスク": "障害\u3000発生 ディスク",
		"\U000e0041":      ctl("E0041", "U+E0041"),
	} {
		if got := string(visible(in, 100)); got != "<bdi>"+want+"</bdi>" {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	if got := string(visible("1234567890ab", 10)); got != "<bdi>1234567890…</bdi>" {
		t.Errorf("got %s", got)
	}
}

func TestRaw(t *testing.T) {
	got := string(raw([]byte("one\ntwo\xff")))
	want := `<bdi>one<span class="ctl" title="U+000A">LF</span></bdi>` + "\n" + `<bdi>two<span class="ctl">\xff</span></bdi>`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(raw([]byte(strings.Repeat("x", maxRaw+5)))); len(got) != maxRaw+len("<bdi></bdi>") {
		t.Errorf("%d bytes", len(got))
	}
}

// marks are the only elements that visible may make.
var marks = regexp.MustCompile(`</?bdi>|<span class="ctl"( title="U\+[0-9A-F]{4,6}")?>(U\+[0-9A-F]{4,6}|[A-Z0-9]{2,3}|\\x[0-9a-f]{2})</span>`)

// FuzzVisible: whatever a sender writes, no markup of its own comes out, and
// nothing that steers a terminal or the order of the text.
func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "<script>alert(1)</script>", "\x1b]0;x\a", "\u202e", "\xff\xfe", "a\nb", "\U0010ffff", "&lt;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, out := range []string{string(visible(string(b), 1000)), string(raw(b))} {
			rest := strings.ReplaceAll(marks.ReplaceAllString(out, ""), "\n", "")
			if strings.ContainsAny(rest, "<>\"'") {
				t.Errorf("%q gives %q", b, out)
			}
			if !utf8.ValidString(out) {
				t.Errorf("%q gives bytes that are no UTF-8", b)
			}
			for _, r := range rest {
				if unicode.In(r, unicode.C) {
					t.Errorf("%q lets %U through", b, r)
				}
			}
		}
	})
}

func TestLocal(t *testing.T) {
	for in, want := range map[string]string{
		"/":                    "/",
		"/events/7":            "/events/7",
		"/?text=a+b&before=3":  "/?text=a+b&before=3",
		"":                     "/",
		"events":               "/",
		"//evil.example/":      "/",
		"/\\evil.example":      "/",
		"https://evil.example": "/",
		"javascript:alert(1)":  "/",
		"/\t/evil.example":     "/",
		"/%":                   "/",
	} {
		if got := local(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 5 << 30: "5.0 GiB", 3 << 40: "3.0 TiB"} {
		if got := size(in); got != want {
			t.Errorf("%d: got %s, want %s", in, got, want)
		}
	}
	for in, want := range map[uint64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567"} {
		if got := group(in); got != want {
			t.Errorf("%d: got %s, want %s", in, got, want)
		}
	}
}
