package futago

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"
)

// Kind is the sort of a trap. Numbers are stored and never reused.
type Kind uint8

// The kinds of traps. Internal ones are Futago's own reports (a spool that
// overflowed, say): they are proposed by a manager and never de-duplicated.
const (
	KindSyslog     Kind = 1
	KindSNMPTrap   Kind = 2
	KindCustomTrap Kind = 3
	KindInternal   Kind = 4
)

var kindNames = map[Kind]string{
	KindSyslog: "syslog", KindSNMPTrap: "snmptrap", KindCustomTrap: "customtrap", KindInternal: "internal",
}

// String returns the name used in the API and on the command line.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind is the inverse of [Kind.String].
func ParseKind(s string) (Kind, error) {
	for k, n := range kindNames {
		if n == s {
			return k, nil
		}
	}
	return 0, Errorf(CodeInvalid, "unknown kind %q", s).WithAction("use syslog, snmptrap, customtrap or internal")
}

// MarshalText implements [encoding.TextMarshaler].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Kind) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKind(string(b))
	return err
}

// Transport is how a trap came in. Numbers are stored and never reused.
type Transport uint8

// The transports.
const (
	TransportUDP      Transport = 1
	TransportTCP      Transport = 2
	TransportTLS      Transport = 3
	TransportHTTP     Transport = 4
	TransportHTTPS    Transport = 5
	TransportInternal Transport = 6
)

var transportNames = [...]string{"unknown", "udp", "tcp", "tls", "http", "https", "internal"}

// String returns the name used in the API.
func (t Transport) String() string {
	if int(t) < len(transportNames) {
		return transportNames[t]
	}
	return transportNames[0]
}

// MarshalText implements [encoding.TextMarshaler].
func (t Transport) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (t *Transport) UnmarshalText(b []byte) error {
	for i, n := range transportNames {
		if i > 0 && n == string(b) {
			*t = Transport(i)
			return nil
		}
	}
	return Errorf(CodeInvalid, "unknown transport %q", b)
}

// Severity is the syslog scale (RFC 5424 table 2): 0 emergency to 7 debug.
// SNMP and custom traps are mapped to it by their decoders.
type Severity uint8

// The severities.
const (
	SeverityEmergency Severity = iota
	SeverityAlert
	SeverityCritical
	SeverityError
	SeverityWarning
	SeverityNotice
	SeverityInfo
	SeverityDebug
)

var severityNames = [...]string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

// String returns the syslog keyword.
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// ParseSeverity is the inverse of [Severity.String].
func ParseSeverity(s string) (Severity, error) {
	for i, n := range severityNames {
		if n == s {
			return Severity(i), nil
		}
	}
	return 0, Errorf(CodeInvalid, "unknown severity %q", s).
		WithAction("use one of emerg, alert, crit, err, warning, notice, info, debug")
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSeverity(string(b))
	return err
}

// Key identifies "the same trap": the first 128 bits of a SHA-256 over kind,
// source and message bytes as received, before any character conversion, so
// that two managers with settings of different age still agree. A keyed or
// cheaper hash would do for spread; a cryptographic one also keeps a sender
// from forging a copy that hides somebody else's trap.
type Key [16]byte

// String returns the key in hexadecimal.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Key) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(k[:], b); err != nil || n != len(k) {
		return Errorf(CodeInvalid, "%q is no key", b).WithAction("write 32 hexadecimal digits")
	}
	return nil
}

// Received is a trap as it arrived, before any decoding: what a receiver puts
// into the spool.
type Received struct {
	// Seq numbers the records of one spool from 1 without gaps. The spool sets it.
	Seq uint64
	// At is the time of arrival on the manager's clock in nanoseconds since
	// 1970: the kernel's time stamp for datagrams, the time of reading for
	// streams. A frozen process therefore does not shift it.
	At        int64
	Kind      Kind
	Transport Transport
	Source    netip.AddrPort
	// Raw is the message as received. For streams: one frame. For custom
	// traps: the request body.
	Raw []byte
	// Truncated says that the sender's message was longer than the receiver's limit.
	Truncated bool
}

