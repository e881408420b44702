package futago

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DedupMode chooses the same-trap judgement.
type DedupMode string

// The modes.
const (
	// ModeExact pairs the n-th copy seen by one manager with the n-th seen by
	// the other, so that true repeats are kept.
	ModeExact DedupMode = "exact"
	// ModeWindow takes a copy within Window of a forwarded one for a duplicate.
	ModeWindow DedupMode = "window"
)

// Duration is a [time.Duration] that reads and writes as text ("30s") in JSON
// and TOML.
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return Errorf(CodeInvalid, "%q is no duration", b).WithAction("write it like 500ms, 30s or 10m")
	}
	*d = Duration(v)
	return nil
}

// D returns d as a [time.Duration].
func (d Duration) D() time.Duration { return time.Duration(d) }

// DedupRule is how copies of one kind, from one source, are judged.
type DedupRule struct {
	Mode DedupMode `json:"mode"`
	// Window: in window mode, a copy that arrived less than this before or
	// after a forwarded one is a duplicate. 1s to 24h, default 30s.
	Window Duration `json:"window"`
	// PairWithin: in exact mode, two managers' copies of one occurrence arrive
	// at most this far apart. 100ms to 24h, default 30s.
	PairWithin Duration `json:"pair_within"`
	// Fold: in exact mode, true repeats within this time of an event's first
	// copy raise its count and make no new event. 0 to 1h, default 1s.
	Fold Duration `json:"fold"`
}

// DefaultDedupRule is exact mode with the defaults named at DedupRule. The
// window of 30 s is that of the Hinemos Mission Critical option.
func DefaultDedupRule() DedupRule {
	return DedupRule{
		Mode: ModeExact, Window: Duration(30 * time.Second),
		PairWithin: Duration(30 * time.Second), Fold: Duration(time.Second),
	}
}

// Span is how far apart in time two copies may be and still concern each
// other under this rule.
func (r DedupRule) Span() time.Duration {
	if r.Mode == ModeWindow {
		return r.Window.D()
	}
	return max(r.PairWithin.D(), r.Fold.D())
}

// Validate names the first wrong field.
func (r DedupRule) Validate() error {
	switch {
	case r.Mode != ModeExact && r.Mode != ModeWindow:
		return Errorf(CodeInvalid, "mode %q is unknown", r.Mode).WithAction("use exact or window")
	case r.Window.D() < time.Second || r.Window.D() > 24*time.Hour:
		return Errorf(CodeInvalid, "window %s is out of range", r.Window.D()).WithAction("use 1s to 24h")
	case r.PairWithin.D() < 100*time.Millisecond || r.PairWithin.D() > 24*time.Hour:
		return Errorf(CodeInvalid, "pair_within %s is out of range", r.PairWithin.D()).WithAction("use 100ms to 24h")
	case r.Fold.D() < 0 || r.Fold.D() > time.Hour:
		return Errorf(CodeInvalid, "fold %s is out of range", r.Fold.D()).WithAction("use 0s to 1h")
	}
	return nil
}

// Secret is text that is never shown in the clear: in JSON and in print it
// appears masked, unless it is sealed, for sealed text is of no use to a reader
// without the cluster's key (package cluster seals and opens). The log and the
// database therefore only ever hold sealed secrets.
type Secret string

// Masked is what a Secret shows instead of itself.
const Masked = "********"

// SealedPrefix marks a secret that is encrypted under the cluster's key.
const SealedPrefix = "sealed:"

// Sealed reports whether the text is encrypted.
func (s Secret) Sealed() bool { return strings.HasPrefix(string(s), SealedPrefix) }

// MarshalJSON implements [json.Marshaler]: sealed text as it is, other text masked.
func (s Secret) MarshalJSON() ([]byte, error) {
	if s == "" || s.Sealed() {
		return json.Marshal(string(s))
	}
	return json.Marshal(Masked)
}

// String implements [fmt.Stringer].
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Masked
}

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// SourceRule holds settings for senders in a prefix.
type SourceRule struct {
	// Source is an address prefix; a single address is a prefix of full length.
	Source netip.Prefix `json:"source"`
	// Kinds limits the rule to these kinds; empty means all.
	Kinds []Kind `json:"kinds,omitempty"`
	// Charset of messages that are no valid UTF-8: "" detects; else
	// "shift_jis", "euc-jp" or "iso-8859-1".
	Charset string `json:"charset,omitempty"`
	// Dedup replaces the rule of the kind when set.
	Dedup *DedupRule `json:"dedup,omitempty"`
}

// Matches reports whether the rule applies to a sender.
func (r SourceRule) Matches(k Kind, a netip.Addr) bool {
	if !r.Source.Contains(a.Unmap()) {
		return false
	}
	return len(r.Kinds) == 0 || slices.Contains(r.Kinds, k)
}

// SNMPUser is a user of SNMP version 3 (RFC 3414, 3826, 7860).
type SNMPUser struct {
	Name string `json:"name"`
	// Auth is "", "MD5", "SHA", "SHA-224", "SHA-256", "SHA-384" or "SHA-512".
	Auth     string `json:"auth,omitempty"`
	AuthPass Secret `json:"auth_pass,omitempty"`
	// Priv is "", "DES", "AES", "AES-192", "AES-256", "AES-192-C" or
	// "AES-256-C" (the C forms extend keys as Cisco devices do).
	Priv     string `json:"priv,omitempty"`
	PrivPass Secret `json:"priv_pass,omitempty"`
}

