package command

import (
	"bytes"
	"encoding/binary"
	"time"
	"unsafe"

	"github.com/futago/futago"
)

// trapVersion is the first byte of an encoded trap. A change of the form takes
// the next number and keeps the reader of the old one: the database holds
// traps of every version that ever wrote to it.
const trapVersion = 1

// Flags of an encoded trap.
const (
	flagParsed = 1 << iota
	flagTruncated
	flagSyslog
	flagSNMP
	flagCustom
	flagOwn
	flagZone
)

// A string is coded as one number n, whose two low bits say how:
//
//	literal    n>>2 bytes follow
//	part       n>>2 is the length; the distance follows, counted from the end of
//	           the part before it to the start of this one in Raw
//	word       n>>2 is an index into words
//
// Most fields of a message are parts of it, so a trap takes little more room
// than its raw bytes.
const (
	modeLiteral = 0
	modePart    = 1
	modeWord    = 2
)

// minPart is the length from which looking for a string in Raw pays.
const minPart = 3

// words are strings that fields of a closed set hold. Append only.
var words = [...]string{
	"utf-8", "us-ascii", "shift_jis", "euc-jp", "iso-8859-1",
	"rfc5424", "rfc3164", "bare",
	"1", "2c", "3", "noAuthNoPriv", "authNoPriv", "authPriv",
	"INTEGER", "OCTET STRING", "OBJECT IDENTIFIER", "IpAddress", "Counter32", "Gauge32",
	"TimeTicks", "Opaque", "Counter64", "NULL", "Integer32", "Unsigned32", "BITS",
	"NUM", "STRING",
}

type trapWriter struct {
	b   []byte
	raw []byte
	pos int // where the last part of raw ended
}

func (w *trapWriter) uvarint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }

func (w *trapWriter) literal(s string) {
	w.uvarint(uint64(len(s))<<2 | modeLiteral)
	w.b = append(w.b, s...)
}

// text writes a string that is probably a part of Raw. Fields are written in
// the order in which messages hold them, so that looking from the end of the
// part before finds most of them at once.
func (w *trapWriter) text(s string) {
	if len(s) >= minPart {
		if i := bytes.Index(w.raw[w.pos:], unsafe.Slice(unsafe.StringData(s), len(s))); i >= 0 {
			w.uvarint(uint64(len(s))<<2 | modePart)
			w.uvarint(uint64(i))
			w.pos += i + len(s)
			return
		}
	}
	w.literal(s)
}

// word writes a string of a closed set.
func (w *trapWriter) word(s string) {
	if s != "" {
		for i := range words {
			if words[i] == s {
				w.uvarint(uint64(i)<<2 | modeWord)
				return
			}
		}
	}
	w.literal(s)
}

func (w *trapWriter) time(t time.Time) {
	if t.IsZero() {
		w.b = append(w.b, 0)
		return
	}
	w.uvarint(uint64(t.Nanosecond()) + 1)
	w.b = binary.AppendVarint(w.b, t.Unix())
}

func (w *trapWriter) bool(v bool) {
	if v {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// AppendTrap appends the compact form of a trap to dst. Equal traps have equal
// forms. Times keep their instant and lose their zone.
func AppendTrap(dst []byte, t *futago.Trap) []byte {
	w := trapWriter{b: dst, raw: t.Raw}
	var flags byte
	for _, f := range [...]struct {
		set bool
		bit byte
	}{
		{t.Parsed, flagParsed},
		{t.Truncated, flagTruncated},
		{t.Syslog != nil, flagSyslog},
		{t.SNMP != nil, flagSNMP},
		{t.Custom != nil, flagCustom},
		{t.Own != nil, flagOwn},
		{t.Source.Addr().Zone() != "", flagZone},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	w.b = append(w.b, trapVersion, flags, byte(t.Kind), byte(t.Transport), byte(t.Severity))
	w.b = appendAddr(w.b, t.Source.Addr())
	w.b = binary.LittleEndian.AppendUint16(w.b, t.Source.Port())
	if flags&flagZone != 0 {
		w.literal(t.Source.Addr().Zone())
	}
	w.uvarint(uint64(len(t.Raw)))
	w.b = append(w.b, t.Raw...)
	w.word(t.Charset)
	w.literal(t.Problem)
	if t.Syslog != nil {
		w.syslogHeader(t.Syslog)
	}
	w.text(t.Host)
	if t.Syslog != nil {
		w.syslogBody(t.Syslog)
	}
	if t.SNMP != nil {
		w.snmp(t.SNMP)
	}
	if t.Custom != nil {
		w.custom(t.Custom)
	}
	if t.Own != nil {
		w.literal(string(t.Own.Member))
		w.literal(t.Own.Topic)
	}
	if t.SNMP != nil || t.Custom != nil {
		w.pos = 0 // their messages are put together from what was written above
	}
	w.text(t.Message)
	return w.b
}

func (w *trapWriter) syslogHeader(s *futago.SyslogFields) {
	w.word(s.Format)
	w.b = append(w.b, s.Facility)
	w.bool(s.HasPRI)
	w.text(s.Sequence)
	w.text(s.Time)
	w.time(s.Timestamp)
}

func (w *trapWriter) syslogBody(s *futago.SyslogFields) {
	w.text(s.App)
	w.text(s.ProcID)
	w.text(s.MsgID)
	w.uvarint(uint64(len(s.StructuredData)))
	for i := range s.StructuredData {
		e := &s.StructuredData[i]
		w.text(e.ID)
		w.uvarint(uint64(len(e.Params)))
		for _, p := range e.Params {
			w.text(p.Name)
			w.text(p.Value)
		}
	}
}

func (w *trapWriter) snmp(s *futago.SNMPFields) {
	w.word(s.Version)
	w.bool(s.Inform)
	w.text(s.Community)
	w.text(s.User)
	w.word(s.SecurityLevel)
	w.literal(s.EngineID)
	w.text(s.ContextName)
	w.uvarint(uint64(s.RequestID))
	w.literal(s.TrapOID)
	w.literal(s.Enterprise)
	w.b = binary.AppendVarint(w.b, int64(s.Generic))
	w.b = binary.AppendVarint(w.b, int64(s.Specific))
	w.literal(s.AgentAddress)
	w.uvarint(uint64(s.Uptime))
	w.uvarint(uint64(len(s.Varbinds)))
	for i := range s.Varbinds {
		v := &s.Varbinds[i]
		w.literal(v.OID)
		w.word(v.Type)
		if v.Type == "OCTET STRING" {
			w.text(v.Value) // the only type whose text form stands in the message
		} else {
			w.literal(v.Value)
		}
	}
}

func (w *trapWriter) custom(c *futago.CustomFields) {
	w.text(c.FacilityID)
	w.text(c.Date)
	w.time(c.Timestamp)
	w.word(c.Type)
	w.text(c.Key)
	w.text(c.Msg)
}
