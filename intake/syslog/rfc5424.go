package syslog

import (
	"strings"

	"github.com/futago/futago"
)

// parse5424 reads a message of RFC 5424 whose version should stand at at. It
// returns false, having changed nothing, when the message is of another form.
func (p *parser) parse5424(at int) bool {
	s := p.s
	n := digits(s, at)
	if !p.pri || n == 0 || n > 3 || s[at] == '0' || at+n >= len(s) || s[at+n] != ' ' {
		return false
	}
	version := s[at : at+n]
	at += n + 1
	at = skipSpaces(s, at)

	// The time decides: "-", a date, or a word in its place where the rest has
	// the form of this standard.
	stamp := word(s, at)
	when := parseISO(s[stamp.from:stamp.to])
	nil5424 := s[stamp.from:stamp.to] == "-"
	switch {
	case nil5424:
	case when.shape && when.size == stamp.to-stamp.from && when.separator != ' ':
	case looksLike5424(s, stamp.to):
		when = date{shape: true, size: stamp.to - stamp.from}
	default:
		return false
	}
	if version != "1" {
		p.problem("version " + version + " of syslog is unknown")
	}
	if !nil5424 {
		p.time, p.when = stamp, when
		if reason := when.unlike5424(); when.valid && reason != "" {
			p.problem("time stamp has " + reason)
		}
	}
	at = stamp.to
	for _, f := range [...]struct {
		to   *span
		name string
		most int
	}{{&p.host, "host name", 255}, {&p.app, "app-name", 48}, {&p.procID, "procid", 128}, {&p.msgID, "msgid", 32}} {
		next := skipSpaces(s, at)
		if next >= len(s) {
			p.problem("header ends before the " + f.name)
			p.body = span{len(s), len(s)}
			p.message = p.body
			return true
		}
		if next > at+1 {
			p.problem("several spaces before the " + f.name)
		}
		w := word(s, next)
		at = w.to
		if s[w.from:w.to] == "-" {
			continue
		}
		if w.to-w.from > f.most {
			p.problem(f.name + " is too long")
		}
		*f.to = w
	}
	at = skipSpaces(s, at)
	p.parseSD(at)
	return true
}

// parseSD reads structured data and the message after it.
func (p *parser) parseSD(at int) {
	s := p.s
	rest := func(from int) {
		p.body = span{from, len(s)}
		p.message = p.body
		if strings.HasPrefix(s[from:], utf8BOM) {
			p.message.from += len(utf8BOM)
		}
	}
	switch {
	case at >= len(s):
		p.problem("header ends before the structured data")
		rest(len(s))
		return
	case s[at] == '-' && (at+1 == len(s) || s[at+1] == ' '):
		rest(min(at+2, len(s)))
		return
	case s[at] != '[':
		p.problem("no structured data")
		rest(at)
		return
	}
	start := at
	for at < len(s) && s[at] == '[' {
		e, size, reason := parseElement(s[at:])
		if reason != "" {
			p.problem("structured data: " + reason)
			p.sd = span{start, at}
			rest(at)
			return
		}
		p.elements = append(p.elements, e)
		at += size
	}
	p.sd = span{start, at}
	if at < len(s) && s[at] != ' ' {
		p.problem("no space after the structured data")
		rest(at)
		return
	}
	rest(min(at+1, len(s)))
}

// parseElement reads one SD-ELEMENT (RFC 5424 section 6.3.1) from the start of
// s. A reason says why it is none.
func parseElement(s string) (e futago.SDElement, size int, reason string) {
	at := 1
	n := sdName(s[at:])
	if n == 0 {
		return e, 0, "an element has no id"
	}
	e.ID = s[at : at+n]
	at += n
	for {
		if at >= len(s) {
			return e, 0, "an element does not end"
		}
		if s[at] == ']' {
			return e, at + 1, ""
		}
		if s[at] != ' ' {
			return e, 0, "an element has a character in the wrong place"
		}
		at = skipSpaces(s, at)
		if at < len(s) && s[at] == ']' { // a space before the bracket does no harm
			return e, at + 1, ""
		}
		n := sdName(s[at:])
		if n == 0 || !strings.HasPrefix(s[at+n:], `="`) {
			return e, 0, "a parameter is not name=\"value\""
		}
		name := s[at : at+n]
		at += n + 2
		value, n, ok := sdValue(s[at:])
		if !ok {
			return e, 0, "a value does not end"
		}
		at += n
		e.Params = append(e.Params, futago.SDParam{Name: name, Value: value})
	}
}

// sdName returns the length of the SD-NAME at the start of s. Names of more
// than the 32 characters of the standard are taken as they are.
func sdName(s string) int {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '=' || c == ']' || c == '"' || c == 0x7f {
			return i
		}
	}
	return len(s)
}

// sdValue reads a PARAM-VALUE up to and with its closing quote.
func sdValue(s string) (value string, size int, ok bool) {
	i := strings.IndexAny(s, `"\`)
	if i < 0 {
		return "", 0, false
	}
	if s[i] == '"' {
		return s[:i], i + 1, true
	}
	var sb strings.Builder
	for i = 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return sb.String(), i + 1, true
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\' || s[i+1] == ']'):
			i++
			sb.WriteByte(s[i])
		default:
			sb.WriteByte(c)
		}
	}
	return "", 0, false
}

// looksLike5424 reports whether four words and then structured data follow.
func looksLike5424(s string, at int) bool {
	for range 4 {
		at = skipSpaces(s, at)
		w := word(s, at)
		if w.empty() {
			return false
		}
		at = w.to
	}
	at = skipSpaces(s, at)
	return at < len(s) && (s[at] == '[' || s[at] == '-' && (at+1 == len(s) || s[at+1] == ' '))
}

// word returns the characters from at up to the next space.
func word(s string, at int) span {
	if at >= len(s) {
		return span{len(s), len(s)}
	}
	if i := strings.IndexByte(s[at:], ' '); i >= 0 {
		return span{at, at + i}
	}
	return span{at, len(s)}
}

func skipSpaces(s string, at int) int {
	for at < len(s) && s[at] == ' ' {
		at++
	}
	return at
}
