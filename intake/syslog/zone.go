package syslog

import (
	"strings"
	"sync/atomic"
	"time"
)

// anyZone reads a zone after a time and returns its length: "Z", "+02:00",
// "-0500", "+9", or an abbreviation after a space. Letters count as a zone only
// if they are a known abbreviation, or if Cisco's colon and per cent sign
// follow: a host or program may have such a name.
func (d *date) anyZone(s string) int {
	if s == "" {
		return 0
	}
	if s[0] == 'Z' || s[0] == 'z' {
		if len(s) > 1 && s[1] != ' ' && s[1] != ':' {
			return 0
		}
		d.hasOffset, d.offset = true, 0
		return 1
	}
	if n := d.numericZone(s); n > 0 {
		return n
	}
	if s[0] != ' ' {
		return 0
	}
	if n := d.numericZone(s[1:]); n > 0 {
		return 1 + n
	}
	n := 1
	for n < len(s) && n < 7 && s[n] >= 'A' && s[n] <= 'Z' {
		n++
	}
	if n < 3 && (n != 2 || s[1] != 'Z') || n < len(s) && s[n] != ' ' && s[n] != ':' {
		return 0
	}
	name := s[1:n]
	if offset, ok := abbreviation(name); ok {
		d.zone, d.offset = name, offset
		return n
	}
	if after := s[n:]; strings.HasPrefix(after, ": %") {
		d.zone = name
		return n
	}
	return 0
}

// numericZone reads "+02:00", "+0200" or "+02".
func (d *date) numericZone(s string) int {
	if len(s) < 3 || (s[0] != '+' && s[0] != '-') {
		return 0
	}
	var h, m, n int
	switch k := digits(s, 1); {
	case k == 4:
		h, m, n = number(s[1:3]), number(s[3:5]), 5
	case k == 2 && len(s) >= 6 && s[3] == ':' && digits(s, 4) == 2:
		h, m, n = number(s[1:3]), number(s[4:6]), 6
	case k == 2:
		h, n = number(s[1:3]), 3
	default:
		return 0
	}
	if n < len(s) && s[n] != ' ' && s[n] != ':' {
		return 0
	}
	d.hasOffset = true
	d.offset = h*3600 + m*60
	if s[0] == '-' {
		d.offset = -d.offset
	}
	if m > 59 {
		d.offset = 1 << 20 // out of range, see check
	}
	return n
}

// abbreviation returns the offset from UTC, in seconds, of an abbreviation of a
// time zone. Of those with several meanings the one with the most devices
// stands here; the configured zone goes before it.
func abbreviation(name string) (seconds int, ok bool) {
	const h = 3600
	switch name {
	case "Z", "UTC", "GMT", "UCT", "WET":
		return 0, true
	case "BST", "CET", "MEZ", "WEST":
		return h, true
	case "CEST", "MESZ", "EET", "SAST", "CAT":
		return 2 * h, true
	case "EEST", "MSK", "TRT", "EAT":
		return 3 * h, true
	case "GST":
		return 4 * h, true
	case "PKT":
		return 5 * h, true
	case "IST":
		return 5*h + h/2, true
	case "ICT", "WIB":
		return 7 * h, true
	case "HKT", "SGT", "AWST", "PHT", "MYT":
		return 8 * h, true
	case "JST", "KST":
		return 9 * h, true
	case "ACST":
		return 9*h + h/2, true
	case "AEST":
		return 10 * h, true
	case "ACDT":
		return 10*h + h/2, true
	case "AEDT":
		return 11 * h, true
	case "NZST":
		return 12 * h, true
	case "NZDT":
		return 13 * h, true
	case "NST":
		return -3*h - h/2, true
	case "NDT":
		return -2*h - h/2, true
	case "BRT", "ART", "ADT":
		return -3 * h, true
	case "AST", "EDT":
		return -4 * h, true
	case "EST", "CDT":
		return -5 * h, true
	case "CST", "MDT":
		return -6 * h, true
	case "MST", "PDT":
		return -7 * h, true
	case "PST", "AKDT":
		return -8 * h, true
	case "AKST":
		return -9 * h, true
	case "HST":
		return -10 * h, true
	}
	return 0, false
}

// location is a time zone with its name.
type location struct {
	name string
	loc  *time.Location
	err  error
}

// lastLocation remembers the zone that was looked up last, as there is but one
// setting and reading a zone's rules means reading a file.
var lastLocation atomic.Pointer[location]

func loadLocation(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	l := lastLocation.Load()
	if l == nil || l.name != name {
		loc, err := time.LoadLocation(name)
		if err != nil {
			loc = time.UTC
		}
		l = &location{name, loc, err}
		lastLocation.Store(l)
	}
	return l.loc, l.err
}

// resolve turns d into an instant, in UTC. A year that is missing is the one
// that brings the date closest to the arrival (nanoseconds since 1970), a zone
// that is missing is the one of the settings. The problem says what was wrong;
// the time is zero when nothing can be made of d.
func (d *date) resolve(arrival int64, zone string) (t time.Time, problem string) {
	if !d.valid {
		return time.Time{}, "time stamp is no date"
	}
	if d.isEpoch {
		return time.Unix(d.epoch, int64(d.nano)).UTC(), ""
	}
	loc := time.UTC
	if !d.hasOffset {
		var err error
		if loc, err = loadLocation(zone); err != nil {
			problem = "the configured time zone is unknown; UTC taken"
		}
	}
	if d.year != 0 {
		t, zp := d.in(d.year, loc)
		return t, joinProblems(problem, zp)
	}
	at := time.Unix(0, arrival)
	year := at.UTC().Year()
	var best time.Duration
	zoneProblem := ""
	for y := year - 1; y <= year+1; y++ {
		if d.day > daysIn(y, d.month) {
			continue // 29 February
		}
		c, zp := d.in(y, loc)
		if off := c.Sub(at).Abs(); t.IsZero() || off < best {
			t, best, zoneProblem = c, off, zp
		}
	}
	if t.IsZero() {
		return t, "time stamp is a 29 February that no near year has"
	}
	return t, joinProblems(problem, zoneProblem)
}

func joinProblems(a, b string) string {
	if a != "" && b != "" {
		return a + "; " + b
	}
	return a + b
}

// in returns the instant in the given year.
func (d *date) in(year int, loc *time.Location) (time.Time, string) {
	local := time.Date(year, time.Month(d.month), d.day, d.hour, d.minute, d.second, d.nano, time.UTC)
	if d.hasOffset {
		return local.Add(-time.Duration(d.offset) * time.Second), ""
	}
	t := time.Date(year, time.Month(d.month), d.day, d.hour, d.minute, d.second, d.nano, loc)
	if d.zone == "" {
		return t.UTC(), ""
	}
	// The configured zone knows what its own abbreviations mean.
	if name, _ := t.Zone(); name == d.zone {
		return t.UTC(), ""
	}
	if offset, ok := abbreviation(d.zone); ok {
		return local.Add(-time.Duration(offset) * time.Second), ""
	}
	return t.UTC(), "time zone " + d.zone + " is unknown; the configured one taken"
}
