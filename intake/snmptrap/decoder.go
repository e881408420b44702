package snmptrap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/charset"
)

// maxVarbinds bounds how many variable bindings of one notification are listed.
// More fit into a datagram only if they are nearly empty. All of them count for
// the key.
const maxVarbinds = 2048

// Options of a [Decoder].
type Options struct {
	// Open returns the text of a secret, unsealing it when it is sealed. Nil
	// takes secrets as they are. It is called from any goroutine.
	Open func(futago.Secret) (string, error)
}

// Decoder decodes notifications. Its methods may be called from any number of
// goroutines. It keeps the keys of the users of the settings last seen.
type Decoder struct {
	opts    Options
	users   atomic.Pointer[userTable]
	usersMu sync.Mutex // held while a table is made

	unparsed, refused atomic.Uint64
}

// New returns a Decoder.
func New(o Options) *Decoder {
	if o.Open == nil {
		o.Open = func(s futago.Secret) (string, error) {
			if s.Sealed() {
				return "", errors.New("the secret is sealed")
			}
			return s.Reveal(), nil
		}
	}
	return &Decoder{opts: o}
}

// table returns the users of s. The receiver and the forwarder may hold
// settings of different age or copies of the same ones, so contents are compared.
func (d *Decoder) table(s *futago.IntakeSettings) *userTable {
	if t := d.users.Load(); t != nil && slices.Equal(t.settings, s.SNMPUsers) {
		return t
	}
	d.usersMu.Lock()
	defer d.usersMu.Unlock()
	before := d.users.Load()
	if before != nil && slices.Equal(before.settings, s.SNMPUsers) {
		return before
	}
	t := newUserTable(s.SNMPUsers, before, d.opts.Open)
	d.users.Store(t)
	return t
}

// Counts returns how many decoded messages could not be read, and how many
// were not accepted because of community, user, digest or key. A caller that
// keeps results does not decode, and so does not count, the same message again.
func (d *Decoder) Counts() (unparsed, unauthenticated uint64) {
	return d.unparsed.Load(), d.refused.Load()
}

// Decode reads a notification. It never fails: what cannot be read or is not
// accepted comes back with Parsed false, or with Problem set where only a
// detail is wrong. The trap shares memory with r.Raw.
//
// The key is made of the version, the community or user, and what the trap
// says: for version 1 enterprise, agent address, generic and specific trap and
// the variable bindings, else the variable bindings without sysUpTime.0 (so
// that snmpTrapOID.0 is in it), and for version 3 the context. Request ids,
// message ids, salts and engine times are not part of it. What was not accepted
// has keys of its own, so that a forgery never meets the real thing.
func (d *Decoder) Decode(r *futago.Received, s *futago.IntakeSettings) (futago.Trap, futago.Key) {
	t := futago.Trap{
		Kind: futago.KindSNMPTrap, Transport: r.Transport, Source: r.Source,
		Severity: futago.SeverityNotice, Truncated: r.Truncated, Raw: r.Raw,
	}
	var m message
	if err := parseMessage(r.Raw, &m); err != nil {
		return d.notParsed(&t, &m, err.Error())
	}
	if m.version == versionV3 {
		return d.decodeV3(&t, &m, s)
	}
	p, err := parsePDU(m.data)
	if err == nil && !p.isNotification() {
		err = fmt.Errorf("%s is no notification", tagName(p.tag))
	}
	if err != nil {
		return d.notParsed(&t, &m, err.Error())
	}
	f := &futago.SNMPFields{Version: versionName(m.version), Community: string(bytes.ToValidUTF8(m.community, []byte("\ufffd")))}
	var problems []string
	if !accepts(s, m.community) {
		d.refused.Add(1)
		problems = append(problems, fmt.Sprintf("community %q is not accepted", m.community))
	}
	d.fill(&t, f, &m, &p, s, problems)
	return t, futago.NewKey(t.Kind, t.Source.Addr(), identity([][]byte{{byte(m.version)}, m.community}, &p)...)
}