// IntakeSettings are the replicated settings of trap intake. Both managers
// judge by those in the log, so a change takes effect at one index everywhere.
type IntakeSettings struct {
	// Revision rises by one with each change; a change names the revision
	// that it was made from.
	Revision uint64 `json:"revision"`
	// Dedup holds a rule for each kind; a missing kind has the default rule.
	Dedup map[Kind]DedupRule `json:"dedup"`
	// Sources are tried in order; the first match wins.
	Sources []SourceRule `json:"sources,omitempty"`
	// Communities lists the accepted SNMP communities; empty accepts all.
	// Traps with another one are recorded and marked.
	Communities []string   `json:"communities,omitempty"`
	SNMPUsers   []SNMPUser `json:"snmp_users,omitempty"`
	// CustomTrapTokens are SHA-256 hashes (hexadecimal) of the bearer tokens
	// that custom traps must carry; empty asks for none.
	CustomTrapTokens []string `json:"custom_trap_tokens,omitempty"`
	// TimeZone is the IANA zone of dates without one; "" is UTC.
	TimeZone string `json:"time_zone,omitempty"`
}

// Rule returns the de-duplication rule for a sender.
func (s *IntakeSettings) Rule(k Kind, a netip.Addr) DedupRule {
	for i := range s.Sources {
		if s.Sources[i].Dedup != nil && s.Sources[i].Matches(k, a) {
			return *s.Sources[i].Dedup
		}
	}
	if r, ok := s.Dedup[k]; ok {
		return r
	}
	return DefaultDedupRule()
}

// Charset returns the configured character set for a sender, "" to detect.
func (s *IntakeSettings) Charset(k Kind, a netip.Addr) string {
	for i := range s.Sources {
		if s.Sources[i].Charset != "" && s.Sources[i].Matches(k, a) {
			return s.Sources[i].Charset
		}
	}
	return ""
}

// snmpAuth and snmpPriv are the protocols that the SNMP decoder knows.
var (
	snmpAuth = []string{"", "MD5", "SHA", "SHA-224", "SHA-256", "SHA-384", "SHA-512"}
	snmpPriv = []string{"", "DES", "AES", "AES-192", "AES-256", "AES-192-C", "AES-256-C"}
	charsets = []string{"", "shift_jis", "euc-jp", "iso-8859-1", "iso-2022-jp"}
)

// Validate names the first wrong field.
func (s *IntakeSettings) Validate() error {
	for k, r := range s.Dedup {
		if k < KindSyslog || k > KindCustomTrap {
			return Errorf(CodeInvalid, "dedup names kind %s", k).WithAction("use syslog, snmptrap or customtrap")
		}
		if err := r.Validate(); err != nil {
			return fmt.Errorf("dedup of %s: %w", k, err)
		}
	}
	for i, r := range s.Sources {
		if !r.Source.IsValid() {
			return Errorf(CodeInvalid, "sources[%d] has no address prefix", i).WithAction(`write it like "192.0.2.0/24"`)
		}
		if !slices.Contains(charsets, r.Charset) {
			return Errorf(CodeInvalid, "sources[%d]: charset %q is unknown", i, r.Charset).WithAction("use one of %q", charsets[1:])
		}
		if r.Dedup != nil {
			if err := r.Dedup.Validate(); err != nil {
				return fmt.Errorf("sources[%d]: %w", i, err)
			}
		}
	}
	names := map[string]bool{}
	for i, u := range s.SNMPUsers {
		switch {
		case u.Name == "" || len(u.Name) > 32: // RFC 3414 section 2.4
			return Errorf(CodeInvalid, "snmp_users[%d]: the name has %d bytes", i, len(u.Name)).WithAction("use 1 to 32")
		case names[u.Name]:
			return Errorf(CodeInvalid, "snmp_users[%d]: user %q stands twice", i, u.Name)
		case !slices.Contains(snmpAuth, u.Auth):
			return Errorf(CodeInvalid, "snmp_users[%d]: auth %q is unknown", i, u.Auth).WithAction("use one of %q", snmpAuth[1:])
		case !slices.Contains(snmpPriv, u.Priv):
			return Errorf(CodeInvalid, "snmp_users[%d]: priv %q is unknown", i, u.Priv).WithAction("use one of %q", snmpPriv[1:])
		case u.Priv != "" && u.Auth == "":
			return Errorf(CodeInvalid, "snmp_users[%d]: priv without auth", i).WithAction("RFC 3414 knows no such level; set auth")
		case u.Auth != "" && shortPass(u.AuthPass), u.Priv != "" && shortPass(u.PrivPass):
			return Errorf(CodeInvalid, "snmp_users[%d]: a passphrase is shorter than 8 characters", i).WithAction("RFC 3414 section 11.2 asks for 8 or more")
		}
		names[u.Name] = true
	}
	for i, h := range s.CustomTrapTokens {
		if b, err := hex.DecodeString(h); err != nil || len(b) != 32 {
			return Errorf(CodeInvalid, "custom_trap_tokens[%d] is no SHA-256 in hexadecimal", i).
				WithAction("printf %%s TOKEN | sha256sum")
		}
	}
	if _, err := time.LoadLocation(s.TimeZone); err != nil {
		return Errorf(CodeInvalid, "time_zone %q is unknown", s.TimeZone).WithAction(`use an IANA name like "Asia/Tokyo"`)
	}
	return nil
}

// shortPass can judge plain text only; sealed and masked ones were judged before.
func shortPass(s Secret) bool {
	return !s.Sealed() && s.Reveal() != Masked && len(s) < 8
}
