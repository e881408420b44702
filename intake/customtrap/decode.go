package customtrap

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/futago/futago"
	"github.com/futago/futago/intake/charset"
)

// Decoder decodes the records that [Server] makes. The zero Decoder is ready;
// its methods may be called from any goroutine.
type Decoder struct {
	zones zoneCache
}

// Decode is [Decoder.Decode] without memory of the zone.
func Decode(r *futago.Received, s *futago.IntakeSettings) (futago.Trap, futago.Key) {
	var d Decoder
	return d.Decode(r, s)
}

// Decode reads a record. It never fails: what is no custom trap of one element
// comes back with Parsed false. The severity is notice: a custom trap has none
// of its own, and what its value means is for the operator's rules. The key is
// made of the record as it is, so facility, date and all members are in it.
func (d *Decoder) Decode(r *futago.Received, s *futago.IntakeSettings) (futago.Trap, futago.Key) {
	t := futago.Trap{
		Kind: futago.KindCustomTrap, Transport: r.Transport, Source: r.Source,
		Severity: futago.SeverityNotice, Truncated: r.Truncated, Raw: r.Raw,
	}
	key := futago.NewKey(t.Kind, t.Source.Addr(), r.Raw)
	loc, zoneProblem := d.zones.location(s.TimeZone)
	b, err := parseBody(r.Raw, loc)
	if err == nil && len(b.elements) != 1 {
		err = fmt.Errorf("%d elements in a record of one", len(b.elements))
	}
	if err != nil {
		t.Problem = err.Error()
		t.Message, t.Charset = charset.Decode(r.Raw, s.Charset(t.Kind, t.Source.Addr()))
		return t, key
	}
	e := &b.elements[0]
	t.Parsed = true
	if !e.at.IsZero() && !hasZone(e.date) {
		t.Problem = zoneProblem
	}
	t.Message = e.key + "=" + e.msg
	t.Charset = charset.ASCII
	if strings.ContainsFunc(t.Message, func(c rune) bool { return c >= utf8.RuneSelf }) {
		t.Charset = charset.UTF8
	}
	t.Custom = &futago.CustomFields{
		FacilityID: b.facility, Date: e.date, Timestamp: e.at, Type: e.typ, Key: e.key, Msg: e.msg,
	}
	return t, key
}

// hasZone reports whether a date that could be read names its zone.
func hasZone(date string) bool {
	a, _ := parseDate(date, time.UTC)
	b, _ := parseDate(date, time.FixedZone("", 3600))
	return a.Equal(b)
}