// Trap is one decoded trap: what a log entry carries and an event shows.
// Exactly one of Syslog, SNMP and Custom is set when Parsed; none otherwise.
type Trap struct {
	Kind      Kind           `json:"kind"`
	Transport Transport      `json:"transport"`
	Source    netip.AddrPort `json:"source"`
	// Severity is that of the message, or the decoder's mapping.
	Severity Severity `json:"severity"`
	// Parsed is false when nothing more than Raw could be made of the message.
	Parsed bool `json:"parsed"`
	// Problem names what was wrong with the message, "" when nothing was.
	Problem   string `json:"problem,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
	// Charset is the character set that Message was converted from: "utf-8",
	// "shift_jis", "euc-jp", "iso-8859-1" or "us-ascii".
	Charset string `json:"charset,omitempty"`
	// Host is the sender as the message itself names it, or "".
	Host string `json:"host,omitempty"`
	// Message is the line that operators see: valid UTF-8, control characters kept.
	Message string         `json:"message"`
	Raw     []byte         `json:"raw"`
	Syslog  *SyslogFields  `json:"syslog,omitempty"`
	SNMP    *SNMPFields    `json:"snmp,omitempty"`
	Custom  *CustomFields  `json:"custom,omitempty"`
	Own     *InternalField `json:"internal,omitempty"`
}

// SyslogFields are the parts of a syslog message (RFC 3164, RFC 5424).
type SyslogFields struct {
	// Format is "rfc5424", "rfc3164" or "bare" (no recognised header).
	Format string `json:"format"`
	// Facility is 0 to 23, or 1 (user) with HasPRI false.
	Facility uint8 `json:"facility"`
	HasPRI   bool  `json:"has_pri"`
	// Time is the message's own time stamp as written; Timestamp is what was
	// understood of it, zero when there was none.
	Time      string    `json:"time,omitempty"`
	Timestamp time.Time `json:"timestamp,omitzero"`
	App       string    `json:"app,omitempty"`
	ProcID    string    `json:"procid,omitempty"`
	MsgID     string    `json:"msgid,omitempty"`
	// Sequence is the sequence number that Cisco devices put before the time.
	Sequence       string      `json:"sequence,omitempty"`
	StructuredData []SDElement `json:"structured_data,omitempty"`
}

// SDElement is one element of RFC 5424 structured data, parameters in order.
type SDElement struct {
	ID     string    `json:"id"`
	Params []SDParam `json:"params,omitempty"`
}

// SDParam is one parameter of an SDElement, unescaped.
type SDParam struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// SNMPFields are the parts of an SNMP notification. v1 traps are mapped to
// v2 names by RFC 3584 section 3.1 and keep their own fields beside them.
type SNMPFields struct {
	Version   string `json:"version"` // "1", "2c" or "3"
	Inform    bool   `json:"inform,omitempty"`
	Community string `json:"community,omitempty"`
	User      string `json:"user,omitempty"`
	// SecurityLevel is "noAuthNoPriv", "authNoPriv" or "authPriv" for v3.
	SecurityLevel string    `json:"security_level,omitempty"`
	EngineID      string    `json:"engine_id,omitempty"` // hexadecimal
	ContextName   string    `json:"context_name,omitempty"`
	RequestID     uint32    `json:"request_id,omitempty"`
	TrapOID       string    `json:"trap_oid"`
	Enterprise    string    `json:"enterprise,omitempty"`
	Generic       int       `json:"generic,omitempty"`
	Specific      int       `json:"specific,omitempty"`
	AgentAddress  string    `json:"agent_address,omitempty"`
	Uptime        uint32    `json:"uptime"` // hundredths of a second
	Varbinds      []Varbind `json:"varbinds,omitempty"`
}

// Varbind is one variable binding. Value is the text form of Type: decimal for
// numbers, dotted for OIDs and addresses, text for printable octet strings and
// "0x" hexadecimal for others.
type Varbind struct {
	OID   string `json:"oid"`
	Type  string `json:"type"` // SMI name: "INTEGER", "OCTET STRING", "TimeTicks", …
	Value string `json:"value"`
}

// CustomFields are one element of a custom trap's DATA. A request with several
// elements makes one Received per element.
type CustomFields struct {
	FacilityID string `json:"facility_id,omitempty"`
	Date       string `json:"date,omitempty"` // as written
	// Timestamp is what was understood of Date, zero when there was none.
	Timestamp time.Time `json:"timestamp,omitzero"`
	Type      string    `json:"type"` // "NUM" or "STRING"
	Key       string    `json:"key"`
	Msg       string    `json:"msg"`
}

// InternalField describes one of Futago's own reports.
type InternalField struct {
	Member MemberID `json:"member"`
	Topic  string   `json:"topic"` // for example "spool-overflow"
}
