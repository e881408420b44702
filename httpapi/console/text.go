package console

import (
	"fmt"
	"html/template"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/futago/futago"
)

// funcs are what the templates call.
var funcs = template.FuncMap{
	"visible": func(s string) template.HTML { return visible(s, maxField) },
	"line":    func(s string) template.HTML { return visible(s, maxLine) },
	"plain":   plain,
	"raw":     raw,
	"more":    func(b []byte) int { return max(0, len(b)-maxRaw) },
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05.000") },
	"stamp":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") },
	"second":  func(t time.Time) string { return t.UTC().Format(time.DateTime) },
	"size":    size,
	"signed":  func(d futago.Duration) string { return fmt.Sprintf("%+.1f ms", float64(d.D().Microseconds())/1000) },
	"kinds":   func() []string { return []string{"syslog", "snmptrap", "customtrap", "internal"} },
	"severities": func() []string {
		return []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
	},
	"managers": func() []futago.MemberID { return []futago.MemberID{futago.MemberA, futago.MemberB} },
	"group":    group,
}

// How much of a sender's text a page shows, in bytes.
const (
	maxLine  = 400
	maxField = 4 << 10
	maxRaw   = 16 << 10
)

// visible makes text from a sender harmless and readable: HTML is escaped, and
// whatever has no picture of its own, or changes how its neighbours look
// (control characters, bidirectional overrides, invisible ones, bytes that are
// no UTF-8), is shown as a mark. The result is cut at limit bytes of input.
func visible(s string, limit int) template.HTML {
	var b strings.Builder
	b.WriteString("<bdi>")
	plain, end := 0, len(s) // what is between is written as it is
	for i := 0; i < len(s); {
		if i >= limit {
			end = i
			break
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		m := mark(r)
		broken := r == utf8.RuneError && n == 1
		if m != "" || broken {
			b.WriteString(template.HTMLEscapeString(s[plain:i]))
			plain = i + n
		}
		switch {
		case broken:
			fmt.Fprintf(&b, `<span class="ctl">\x%02x</span>`, s[i])
		case m != "":
			fmt.Fprintf(&b, `<span class="ctl" title="U+%04X">%s</span>`, r, m)
		}
		i += n
	}
	b.WriteString(template.HTMLEscapeString(s[plain:end]))
	if end < len(s) {
		b.WriteString("…")
	}
	b.WriteString("</bdi>")
	return template.HTML(b.String()) //nolint:gosec // every part is escaped above
}

// plain is visible for attributes, which hold no elements.
func plain(s string) string {
	var b strings.Builder
	for _, r := range s[:min(len(s), maxLine)] {
		if m := mark(r); m != "" {
			b.WriteString("‹" + m + "›")
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// typed is what a reader filled in, without what cannot be seen in a field.
func typed(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if mark(r) != "" {
			return -1
		}
		return r
	}, s))
}

// controls are the names of the C0 characters (ISO/IEC 6429), in order.
var controls = [...]string{
	"NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "TAB", "LF", "VT", "FF", "CR", "SO", "SI",
	"DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
}

// mark is what stands for a character that must not take effect, "" for others.
func mark(r rune) string {
	switch {
	case r >= 0 && int(r) < len(controls):
		return controls[r]
	case r < 0x7f:
		return ""
	case r == 0x7f:
		return "DEL"
	case unicode.Is(unicode.Variation_Selector, r), !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r):
		return fmt.Sprintf("U+%04X", r) // control, format, private use, not assigned
	}
	return ""
}

// raw shows bytes as they arrived; what is no UTF-8 as \xNN, and each line of
// the sender on a line of its own.
func raw(b []byte) template.HTML {
	s := string(b[:min(len(b), maxRaw)])
	var out strings.Builder
	for i, line := range strings.SplitAfter(s, "\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		out.WriteString(string(visible(line, maxRaw)))
	}
	return template.HTML(out.String()) //nolint:gosec // made of visible's results
}

// size is a number of bytes for people.
func size(v any) string {
	var n float64
	switch x := v.(type) {
	case int64:
		n = float64(x)
	case uint64:
		n = float64(x)
	}
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			if u == "B" {
				return fmt.Sprintf("%.0f B", n)
			}
			return fmt.Sprintf("%.1f %s", n, u)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.1f TiB", n)
}

// group writes a number with narrow spaces between thousands.
func group(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
