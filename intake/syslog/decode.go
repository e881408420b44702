package syslog

import (
	"strings"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/charset"
)

// What a message without a valid PRI counts as: user.notice (RFC 3164 section 4.3.3).
const (
	defaultFacility = 1
	defaultSeverity = futago.SeverityNotice
)

// maxPRI is local7.debug (RFC 5424 section 6.2.1).
const maxPRI = 191

// span is a part of the message, as offsets.
type span struct{ from, to int }

func (s span) empty() bool { return s.from == s.to }

// parser takes one message apart. It works on bytes as they came: which parts
// a message has does not depend on settings, so that both managers make the
// same key of it.
type parser struct {
	// s is the message without the bytes after its end: line ends and NULs.
	s        string
	problems []string
	format   string

	// pri says that there was something in the form of a PRI, hasPRI that it
	// was valid.
	pri, hasPRI bool
	facility    uint8
	severity    futago.Severity

	host, app, procID, msgID, sequence, time span
	when                                     date
	// sd is all the structured data as written.
	sd       span
	elements []futago.SDElement
	// body is what counts for the identity: all after the header.
	body span
	// message is what operators see.
	message span
}

func (p *parser) problem(s string) { p.problems = append(p.problems, s) }

// Decode makes a trap and its key of a received message. It never fails: what
// has no syslog header comes back with Parsed false. The trap's Raw shares
// memory with r.Raw. s may be nil.
//
// Of RFC 3164 messages the key covers the host name as written and all that
// follows it; of RFC 5424 messages all but PRI, version and time; of others
// everything after the PRI. Line ends and NULs at the end do not count, so that
// the transport makes no difference.
//
// Message is text that follows the tag. It keeps the tag where that is part of
// what the device says: Cisco's %FACILITY-SEVERITY-MNEMONIC and its like, and
// a word with a colon in a message without header. NUL characters are shown as
// U+2400 (␀), as many programs take a NUL for the end; all other control
// characters are kept.
func Decode(r *futago.Received, s *futago.IntakeSettings) (futago.Trap, futago.Key) {
	if s == nil {
		s = &noSettings
	}
	t := futago.Trap{
		Kind: futago.KindSyslog, Transport: r.Transport, Source: r.Source,
		Severity: defaultSeverity, Truncated: r.Truncated, Raw: r.Raw,
	}
	end := len(r.Raw)
	for end > 0 && (r.Raw[end-1] == '\n' || r.Raw[end-1] == '\r' || r.Raw[end-1] == 0) {
		end--
	}
	raw := r.Raw[:end]
	p := parser{s: string(raw), severity: defaultSeverity, facility: defaultFacility}
	c := converter{s: p.s, name: charset.Detect(raw, s.Charset(futago.KindSyslog, r.Source.Addr()))}
	c.plain = (c.name == charset.ASCII || c.name == charset.UTF8 && validUTF8(p.s)) && strings.IndexByte(p.s, 0) < 0
	t.Charset = c.name

	if end == 0 {
		t.Problem = "empty message"
		if len(r.Raw) > 0 {
			t.Problem = "nothing but line ends and NUL characters"
			t.Message = c.string(string(r.Raw))
		}
		return t, futago.NewKey(futago.KindSyslog, r.Source.Addr(), r.Raw)
	}
	known := p.parse()
	t.Severity = p.severity
	t.Message = c.text(p.message)
	if !known {
		t.Problem = "no syslog header"
		return t, futago.NewKey(futago.KindSyslog, r.Source.Addr(), nil, raw)
	}
	if !p.pri {
		p.problem("no PRI; taken as user.notice")
	}
	t.Parsed = true
	t.Host = c.text(p.host)
	f := &futago.SyslogFields{
		Format: p.format, Facility: p.facility, HasPRI: p.hasPRI,
		Time: c.text(p.time), App: c.text(p.app), ProcID: c.text(p.procID), MsgID: c.text(p.msgID),
		Sequence: c.text(p.sequence), StructuredData: c.elements(p.elements),
	}
	if p.when.shape {
		var problem string
		f.Timestamp, problem = p.when.resolve(r.At, s.TimeZone)
		if problem != "" {
			p.problem(problem)
		}
	}
	t.Syslog = f
	if len(p.problems) > 0 {
		t.Problem = strings.Join(p.problems, "; ")
	}
	part := func(s span) []byte { return raw[s.from:s.to] }
	var key futago.Key
	if p.format == formatRFC5424 {
		key = futago.NewKey(futago.KindSyslog, r.Source.Addr(),
			part(p.host), part(p.app), part(p.procID), part(p.msgID), part(p.sd), part(p.body))
	} else {
		key = futago.NewKey(futago.KindSyslog, r.Source.Addr(), part(p.host), part(p.body))
	}
	return t, key
}

// noSettings stands in for settings that are not there; it is never changed.
var noSettings futago.IntakeSettings

// The values of SyslogFields.Format.
const (
	formatRFC5424 = "rfc5424"
	formatRFC3164 = "rfc3164"
	formatBare    = "bare"
)

// parse fills p and reports whether anything of a syslog header was there.
func (p *parser) parse() bool {
	at := p.parsePRI()
	p.body = span{at, len(p.s)}
	p.message = p.body
	if p.parse5424(at) {
		p.format = formatRFC5424
		return true
	}
	return p.parse3164(at)
}

// parsePRI reads the PRI and returns where it ends, 0 when there is none.
func (p *parser) parsePRI() int {
	s := p.s
	at := 0
	if strings.HasPrefix(s, utf8BOM) {
		at = len(utf8BOM)
	}
	for at < len(s) && (s[at] == ' ' || s[at] == '\t' || s[at] == '\n' || s[at] == '\r') {
		at++
	}
	// A sender that counts octets, on a transport where there is no need.
	if n := digits(s, at); n > 0 && n < 8 && strings.HasPrefix(s[at+n:], " <") && digits(s, at+n+2) > 0 {
		at += n + 1
		p.problem("octet count before the message")
	}
	if at >= len(s) || s[at] != '<' {
		return 0
	}
	n := digits(s, at+1)
	if n == 0 || n > 9 || at+1+n >= len(s) || s[at+1+n] != '>' {
		return 0
	}
	v := 0
	for _, c := range s[at+1 : at+1+n] {
		v = v*10 + int(c-'0')
	}
	p.pri = true
	if v > maxPRI {
		p.problem("PRI " + s[at+1:at+1+n] + " is above 191; taken as user.notice")
	} else {
		p.hasPRI = true
		p.facility, p.severity = uint8(v>>3), futago.Severity(v&7)
		if n > 1 && s[at+1] == '0' {
			p.problem("PRI with leading zeros")
		}
	}
	return at + n + 2
}

// digits returns how many decimal digits stand at i.
func digits(s string, i int) int {
	n := 0
	for i+n < len(s) && s[i+n]-'0' <= 9 {
		n++
	}
	return n
}
