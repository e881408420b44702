package syslog

import (
	"net/netip"
	"strings"
)

// parse3164 reads a message of RFC 3164 or of the many forms near it, from at
// on. It returns false when there is no part of a header at all.
func (p *parser) parse3164(at int) bool {
	s := p.s
	p.format = formatBare
	start := at
	at = skipSpaces(s, at)

	if d := p.dateAt(at); d.shape {
		p.afterDate(p.takeDate(at, d))
	} else if n := p.ciscoPrefix(at); n > 0 {
		p.afterDate(n)
	} else if !p.withoutDate(at) {
		// The whole is content. Spaces in front of it are part of it.
		p.body = span{start, len(s)}
		p.message = p.body
		return p.pri
	}
	if !p.time.empty() || !p.host.empty() {
		p.format = formatRFC3164
	}
	return true
}

// dateAt reads a date, which Meraki devices put behind a version number.
func (p *parser) dateAt(at int) date {
	d := parseDate(p.s[at:])
	if !d.shape && strings.HasPrefix(p.s[at:], "1 ") {
		if e := parseDate(p.s[at+2:]); e.isEpoch {
			e.size += 2
			return e
		}
	}
	if d.isEpoch {
		return date{} // a bare number is no time
	}
	return d
}

// takeDate keeps a date and returns where it ends.
func (p *parser) takeDate(at int, d date) int {
	p.when = d
	p.time = span{at, at + d.size}
	if d.isEpoch {
		p.time.from += 2
	}
	return at + d.size
}

// ciscoPrefix reads what Cisco devices put before and with the time: a message
// counter, the name or address of the device, a sequence number, each with a
// colon, then the time and a colon. IOS XR writes the name of a card before
// the time. It returns where the time ends, 0 when the message has no such form.
func (p *parser) ciscoPrefix(at int) int {
	s := p.s
	var sequence, host span
	counted := false
	i := at
	for range 5 {
		j := i
		for j < len(s) && j-i < 64 && s[j] > ' ' && s[j] != ':' {
			j++
		}
		if j >= len(s) || s[j] != ':' && s[j] != ' ' {
			return 0
		}
		t := span{i, j}
		switch {
		case s[j] == ' ' && host.empty() && counted && isHost(s[i:j]):
			host = t // "123: router1 RP/0/RSP0/CPU0:Mar  1 …"
		case s[j] == ' ':
			return 0
		case t.empty():
			counted = true // NX-OS begins with a colon
		case digits(s, i) == j-i:
			sequence = t
			counted = true
		case strings.IndexByte(s[i:j], '/') >= 0 && counted:
			// The card, as in RP/0/RSP0/CPU0.
		case host.empty() && isHost(s[i:j]):
			host = t
		default:
			return 0
		}
		i = skipSpaces(s, j+1)
		d := parseDate(s[i:])
		colon := d.shape && strings.HasPrefix(s[i+d.size:], ":")
		if d.shape && !d.isEpoch && (counted || colon) {
			p.sequence, p.host = sequence, host
			return p.takeDate(i, d)
		}
		if strings.HasPrefix(s[i:], "%") && counted {
			// No time at all: 123: %SYS-5-CONFIG_I: …
			p.sequence, p.host = sequence, host
			return i
		}
	}
	return 0
}

// afterDate reads host and content behind a time.
func (p *parser) afterDate(at int) {
	s := p.s
	if at < len(s) && s[at] == ':' {
		// "time: %ASA-6-…": the device gave its name before the time or not at all.
		p.content(skipSpaces(s, at+1))
		return
	}
	at = skipSpaces(s, at)
	if strings.HasPrefix(s[at:], ": ") { // IOS XR
		p.content(skipSpaces(s, at+2))
		return
	}
	if !p.host.empty() || at < len(s) && s[at] == '%' {
		p.content(at)
		return
	}
	p.content(p.hostAt(at))
}

