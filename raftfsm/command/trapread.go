package command

import (
	"net/netip"
	"time"

	"github.com/futago/futago"
)

type trapReader struct {
	reader
	raw  string
	last int // where the last part of raw ended
	all  string
}

// DecodeTrap is the inverse of AppendTrap. Raw refers to b. It fails with
// CodeIncompatible for a form of a later version, and with CodeCorrupt.
func DecodeTrap(b []byte) (futago.Trap, error) {
	var t futago.Trap
	if len(b) == 0 {
		return t, corrupt("a stored trap is empty")
	}
	if b[0] != trapVersion {
		return t, futago.Errorf(futago.CodeIncompatible, "a trap is stored in form %d, and this version of Futago reads form %d", b[0], trapVersion).
			WithAction("install the version of Futago that the other manager runs")
	}
	r := trapReader{reader: reader{b: b, pos: 1}, all: string(b)}
	flags := r.byte()
	t.Kind = futago.Kind(r.byte())
	t.Transport = futago.Transport(r.byte())
	t.Severity = futago.Severity(r.byte())
	t.Parsed = flags&flagParsed != 0
	t.Truncated = flags&flagTruncated != 0
	addr := r.addr()
	port := r.bytes(2)
	if flags&flagZone != 0 {
		addr = addr.WithZone(r.string())
	}
	if port != nil {
		t.Source = netip.AddrPortFrom(addr, uint16(port[0])|uint16(port[1])<<8)
	}
	n := r.uvarint()
	from := r.pos
	if raw := r.bytes(n); len(raw) > 0 {
		t.Raw = raw
		r.raw = r.all[from:r.pos]
	}
	t.Charset = r.string()
	t.Problem = r.string()
	if flags&flagSyslog != 0 {
		t.Syslog = &futago.SyslogFields{}
		r.syslogHeader(t.Syslog)
	}
	t.Host = r.string()
	if t.Syslog != nil {
		r.syslogBody(t.Syslog)
	}
	if flags&flagSNMP != 0 {
		t.SNMP = &futago.SNMPFields{}
		r.snmp(t.SNMP)
	}
	if flags&flagCustom != 0 {
		t.Custom = &futago.CustomFields{}
		r.custom(t.Custom)
	}
	if flags&flagOwn != 0 {
		t.Own = &futago.InternalField{Member: futago.MemberID(r.string()), Topic: r.string()}
	}
	if t.SNMP != nil || t.Custom != nil {
		r.last = 0
	}
	t.Message = r.string()
	if r.bad || r.left() != 0 || flags&(1<<7) != 0 {
		return futago.Trap{}, corrupt("a stored trap cannot be read (near byte %d of %d)", r.pos, len(b))
	}
	return t, nil
}

func (r *trapReader) string() string {
	n := r.uvarint()
	size := n >> 2
	switch n & 3 {
	case modeLiteral:
		from := r.pos
		if r.bytes(size); !r.bad {
			return r.all[from:r.pos]
		}
	case modePart:
		d := r.uvarint()
		room := uint64(len(r.raw) - r.last)
		if !r.bad && d <= room && size <= room-d {
			from := r.last + int(d)
			r.last = from + int(size)
			return r.raw[from:r.last]
		}
	case modeWord:
		if size < uint64(len(words)) {
			return words[size]
		}
	}
	r.bad = true
	return ""
}

func (r *trapReader) time() time.Time {
	n := r.uvarint()
	if n == 0 {
		return time.Time{}
	}
	if n > 1e9 {
		r.bad = true
	}
	return time.Unix(r.varint(), int64(n-1)).UTC()
}

func (r *trapReader) bool() bool {
	c := r.byte()
	if c > 1 {
		r.bad = true
	}
	return c == 1
}

func (r *trapReader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(v)
}

func (r *trapReader) syslogHeader(s *futago.SyslogFields) {
	s.Format = r.string()
	s.Facility = r.byte()
	s.HasPRI = r.bool()
	s.Sequence = r.string()
	s.Time = r.string()
	s.Timestamp = r.time()
}

func (r *trapReader) syslogBody(s *futago.SyslogFields) {
	s.App = r.string()
	s.ProcID = r.string()
	s.MsgID = r.string()
	if n := r.count(2); n > 0 {
		s.StructuredData = make([]futago.SDElement, n)
	}
	for i := range s.StructuredData {
		e := &s.StructuredData[i]
		e.ID = r.string()
		if n := r.count(2); n > 0 {
			e.Params = make([]futago.SDParam, n)
		}
		for j := range e.Params {
			e.Params[j] = futago.SDParam{Name: r.string(), Value: r.string()}
		}
	}
}

func (r *trapReader) snmp(s *futago.SNMPFields) {
	s.Version = r.string()
	s.Inform = r.bool()
	s.Community = r.string()
	s.User = r.string()
	s.SecurityLevel = r.string()
	s.EngineID = r.string()
	s.ContextName = r.string()
	s.RequestID = r.uint32()
	s.TrapOID = r.string()
	s.Enterprise = r.string()
	s.Generic = int(r.varint())
	s.Specific = int(r.varint())
	s.AgentAddress = r.string()
	s.Uptime = r.uint32()
	if n := r.count(3); n > 0 {
		s.Varbinds = make([]futago.Varbind, n)
	}
	for i := range s.Varbinds {
		s.Varbinds[i] = futago.Varbind{OID: r.string(), Type: r.string(), Value: r.string()}
	}
}

func (r *trapReader) custom(c *futago.CustomFields) {
	c.FacilityID = r.string()
	c.Date = r.string()
	c.Timestamp = r.time()
	c.Type = r.string()
	c.Key = r.string()
	c.Msg = r.string()
}
