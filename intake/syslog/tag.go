package syslog

import "strings"

// maxTag bounds the name of a program. RFC 3164 has 32 characters; services of
// macOS and Windows have more.
const maxTag = 128

// tag is the name that stands before a message.
type tag struct {
	name, procID, msgID span
	// end is where the text behind the tag begins.
	end int
	// strong says that the form leaves no doubt: there is a process id, or
	// Cisco's per cent sign.
	strong bool
	// keep says that the tag is part of what the device says.
	keep bool
	// spaced says that there are spaces in the name.
	spaced bool
}

// content takes what follows time and host: tag and text. All of it counts for
// the identity.
func (p *parser) content(at int) {
	p.body = span{at, len(p.s)}
	p.message = p.body
	w := p.tagAt(at)
	if w.name.empty() && w.msgID.empty() {
		return
	}
	p.app, p.procID, p.msgID = w.name, w.procID, w.msgID
	if !w.keep {
		p.message.from = w.end
	}
	// Solaris: "[ID 702911 daemon.notice] text"
	if rest := p.s[w.end:]; strings.HasPrefix(rest, "[ID ") {
		if n := digits(rest, 4); n > 0 && strings.HasPrefix(rest[4+n:], " ") && strings.IndexByte(rest, ']') > 0 {
			p.msgID = span{w.end + 4, w.end + 4 + n}
		}
	}
}

// tagAt reads the tag at at. Without one, name is empty.
func (p *parser) tagAt(at int) tag {
	s := p.s
	if at < len(s) && s[at] == '%' {
		return percentTag(s, at)
	}
	end := at
	for end < len(s) && end-at <= maxTag && isTagChar(s[end]) {
		end++
	}
	if end == at || end == len(s) || end-at > maxTag {
		return tag{}
	}
	name := span{at, end}
	switch s[end] {
	case '[':
		if w := withProcID(s, name); w.strong {
			return w
		}
	case ':':
		if !hasLetter(s[at:end]) || !endsTag(s, end+1) {
			return tag{}
		}
		return tag{name: name, end: skipOne(s, end+1), keep: isEventFormat(s[at:end])}
	case '\t':
		// Snare for Windows: fields with tabs between them.
		if s[at:end] == "MSWinEventLog" {
			return tag{name: name, end: end + 1, keep: true}
		}
	case ' ':
		return p.spacedTag(at, end)
	}
	return tag{}
}

// spacedTag reads the forms in which a space stands inside or before the tag.
func (p *parser) spacedTag(at, end int) tag {
	s := p.s
	// HP ProCurve: "00076 ports: port 1 is now on-line".
	if end-at == 5 && digits(s, at) == 5 {
		i := end + 1
		for i < len(s) && isTagChar(s[i]) {
			i++
		}
		if i < len(s) && s[i] == ':' && i > end+1 && endsTag(s, i+1) {
			return tag{name: span{end + 1, i}, msgID: span{at, end}, end: skipOne(s, i+1)}
		}
		return tag{}
	}
	// F5: "notice mcpd[1234]: 01070727:5: …".
	if isSeverity(s[at:end]) {
		i := end + 1
		for i < len(s) && isTagChar(s[i]) {
			i++
		}
		if i < len(s) && s[i] == '[' && i > end+1 {
			return withProcID(s, span{end + 1, i})
		}
		return tag{}
	}
	// macOS: "Google Chrome Helper[123]: text".
	limit := min(len(s), at+64)
	for i := end; i < limit; i++ {
		switch c := s[i]; {
		case c == ' ' || isTagChar(c):
		case c == '[' && s[i-1] != ' ':
			if w := withProcID(s, span{at, i}); w.strong && digits(s, w.procID.from) == w.procID.to-w.procID.from && strings.HasPrefix(s[w.procID.to+1:], ":") {
				w.spaced = true
				return w
			}
			return tag{}
		default:
			return tag{}
		}
	}
	return tag{}
}

// withProcID reads "[1234]: " behind a name.
func withProcID(s string, name span) tag {
	from := name.to + 1
	to := from
	for to < len(s) && to-from <= maxTag && s[to] > ' ' && s[to] != ']' && s[to] != '[' && s[to] < 0x7f {
		to++
	}
	if to == from || to >= len(s) || s[to] != ']' || !hasLetter(s[name.from:name.to]) {
		return tag{}
	}
	w := tag{name: name, procID: span{from, to}, strong: true}
	after := to + 1
	switch {
	case after == len(s):
		w.end = after
	case s[after] == ':':
		w.end = skipOne(s, after+1)
	case s[after] == ' ':
		w.end = after + 1 // macOS: "launchd[1] (com.apple.x): …"
	default:
		return tag{}
	}
	return w
}

// percentTag reads the mnemonics of Cisco (%SYS-5-CONFIG_I:), of Comware and of
// Huawei (%%01SHELL/5/CMD(l)[12]:).
func percentTag(s string, at int) tag {
	end := at
	for end < len(s) && end-at <= maxTag && s[end] > ' ' && s[end] != ':' && s[end] < 0x7f {
		end++
	}
	colon := skipSpaces(s, end)
	if colon >= len(s) || s[colon] != ':' || end-at < 4 || !strings.ContainsAny(s[at:end], "-/") {
		return tag{}
	}
	return tag{name: span{at, end}, end: skipOne(s, colon+1), strong: true, keep: true}
}

func isTagChar(c byte) bool {
	switch c {
	case '-', '_', '.', '/', '@', '+', '%', '#', '$', '(', ')', '*', '!', '~', '=', '&':
		return true
	}
	return isLetter(c) || c-'0' <= 9
}

// endsTag reports whether what stands behind a colon shows that the colon ended
// a tag: not the rest of a URL, of a path or of a time.
func endsTag(s string, i int) bool {
	if i >= len(s) || s[i] == ' ' || s[i] == '\t' {
		return true
	}
	if i >= 5 && (s[i-4:i] == "CEF:" || s[i-5:i] == "LEEF:") {
		return true
	}
	return s[i] != '/' && s[i] != '\\' && s[i] != ':' && s[i]-'0' > 9
}

// isEventFormat names the formats of security products whose name is their
// first field.
func isEventFormat(s string) bool { return s == "CEF" || s == "LEEF" }

func hasLetter(s string) bool {
	for i := range len(s) {
		if isLetter(s[i]) {
			return true
		}
	}
	return false
}

func isSeverity(s string) bool {
	switch s {
	case "emerg", "alert", "crit", "err", "error", "warning", "warn", "notice", "info", "debug":
		return true
	}
	return false
}

// skipOne skips the one space that follows a tag; more are the sender's own.
func skipOne(s string, i int) int {
	if i < len(s) && s[i] == ' ' {
		return i + 1
	}
	return i
}