// hostAt reads the host, where there is one, and returns where content begins.
func (p *parser) hostAt(at int) int {
	s := p.s
	if n := p.forwarded(at); n > 0 {
		return n
	}
	for _, repeat := range [...]string{"last message repeated", "message repeated", "--- last message repeated"} {
		if strings.HasPrefix(s[at:], repeat) {
			return at
		}
	}
	end := at
	for end < len(s) && s[end] > ' ' {
		end++
	}
	if end == len(s) {
		return at // a single word is the message
	}
	name := s[at:end]
	if strings.HasSuffix(name, ":") {
		bare := name[:len(name)-1]
		next := skipSpaces(s, end)
		// "10.0.0.1: text" and "router1: %SYS-5-…": a host with a colon.
		if isAddress(bare) || isHost(bare) && strings.HasPrefix(s[next:], "%") {
			p.host = span{at, end - 1}
			return next
		}
		return at // a tag
	}
	if !isHost(name) {
		return at
	}
	p.host = span{at, end}
	next := end
	for next < len(s) && (s[next] == ' ' || s[next] == '\t') {
		next++
	}
	if strings.HasPrefix(s[next:], ": ") {
		next = skipSpaces(s, next+2) // Cisco ASA: "fw1 : %ASA-6-…"
	}
	if n := p.forwarded(next); n > 0 {
		return n
	}
	// A relay put a header before that of the device.
	if seq := digits(s, next); seq > 0 && strings.HasPrefix(s[next+seq:], ": ") {
		inner := skipSpaces(s, next+seq+2)
		if d := parseDate(s[inner:]); d.shape && !d.isEpoch && strings.HasPrefix(s[inner+d.size:], ":") {
			p.sequence = span{next, next + seq}
			return skipSpaces(s, p.takeDate(inner, d)+1)
		}
	}
	return next
}

// forwarded reads AIX's "Message forwarded from host: ", whose host is the
// one that the message is from.
func (p *parser) forwarded(at int) int {
	const mark = "Message forwarded from "
	if !strings.HasPrefix(p.s[at:], mark) {
		return 0
	}
	from := at + len(mark)
	i := strings.Index(p.s[from:], ": ")
	if i <= 0 || !isHost(p.s[from:from+i]) {
		return 0
	}
	p.host = span{from, from + i}
	return from + i + 2
}

// withoutDate recognises what a message without a time says about itself: a
// host before a tag with a process id, a host name of a known form before any
// tag, or a tag that no plain text has.
func (p *parser) withoutDate(at int) bool {
	s := p.s
	// NetScreen: "ns204: NetScreen device_id=ns204  [Root]system-…"
	if i := strings.IndexByte(s[at:], ':'); i > 0 && strings.HasPrefix(s[at+i:], ": NetScreen device_id=") && isHost(s[at:at+i]) {
		p.host = span{at, at + i}
		from := at + i + 2
		p.app = span{from, from + len("NetScreen")}
		p.body = span{from, len(s)}
		p.message = p.body
		return true
	}
	if w := p.tagAt(at); w.strong && !w.spaced {
		p.content(at)
		return true
	}
	end := at
	for end < len(s) && s[end] > ' ' {
		end++
	}
	if end == len(s) || !isHost(s[at:end]) || s[end-1] == ':' {
		return p.bareTag(at)
	}
	next := skipSpaces(s, end)
	w := p.tagAt(next)
	named := isAddress(s[at:end]) || strings.IndexByte(s[at:end], '.') > 0
	if w.strong && !w.spaced || named && !w.name.empty() {
		p.host = span{at, end}
		p.content(next)
		return true
	}
	return p.bareTag(at)
}

// bareTag takes a word with a colon at the start of a message that has only a
// PRI for the program's name, and leaves it in the message all the same.
func (p *parser) bareTag(at int) bool {
	if w := p.tagAt(at); p.pri && !w.name.empty() && !w.spaced {
		p.app, p.procID = w.name, w.procID
		p.body = span{at, len(p.s)}
		p.message = p.body
		return true
	}
	return false
}

// isHost reports whether s can be a host name or address. Names in other
// scripts and with underscores are in use, so are F5's "slot1/name" and
// syslog-ng's "source@name".
func isHost(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 0x80, isLetter(c), c-'0' <= 9:
		case c == '-' || c == '.' || c == '_' || i > 0 && (c == '/' || c == '@'):
		case c == ':' || c == '%' || c == '[' || c == ']':
			return isAddress(s)
		default:
			return false
		}
	}
	return true
}

func isAddress(s string) bool {
	if len(s) < 2 {
		return false
	}
	if s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
	}
	// Parsing a name as an address would make an error on the heap.
	if c := s[0]; c-'0' > 9 && strings.IndexByte(s, ':') < 0 {
		return false
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}