// decodeV3 is Decode for version 3.
func (d *Decoder) decodeV3(t *futago.Trap, m *message, s *futago.IntakeSettings) (futago.Trap, futago.Key) {
	o := d.table(s).open(t.Raw, m)
	p, err := parsePDU(o.pdu)
	if err == nil && !p.isNotification() {
		err = fmt.Errorf("%s is no notification", tagName(p.tag))
	}
	if o.fault != faultNone {
		d.refused.Add(1)
		t.Problem = o.reason
		t.Message = fmt.Sprintf("SNMPv3 message not accepted: %s (engine %x, %s)", o.reason, m.engineID, m.level())
		if err != nil { // encrypted, or broken
			return *t, futago.NewKey(t.Kind, t.Source.Addr(), []byte{versionV3, keyRefused}, m.user, t.Raw)
		}
		return *t, futago.NewKey(t.Kind, t.Source.Addr(), identity([][]byte{{versionV3, keyRefused}, m.user, o.contextName}, &p)...)
	}
	if err != nil {
		return d.notParsed(t, m, err.Error())
	}
	f := &futago.SNMPFields{
		Version: versionName(versionV3), User: o.user.name, SecurityLevel: m.level(),
		EngineID: hex.EncodeToString(m.engineID), ContextName: string(bytes.ToValidUTF8(o.contextName, []byte("\ufffd"))),
	}
	var problems []string
	if o.inClear {
		problems = append(problems, fmt.Sprintf("not encrypted, though user %q is set up for authPriv", o.user.name))
	}
	d.fill(t, f, m, &p, s, problems)
	parts := [][]byte{{versionV3}, m.user, o.contextName}
	if p.tag != tagInform {
		// An inform has the receiver's engine id here, which differs between managers.
		parts = append(parts, o.contextEngineID)
	}
	return *t, futago.NewKey(t.Kind, t.Source.Addr(), identity(parts, &p)...)
}

// Marks in the first part of a key.
const (
	keyRefused  = 0xfe
	keyUnparsed = 0xff
)

// notParsed completes a trap of which nothing but the bytes is known. Text, as
// somebody's syslog sent to the wrong port, is shown as it is.
func (d *Decoder) notParsed(t *futago.Trap, m *message, problem string) (futago.Trap, futago.Key) {
	d.unparsed.Add(1)
	t.Problem = problem
	if m.version == versionV3 && len(m.user) > 0 {
		t.Problem += fmt.Sprintf(" (user %q)", m.user)
	}
	if printable, _ := isPrintable(t.Raw); printable && len(t.Raw) > 0 {
		t.Message = string(t.Raw)
	} else {
		t.Message = "SNMP message not understood: " + t.Problem
	}
	return *t, futago.NewKey(t.Kind, t.Source.Addr(), []byte{keyUnparsed}, t.Raw)
}

func versionName(v int) string {
	switch v {
	case versionV1:
		return "1"
	case versionV2c:
		return "2c"
	}
	return "3"
}

// identity appends what a PDU says to the parts of a key.
func identity(parts [][]byte, p *pdu) [][]byte {
	if p.tag == tagTrapV1 {
		return append(parts, p.identity, p.varbinds)
	}
	// The bindings between those of sysUpTime, which is normally the first.
	from, at := 0, 0
	for b, err := range bindings(p.varbinds) {
		if err != nil {
			break
		}
		next := at + len(b.raw)
		if bytes.Equal(b.oid, oidSysUpTime) {
			if at > from {
				parts = append(parts, p.varbinds[from:at])
			}
			from = next
		}
		at = next
	}
	return append(parts, p.varbinds[from:])
}

// spans are the places of a name and a value in the message line.
type span struct{ oid, oidEnd, value, valueEnd int }

// fill sets what the PDU says. The line is built first and the text of the
// variable bindings is part of it, so that a trap costs few allocations.
func (d *Decoder) fill(t *futago.Trap, f *futago.SNMPFields, m *message, p *pdu, s *futago.IntakeSettings, problems []string) {
	t.Parsed, t.SNMP = true, f
	if m.trailing > 0 {
		problems = append(problems, fmt.Sprintf("%d bytes follow the message", m.trailing))
	}
	f.Inform = p.tag == tagInform
	if p.tag == tagTrapV1 {
		problems = append(problems, fillV1(f, p)...)
	} else {
		f.RequestID = uint32(p.requestID)
		problems = append(problems, fillV2(f, p)...)
	}
	if a, err := netip.ParseAddr(f.AgentAddress); err == nil && !a.IsUnspecified() {
		t.Host = f.AgentAddress
	}
	t.Severity = severityOf(f.TrapOID)

	var lineBuf [1024]byte
	line := appendTitle(lineBuf[:0], f.TrapOID)
	var spanBuf [16]span
	spans := spanBuf[:0]
	var types [16]string
	typeList := types[:0]
	setting := s.Charset(futago.KindSNMPTrap, t.Source.Addr())
	t.Charset = charset.ASCII
	for b, err := range bindings(p.varbinds) {
		if err != nil {
			problems = append(problems, err.Error())
			break
		}
		if p.tag != tagTrapV1 && (bytes.Equal(b.oid, oidSysUpTime) || bytes.Equal(b.oid, oidSNMPTrapOID)) {
			continue
		}
		if len(spans) == maxVarbinds {
			problems = append(problems, fmt.Sprintf("more than %d variable bindings", maxVarbinds))
			break
		}
		if len(spans) > 0 {
			line = append(line, ',')
		}
		line = append(line, ' ')
		sp := span{oid: len(line)}
		if line, err = appendOID(line, b.oid); err != nil {
			line = appendHex(line, b.oid)
		}
		sp.oidEnd = len(line)
		line = append(line, '=')
		sp.value = len(line)
		var typ, name string
		line, typ, name = appendValue(line, b.tag, b.value, setting)
		sp.valueEnd = len(line)
		if name != "" && (t.Charset == charset.ASCII || name != charset.UTF8) {
			t.Charset = name
		}
		spans = append(spans, sp)
		typeList = append(typeList, typ)
	}
	t.Message = string(line)
	if len(spans) > 0 {
		f.Varbinds = make([]futago.Varbind, len(spans))
		for i, sp := range spans {
			f.Varbinds[i] = futago.Varbind{
				OID: t.Message[sp.oid:sp.oidEnd], Type: typeList[i], Value: t.Message[sp.value:sp.valueEnd],
			}
		}
	}
	t.Problem = strings.Join(problems, "; ")
}

func appendTitle(line []byte, trapOID string) []byte {
	n, ok := trapNames[trapOID]
	switch {
	case ok:
		return append(line, n.name...)
	case trapOID == "":
		return append(line, "notification without a name"...)
	}
	return append(line, trapOID...)
}

// fillV1 maps a version 1 trap to version 2 names (RFC 3584 section 3.1).
func fillV1(f *futago.SNMPFields, p *pdu) (problems []string) {
	var err error
	if f.Enterprise, err = oidString(p.enterprise); err != nil {
		problems = append(problems, "enterprise: "+err.Error())
		f.Enterprise = string(appendHex(nil, p.enterprise))
	}
	if a, ok := netip.AddrFromSlice(p.agent); ok {
		f.AgentAddress = a.String()
	}
	clamp := func(v int64) int { return int(max(math.MinInt32, min(v, math.MaxInt32))) }
	f.Generic, f.Specific, f.Uptime = clamp(p.generic), clamp(p.specific), uint32(p.uptime)
	if p.generic >= 0 && p.generic < genericEnterprise {
		f.TrapOID = standardTraps + string(rune('1'+p.generic))
		return problems
	}
	if p.generic != genericEnterprise {
		problems = append(problems, fmt.Sprintf("generic trap %d is unknown", p.generic))
	}
	f.TrapOID = fmt.Sprintf("%s.0.%d", f.Enterprise, uint32(p.specific))
	return problems
}

// fillV2 takes out of the variable bindings what the trap has fields for.
func fillV2(f *futago.SNMPFields, p *pdu) (problems []string) {
	for b, err := range bindings(p.varbinds) {
		switch {
		case err != nil: // reported by the caller, who reads them too
		case b.tag == tagTimeTicks && bytes.Equal(b.oid, oidSysUpTime):
			if v, err := unsigned(b.value, 4); err == nil {
				f.Uptime = uint32(v)
			}
		case b.tag == tagOID && bytes.Equal(b.oid, oidSNMPTrapOID):
			if f.TrapOID, err = oidString(b.value); err != nil {
				problems = append(problems, "snmpTrapOID.0: "+err.Error())
			}
		case b.tag == tagOID && bytes.Equal(b.oid, oidSNMPTrapEnterprise):
			f.Enterprise, _ = oidString(b.value) // stays in the bindings too
		case b.tag == tagIPAddress && bytes.Equal(b.oid, oidSNMPTrapAddress):
			if a, ok := netip.AddrFromSlice(b.value); ok {
				f.AgentAddress = a.String()
			}
		}
	}
	if f.TrapOID == "" && len(problems) == 0 {
		problems = append(problems, "snmpTrapOID.0 is missing")
	}
	return problems
}
